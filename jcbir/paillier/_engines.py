"""Which arithmetic computes a batch. All engines return the same bytes for the same randomness.

| engine | numbers | when |
|---|---|---|
| `python` | Python integers | always there: the reference |
| `gmpy2` | GMP integers (extra `fast`) | small batches |
| `jax` | residue numbers in float64, any XLA device | batches of `JAX_BATCH` exponentiations or more |
"""

import importlib.util
from collections.abc import Callable

from jcbir.paillier._rows import check_int

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
    check_int(count, name="count", least=0)
    if not isinstance(engine, str) or engine not in ("auto", *ENGINES):
        raise ValueError(f"engine: must be 'auto' or one of {ENGINES}, got {engine!r}")
    if engine == "auto":
        if exponentiations and count >= JAX_BATCH:
            return "jax"
        return "gmpy2" if _installed("gmpy2") else "python"
    if engine == "gmpy2" and not _installed("gmpy2"):
        raise ValueError("engine: must be installed (pip install 'jcbir[fast]') or another one, got 'gmpy2'")
    return engine


def number_type(engine: str) -> Callable:
    """The integers an engine computes with: Python's `int`, or gmpy2's `mpz`, which obeys the same operators."""
    if engine == "gmpy2":
        import gmpy2

        return gmpy2.mpz
    if engine == "python":
        return int
    raise ValueError(f"engine: must be 'python' or 'gmpy2' here, got {engine!r}")


def secret_power(engine: str) -> Callable:
    """x^e mod m for a secret e: gmpy2's takes the same steps for all exponents of a length, Python has only `pow`."""
    if engine == "gmpy2":
        import gmpy2

        # It takes no exponent 0, which a uniform exponent never is.
        return lambda x, e, m: gmpy2.powmod_sec(x, e, m) if e else gmpy2.mpz(1)
    return pow


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
