"""Strict harness: rank promotion raises, dtype promotion is strict, Hypothesis has no deadline."""

import contextlib
import functools
import importlib.util
import io
import json
import os
import pathlib
import re
import signal
import tempfile

import hypothesis
import jax
import jaxtyping
import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent
# What is there to be read, beside what is there to test.
EXAMPLES = ROOT / "jcbir", ROOT / "tests" / "test_docs.py"
CACHE = os.environ.get("JCBIR_TEST_CACHE", str(ROOT / ".jax_cache"))

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# A compile costs seconds; the cache makes the second run of the suite a fraction of the first, and lets the workers of
# one run share what they compile.
jax.config.update("jax_compilation_cache_dir", os.path.abspath(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

# Ctrl-C is tested on programs, and who starts tests in the background ignores it, as their children would.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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


@pytest.fixture(scope="module", autouse=True)
def programs(request):
    """Forget each file's compiled programs after it: thousands of them would fill gigabytes.

    What examples show is told by a program as it is written; XLA spends half of its time on making it faster.
    """
    jax.config.update("jax_disable_most_optimizations", any(map(request.path.is_relative_to, EXAMPLES)))
    yield
    jax.clear_caches()


@pytest.fixture
def unchecked():
    """Switch the shape checks of the test harness off, so that a bad input meets the library's own error."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _can_run(block: str) -> bool:
    """ "# Needs ..." says what a reader must have first: where it is a package, the block runs if that is installed.

    "# Goes ..." says where lines belong that are no program.
    """
    if package := re.match(r"# Needs (\w+): pip install ", block):
        return importlib.util.find_spec(package[1]) is not None
    return not block.startswith(("# Needs ", "# Goes "))


@functools.cache
def _run_page(name: str) -> dict:
    """The names a page of docs/ leaves, and what it printed as `printed`; run in one scope, once a session."""
    text = (ROOT / "docs" / name).read_text()
    if name.endswith(".ipynb"):
        blocks = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    else:
        blocks = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    scope: dict = {"blocks": blocks}
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()) as out,
        # As a reader has it, not as the harness.
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        for number, kind in enumerate(("beach", "snow") * 4):
            path = pathlib.Path("holiday", kind, f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((24, 32, 3), 30 * number, np.uint8)).save(path)
        for block in blocks:
            if _can_run(block):
                exec(compile(block, name, "exec"), scope)
    return {**scope, "printed": out.getvalue()}


@pytest.fixture
def run_page():
    """Run a page of docs/ as its reader would: `run_page(name)` gives its names. The table of schemes stays."""
    from jcbir.ranking import SCHEMES

    before = dict(SCHEMES)
    yield _run_page
    SCHEMES.clear()
    SCHEMES.update(before)
