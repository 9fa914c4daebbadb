"""Binary reconstructive embeddings (BRE): codes whose distances reconstruct given distances, found without relaxation.

Hash functions are signs of sparse sums of kernel values. One weight moves at a time: between two thresholds at which an
item changes sign nothing changes, so all its values can be tried in one pass over the sorted thresholds.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Key

from jcbir.hashing._classic import Fitted, check_fit, signs, squared_distances
from jcbir.hashing._classic_kernel import anchor_kernel
from jcbir.typing import Array


def bre(
    key: Key[Array, ""],
    features: Float[Array, "n d"],
    *,
    bits: int,
    labels: Bool[Array, "n c"] | None = None,
    anchors: int = 300,
    terms: int = 32,
    samples: int = 500,
    sweeps: int = 2,
) -> Fitted:
    """Binary reconstructive embeddings: Hamming distances fitted to distances of the features, or to labels.

    `min over W of sum over pairs of (d_ij - hamming(h_i, h_j) / k)^2`, `h_p(x) = sign(sum_q W_pq kernel(a_pq, x))`, by
    exact minimization over one weight at a time. `d_ij` is half the squared distance of the features scaled to unit
    length; with labels it is 0 for pairs that share a class and 1 for others.

    Args:
        key: PRNG key that picks anchors, samples and first weights.
        features: items, one a row.
        bits: code length.
        labels: their classes, 0/1 rows, or None to reconstruct the features' own distances.
        anchors: kernel anchors to draw from, at most n; fewer items lower it.
        terms: anchors of one bit; fewer anchors lower it.
        samples: items whose pairs are fitted; fewer items lower it.
        sweeps: passes over all weights.

    Returns:
        A `KernelHash`, and the mean squared error of a pair before and after each of `sweeps * bits` bits, not rising.

    Raises:
        ValueError: there are no items, labels of another number of them, or a count below 1.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (30, 6))
        >>> fitted = bre(jax.random.key(1), x, bits=4, anchors=8, terms=4, sweeps=1)
        >>> bool(fitted.objective[-1] < fitted.objective[0])
        True

    References:
        Kulis and Darrell, Learning to hash with binary reconstructive embeddings, NIPS 2009: the reconstruction error,
        its coordinate descent, and the supervised distances.
    """
    check_fit(features, labels, bits=bits)
    for name, value in (("anchors", anchors), ("terms", terms), ("samples", samples), ("sweeps", sweeps)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    anchor_key, sample_key, term_key, weight_key = jax.random.split(key, 4)
    with jax.default_matmul_precision("highest"):
        base, near = anchor_kernel(anchor_key, features, bits=bits, anchors=anchors)
        n, m = near.shape
        rows = jax.random.choice(sample_key, n, (min(samples, n),), replace=False)
        near = near[rows].T
        distances = _goal(jnp.asarray(features)[rows], None if labels is None else jnp.asarray(labels)[rows])
        picks = jax.vmap(lambda k: jax.random.choice(k, m, (min(terms, m),), replace=False))(
            jax.random.split(term_key, bits)
        )
        weights = jax.random.normal(weight_key, picks.shape, near.dtype)
        activations = jnp.einsum("kt,ktl->kl", weights, near[picks])
        products = signs(activations).T @ signs(activations)
        state = (weights, activations, products)
        order = jnp.tile(jnp.arange(bits), sweeps)
        (weights, _, products), objective = jax.lax.scan(_bit_step(near, picks, distances, bits), state, order)
        last = jnp.mean((distances - 0.5 + products / (2 * bits)) ** 2)
        projection = jnp.zeros((m, bits), near.dtype).at[picks, jnp.arange(bits)[:, None]].set(weights)
        return Fitted(base._replace(projection=projection), jnp.append(objective, last))


def best_weight(
    affinity: Float[Array, "l l"], rest: Float[Array, "l"], values: Float[Array, "l"], current: Float[Array, ""]
) -> Float[jax.Array, ""]:
    """A weight w that minimizes `h' A h` for `h = sign(rest + w values)`.

    As w grows, item i changes its sign at `-rest_i / values_i`. With items in the order of these thresholds and
    `D_ij = s_i A_ij s_j` for the signs s at w = -infinity, t flips lower `h' A h` by `4 sum_{i <= t < j} D_ij`, whose
    increments are row sums less twice the part of the row that has flipped before.

    Args:
        affinity: A, symmetric.
        rest: what the other terms of the sum give.
        values: the kernel values that w multiplies.
        current: weight to keep unless another is better.

    Returns:
        A minimizing weight: the middle of its interval, or 1 beyond the last threshold.

    Example:
        >>> float(best_weight(jnp.eye(2) - 1, jnp.array([1.0, -1.0]), jnp.array([0.0, 1.0]), jnp.array(0.0)))
        2.0
    """
    fixed = values == 0
    s = jnp.where(fixed, signs(rest), -signs(values))
    at = jnp.where(fixed, jnp.inf, -rest / jnp.where(fixed, 1, values))
    order = jnp.argsort(at)
    place = jnp.argsort(order)
    scaled = affinity * s[None] * s[:, None]
    earlier = jnp.where(place[None] < place[:, None], scaled, 0).sum(1)
    gain = (scaled.sum(1) - jnp.diagonal(scaled) - 2 * earlier)[order]
    at = at[order]
    lowered = jnp.concatenate([jnp.zeros(1, gain.dtype), jnp.cumsum(jnp.where(jnp.isfinite(at), gain, 0))])
    finite = jnp.isfinite(at).sum()
    flips = jnp.argmax(lowered)
    low, high = at[jnp.maximum(flips - 1, 0)], at[jnp.minimum(flips, at.shape[0] - 1)]
    middle = jnp.where(flips == 0, high - 1, jnp.where(flips >= finite, low + 1, (low + high) / 2))

    def energy(w: Array) -> Array:
        h = signs(rest + w * values)
        return h @ affinity @ h

    # Where thresholds lie closer than the floating point resolves, the middle may miss its interval.
    better = jnp.isfinite(middle) & (energy(middle) < energy(current))
    return jnp.where(better, middle, current)


def _goal(features: Array, labels: Array | None) -> Array:
    if labels is not None:
        chosen = labels.astype(features.dtype)
        return jnp.where(chosen @ chosen.T > 0, 0, 1).astype(features.dtype)
    length = jnp.sqrt((features**2).sum(1, keepdims=True))
    unit = features / jnp.maximum(length, jnp.finfo(features.dtype).tiny)
    return squared_distances(unit, unit) / 2


def _bit_step(near: Array, picks: Array, distances: Array, bits: int):
    """One pass over the weights of one bit; the carry holds weights, activations and the sum of h h' over bits."""

    def step(state: tuple[Array, Array, Array], p: Array) -> tuple[tuple[Array, Array, Array], Array]:
        weights, activations, products = state
        error = jnp.mean((distances - 0.5 + products / (2 * bits)) ** 2)
        h = signs(activations[p])
        others = products - h[:, None] * h[None]
        affinity = distances - 0.5 + others / (2 * bits)

        def one(total: Array, term: tuple[Array, Array]) -> tuple[Array, Array]:
            weight, pick = term
            values = near[pick]
            rest = total - weight * values
            new = best_weight(affinity, rest, values, weight)
            return rest + new * values, new

        total, new = jax.lax.scan(one, activations[p], (weights[p], picks[p]))
        h = signs(total)
        products = others + h[:, None] * h[None]
        return (weights.at[p].set(new), activations.at[p].set(total), products), error

    return step
