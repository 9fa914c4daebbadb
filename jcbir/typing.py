"""Array types of the public signatures, which take JAX and NumPy arrays alike, and the checks behind them."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Bool, UInt8

Array = jax.Array | np.ndarray

Codes = Bool[Array, "*b k"]
"""0/1 codes of k bits, leading axes batch."""

Rows = UInt8[np.ndarray, "n w"]
"""n big-endian numbers of w bytes each: plaintexts or ciphertexts at rest."""

Image = UInt8[Array, "h w c"]
"""One image, height x width x channels, 0 to 255."""

Images = UInt8[Array, "b h w c"]
"""A batch of images of one size."""

_KINDS = {
    "booleans": jnp.bool_,
    "integers": jnp.integer,
    "floats": jnp.floating,
    "uint32": jnp.uint32,
    "uint8": jnp.uint8,
}


def check_array(name: str, value: object, *, kind: str, form: str, rank: int | None = None) -> None:
    """Refuse what is not an array of one kind: no list, no other type that happens to give a number.

    Args:
        name: the argument's name.
        value: what came.
        kind: `booleans`, `integers`, `floats`, `uint32` or `uint8`.
        form: its axes in words, such as `[..., k]`.
        rank: number of axes; None for at least one.

    Raises:
        ValueError: naming the argument, what it must be and what came.

    Example:
        >>> check_array("codes", np.ones((2, 8), bool), kind="booleans", form="[n, k]", rank=2)
        >>> check_array("codes", np.ones((2, 8)), kind="booleans", form="[n, k]", rank=2)
        Traceback (most recent call last):
        ...
        ValueError: codes: must be booleans [n, k], got float64[2, 8]
    """
    known = isinstance(value, jax.Array | np.ndarray | np.generic)
    if known and jnp.issubdtype(value.dtype, _KINDS[kind]) and (len(value.shape) == rank if rank else value.shape):
        return
    got = f"{value.dtype}{list(value.shape)}" if known else type(value).__name__
    raise ValueError(f"{name}: must be {kind} {form}, got {got}")


def check_whole(name: str, value: object, *, low: int, high: int | None = None) -> int:
    """A whole number within its bounds: 10.0, True and "10" are none, NumPy's integers are.

    Args:
        name: the argument's name.
        value: what came.
        low: the least.
        high: the greatest; None for no bound.

    Returns:
        The number.

    Raises:
        ValueError: naming the argument, what it must be and what came.

    Example:
        >>> check_whole("top", np.int32(10), low=1)
        10
        >>> check_whole("top", 10.0, low=1)
        Traceback (most recent call last):
        ...
        ValueError: top: must be a whole number of at least 1, got 10.0
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        number = int(value)
        if low <= number and (high is None or number <= high):
            return number
    bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
    raise ValueError(f"{name}: must be a whole number {bounds}, got {value!r}")


def check_real(
    name: str,
    value: object,
    *,
    low: float = 0.0,
    above: float | None = None,
    high: float = math.inf,
    below: float | None = None,
) -> None:
    """Refuse what is not one finite number within its bounds: no NaN, no True, no "0.1", no array of numbers.

    Args:
        name: the argument's name.
        value: what came; inside a compiled program, where nobody can look at a number, any one is taken.
        low: the least.
        above: what it must exceed, in place of `low`.
        high: the greatest.
        below: what it must not reach, in place of `high`.

    Raises:
        ValueError: naming the argument, what it must be and what came.

    Example:
        >>> check_real("rate", 1e-3)
        >>> check_real("rate", float("nan"))
        Traceback (most recent call last):
        ...
        ValueError: rate: must be finite and at least 0, got nan
    """
    if isinstance(value, int | float | np.generic | np.ndarray | jax.Array):
        given = value if isinstance(value, jax.Array) else np.asarray(value)
        if given.ndim == 0 and any(jnp.issubdtype(given.dtype, kind) for kind in (jnp.floating, jnp.integer)):
            if isinstance(value, Tracer):
                return
            number = float(given)
            enough = low <= number if above is None else above < number
            if math.isfinite(number) and enough and (number <= high if below is None else number < below):
                return
    start = f"at least {low:g}" if above is None else f"above {above:g}"
    end = f"at most {high:g}" if below is None else f"below {below:g}"
    bounds = f"finite and {start}" if below is None and high == math.inf else f"{start} and {end}"
    raise ValueError(f"{name}: must be {bounds}, got {value!r}")


def check_finite(name: str, tree: Any) -> None:
    """Refuse NaN and infinity anywhere in a tree of arrays and numbers.

    Args:
        name: the argument's name.
        tree: what came; of what a compiled program computes nobody can look at a number, so any is taken.

    Raises:
        ValueError: naming the argument and the place in it.

    Example:
        >>> check_finite("features", np.array([1.0, np.nan]))
        Traceback (most recent call last):
        ...
        ValueError: features: must be finite, got 1 of 2 values that are NaN or infinite
    """
    for path, leaf in jax.tree.leaves_with_path(tree):
        if isinstance(leaf, Tracer):
            continue
        # A plain number is a leaf as well.
        value = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
        if not jnp.issubdtype(value.dtype, jnp.inexact):
            continue
        broken = int((~np.isfinite(np.asarray(value))).sum())
        if broken:
            where = f"{name}{jax.tree_util.keystr(path)}"
            raise ValueError(f"{where}: must be finite, got {broken} of {value.size} values that are NaN or infinite")
