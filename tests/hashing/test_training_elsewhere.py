"""docs/training-elsewhere.md runs as it stands: NNX, Haiku, plain functions, orbax."""

import re
from pathlib import Path

import jax
import pytest

pytest.importorskip("haiku")
pytest.importorskip("orbax.checkpoint")

PAGE = (Path(__file__).parents[2] / "docs" / "training-elsewhere.md").read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_section_runs():
    names: dict = {}
    # Other libraries' networks add an integer to a float where they like; ours are tested under strict promotion.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
            exec(block, names)
    assert {"nnx_state", "haiku_state", "plain_state", "back"} <= {*names}
