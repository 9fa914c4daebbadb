"""Strict harness: rank promotion raises, dtype promotion is strict, Hypothesis has no deadline."""

import os

import hypothesis
import jax
import jaxtyping
import pytest

CACHE = os.environ.get("JCBIR_TEST_CACHE", os.path.join(os.path.dirname(__file__), os.pardir, ".jax_cache"))

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# A compile costs seconds; the cache makes the second run of the suite a fraction of the first.
jax.config.update("jax_compilation_cache_dir", os.path.abspath(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

# A JAX compile inside an example would trip any deadline.
_SLOW = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
hypothesis.settings.register_profile("dev", deadline=None, max_examples=30, suppress_health_check=_SLOW)
hypothesis.settings.register_profile(
    "ci", deadline=None, max_examples=30, derandomize=True, suppress_health_check=_SLOW, print_blob=True
)
hypothesis.settings.register_profile(
    "nightly", deadline=None, max_examples=100_000, suppress_health_check=_SLOW, print_blob=True
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


@pytest.fixture
def unchecked():
    """Switch the shape checks of the test harness off, so that a bad input meets the library's own error."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
