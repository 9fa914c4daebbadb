"""With the arguments that docs/parity.md prints, each loss is that of public code."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import parity

CASES = [pytest.param(case, id=f"{case.name}, {case.whose}") for case in parity.cases()]


@pytest.fixture(scope="module")
def setting():
    return parity.setting(0, parity.SCALES["smoke"])


@pytest.mark.parametrize("case", CASES)
def test_the_arguments_reproduce_public_code(case, setting):
    with jax.enable_x64(True):
        ratio, cosine = parity.compare(case, setting, case.options(setting))
    if case.arguments == "none":
        assert not np.isclose(ratio, 1, rtol=1e-3)
    else:
        np.testing.assert_allclose([ratio, cosine], 1, rtol=1e-6)


def test_the_steps_between_batches_are_those_of_public_code(setting):
    with jax.enable_x64(True):
        found = parity.updates(setting)
    assert max(found.values()) < 1e-10


def test_the_snippet_of_the_page_runs():
    page = (Path(__file__).parents[2] / "docs" / "parity.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(block, "parity.md", "exec"), {})
