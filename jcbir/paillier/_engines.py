"""Which arithmetic computes a batch. All engines return the same bytes for the same randomness.

| engine | numbers | when |
|---|---|---|
| `python` | Python integers | always there: the reference |
| `gmpy2` | GMP integers (extra `fast`) | small batches |
| `jax` | residue numbers in float64, any XLA device | batches of `JAX_BATCH` exponentiations or more |
"""

import importlib.util
from collections.abc import Callable

ENGINES = ("python", "gmpy2", "jax")
JAX_BATCH = 64


def choose_engine(engine: str, *, count: int, exponentiations: bool = True) -> str:
    """Resolve `auto` to the engine that is fastest for a batch.

    Args:
        engine: "auto", or the name of an engine.
        count: numbers in the batch.
        exponentiations: whether the work is powers, not single products, for which conversion would cost more than it
            wins.

    Returns:
        "python", "gmpy2" or "jax".

    Raises:
        ValueError: no such engine, or it is not installed.

    Example:
        >>> choose_engine("python", count=1000)
        'python'
    """
    if engine == "auto":
        if exponentiations and count >= JAX_BATCH:
            return "jax"
        return "gmpy2" if _installed("gmpy2") else "python"
    if engine not in ENGINES:
        raise ValueError(f"engine must be 'auto' or one of {ENGINES}, got {engine!r}")
    if engine == "gmpy2" and not _installed("gmpy2"):
        raise ValueError("engine 'gmpy2' is not installed: pip install 'jcbir[fast]', or choose 'python' or 'jax'")
    return engine


def number_type(engine: str) -> Callable:
    """The integers an engine computes with: Python's `int`, or gmpy2's `mpz`, which obeys the same operators.

    Args:
        engine: "python" or "gmpy2".

    Returns:
        A function from int to such an integer.

    Raises:
        ValueError: the engine computes with arrays, not with integers.

    Example:
        >>> number_type("python")(5)
        5
    """
    if engine == "gmpy2":
        import gmpy2

        return gmpy2.mpz
    if engine == "python":
        return int
    raise ValueError(f"engine must be 'python' or 'gmpy2' here, got {engine!r}")


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
