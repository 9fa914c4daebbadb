"""Strict harness: rank promotion raises, dtype promotion is strict, Hypothesis has no deadline."""

import contextlib
import ctypes
import functools
import gc
import importlib.util
import inspect
import io
import json
import os
import pathlib
import re
import signal
import sys
import tempfile
import threading
import typing

import beartype
import hypothesis
import jax
import jaxtyping
import numpy as np
import pytest
from jax._src import compiler
from jax._src.interpreters import mlir
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent
# What must be exact is compiled as users compile it.
EXACT = [
    *(ROOT / "tests" / name for name in ("cipher/test_cipher_golden.py", "codes", "paillier")),
    *(ROOT / "tests" / "lattice" / f"test_lattice_{name}.py" for name in ("oracle", "ring", "search")),
]
CACHE = os.path.abspath(os.environ.get("JCBIR_TEST_CACHE", ROOT / ".jax_cache"))
ROOM = 400_000_000
STATM = pathlib.Path("/proc/self/statm")

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# Most of the time of the suite would be compiling; the cache makes a second run half as long, and lets the workers of
# one run share what they compile. Programs that tests start share what takes long: some are killed as they write.
jax.config.update("jax_compilation_cache_dir", CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
os.environ |= {"JAX_COMPILATION_CACHE_DIR": CACHE, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}

# The programs that tests start would compile the library each time; git ignores what is kept.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

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
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev")
hypothesis.settings.load_profile(PROFILE)

held = 0
"""Bytes of memory this process had when it last forgot its programs."""


# What is collected stays: a million objects that no garbage collection need look at.
gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()
    # Each program that is traced makes as many objects as would begin a hundred collections.
    gc.set_threshold(50_000)


_jaxtyped = jaxtyping.jaxtyped
_beartyped = beartype.beartype(conf=beartype.BeartypeConf(violation_type=jaxtyping.TypeCheckError))


def _shaped(hint) -> bool:
    return type(hint).__module__.startswith("jaxtyping.") or any(map(_shaped, typing.get_args(hint)))


def _checked(function=None, *, typechecker):
    """Where no annotation has a shape, the type checker alone: jaxtyping binds the signature of each call, ten times
    the time."""
    if function is None:
        return functools.partial(_checked, typechecker=typechecker)
    if not inspect.isfunction(function) or any(map(_shaped, function.__annotations__.values())):
        return _jaxtyped(function, typechecker=typechecker)
    checked = _beartyped(function)

    @functools.wraps(function)
    def call(*args, **kwargs):
        return (function if jaxtyping.config.jaxtyping_disable else checked)(*args, **kwargs)

    return call


# What imports the library is instrumented by these names; the second is that of fields of records.
jaxtyping.jaxtyped = jaxtyping._decorator.jaxtyped = _checked

_compile_options = compiler.get_compile_options


def _hasty_options(*args, **kwargs):
    """Loops of LLVM's own, without MLIR: most of what is left of the time to compile. JAX has no public switch."""
    options = _compile_options(*args, **kwargs)
    if jax.config.values["jax_disable_most_optimizations"]:
        options.env_option_overrides = [*options.env_option_overrides, ("xla_cpu_use_fusion_emitters", False)]
    return options


compiler.get_compile_options = _hasty_options
_new_context = mlir.make_ir_context
_kept_context = functools.cache(_new_context)


def _context():
    """To make what a program is written in takes as long as to write many a small one; no two threads may share it."""
    return (_kept_context if threading.current_thread() is threading.main_thread() else _new_context)()


mlir.make_ir_context = _context


def pytest_runtest_setup(item):
    """XLA spends a third of its time on making programs faster, which most tests have no use for."""
    hasty = PROFILE != "nightly" and not any(map(item.path.is_relative_to, EXACT))
    if jax.config.values["jax_disable_most_optimizations"] != hasty:
        jax.config.update("jax_disable_most_optimizations", hasty)
        jax.clear_caches()


def pytest_runtest_teardown():
    """Forget compiled programs when they have filled some room: thousands of them would fill gigabytes."""
    global held
    if STATM.exists() and _resident() > held + ROOM:
        jax.clear_caches()
        _kept_context.cache_clear()
        # What XLA frees, the allocator would keep.
        getattr(ctypes.CDLL(None), "malloc_trim", bool)(0)
        held = _resident()


def _resident() -> int:
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


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
