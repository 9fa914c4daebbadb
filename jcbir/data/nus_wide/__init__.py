"""NUS-WIDE as a tensorflow-datasets builder: `nus_wide_dataset_builder.Builder`, `all` or `top21` concepts."""
