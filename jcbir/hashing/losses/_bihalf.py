"""Bi-half hashing: no labels, every bit 1 on half of the batch, similarities of codes like those of features."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jcbir.hashing.losses._pairs import check_logits
from jcbir.typing import Array, check_array, check_finite, check_real


def bihalf(logits: Float[Array, "b k"], features: Float[Array, "b d"], *, pull: float = 6.0) -> Float[jax.Array, " b"]:
    """Cosines of half-and-half codes imitate the cosines of the features they come from.

    (cos(b_i, b_j) - cos(x_i, x_j))^2 for the partners j = i + b/2, with b = `half_signs(u)`.

    Args:
        logits: outputs u of the hash head; in an odd batch the last image has no partner.
        features: what the hash head sees, of a network that stays as it is.
        pull: gamma of `half_signs`, at least 0.

    Returns:
        One loss an image, 0 to 4.

    Raises:
        ValueError: logits that are not finite, features that are no floats, one row an image, or a pull out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> bihalf(jnp.array([[1.0], [-1.0]]), jnp.array([[1.0, 0.0], [-1.0, 0.0]])).tolist()
        [0.0, 0.0]

    References:
        Li and van Gemert, Deep Unsupervised Image Hashing by Maximizing Bit Entropy, AAAI 2021.
    """
    check_logits(logits)
    check_array("features", features, kind="floats", form="[b, d]", rank=2)
    if len(features) != len(logits):
        raise ValueError(f"features: must be {len(logits)} rows like logits, got {len(features)}")
    half = len(logits) // 2
    codes, seen = half_signs(logits, pull=pull), jnp.asarray(features)
    gaps = _cosines(codes[:half], codes[half : 2 * half]) - _cosines(seen[:half], seen[half : 2 * half])
    squares = jnp.square(gaps).astype(codes.dtype)
    return jnp.concatenate([squares, squares, jnp.zeros(len(logits) - 2 * half, codes.dtype)])


def half_signs(logits: Float[Array, "b k"], *, pull: float = 6.0) -> Float[jax.Array, "b k"]:
    """+1 for the greater half of each bit's outputs, -1 for the rest: the codes of most entropy nearest to them.

    Backwards the gradient passes as it is, plus gamma (u - b) / (b K), which draws the outputs to their codes; it is
    meant for a loss that is a mean.

    Args:
        logits: outputs u of the hash head.
        pull: gamma, at least 0.

    Returns:
        Values +1 and -1; of an odd number one more is -1.

    Raises:
        ValueError: no rows of finite floats, or a pull out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> half_signs(jnp.array([[3.0], [2.0], [1.0], [0.5]])).ravel().tolist()
        [1.0, 1.0, -1.0, -1.0]

    References:
        Li and van Gemert, Deep Unsupervised Image Hashing by Maximizing Bit Entropy, AAAI 2021, eq. 6 and 8.
    """
    check_logits(logits)
    check_finite("logits", logits)
    check_real("pull", pull)
    return _half_signs(pull, jnp.asarray(logits))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _half_signs(pull: float, logits: jax.Array) -> jax.Array:
    ranks = jnp.argsort(jnp.argsort(-logits, axis=0), axis=0)
    signs = jnp.where(ranks < len(logits) // 2, 1.0, -1.0).astype(logits.dtype)
    # NaN has a place in the order and is no code: inside a compiled step it makes the loss NaN, at which a run stops.
    return jnp.where(jnp.isfinite(logits), signs, jnp.nan)


def _forward(pull: float, logits: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    codes = jnp.asarray(_half_signs(pull, logits))
    return codes, (logits, codes)


def _backward(pull: float, kept: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array]:
    logits, codes = kept
    return (gradient + pull * (logits - codes) / codes.size,)


_half_signs.defvjp(_forward, _backward)


def _cosines(rows: jax.Array, others: jax.Array) -> jax.Array:
    norms = jnp.sqrt(jnp.square(rows).sum(axis=-1) * jnp.square(others).sum(axis=-1))
    return (rows * others).sum(axis=-1) / jnp.maximum(norms, 1e-12)
