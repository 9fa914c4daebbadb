"""Supervised shallow hashing on Gaussian kernels of random anchors: KSH and SDH.

Both describe an item by its centered kernel values to a few hundred anchors, and look for signs of linear functions of
them: KSH bit by bit against the matrix of similar and dissimilar pairs, SDH for all bits such that a linear classifier
on the codes works. Parameters and `project` are those of `jcbir.hashing._classic`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Key

from jcbir.hashing._classic import Fitted, KernelHash, check_fit, gaussian, signs, squared_distances
from jcbir.typing import Array

# Kernel values of close anchors are nearly dependent: in float32 their Gram matrix needs a diagonal to be factorized.
RIDGE = 1e-4


def ksh(
    key: Key[Array, ""],
    features: Float[Array, "n d"],
    labels: Bool[Array, "n c"],
    *,
    bits: int,
    anchors: int = 300,
    samples: int = 1000,
    iterations: int = 50,
) -> Fitted:
    """Supervised hashing with kernels: inner products of codes fitted to similar (1) and dissimilar (-1) pairs.

    `min over H in {-1, 1} of |H H' / k - S|^2`, greedily: with the residue `R = k S - sum of earlier h h'`, each bit
    maximizes `h' R h` for `h = sign(K a)`: first by the largest generalized eigenvector of `K' R K a = s K' K a`, then
    by accelerated gradient on `tanh(K a / 2)` in place of the sign, kept where the signs are better for it.

    Args:
        key: PRNG key that picks anchors and samples.
        features: items, one a row.
        labels: their classes, 0/1 rows; a pair is similar if it shares a class.
        bits: code length.
        anchors: kernel anchors, at most n; fewer items lower it.
        samples: labeled items that form the pairs; fewer items lower it.
        iterations: gradient steps a bit.

    Returns:
        A `KernelHash`, and the objective per pair after 0 to `bits` bits.

    Raises:
        ValueError: there are no items, labels of another number of them, or a count below 1.

    Example:
        >>> y = jnp.arange(60)[:, None] % 2 == jnp.arange(2)[None]
        >>> x = y.astype(float) @ jnp.eye(2, 6) * 3 + jax.random.normal(jax.random.key(0), (60, 6))
        >>> fitted = ksh(jax.random.key(1), x, y, bits=4, anchors=20)
        >>> bool(fitted.objective[-1] < fitted.objective[0])
        True

    References:
        Liu, Wang, Ji, Jiang and Chang, Supervised hashing with kernels, CVPR 2012: the objective on inner products of
        codes, its greedy optimization, spectral relaxation and sigmoid smoothing (section 3). Anchors (300) and the
        width of the kernel are those of the authors' code.
    """
    check_fit(features, labels, bits=bits)
    _check_counts(anchors=anchors, samples=samples)
    anchor_key, sample_key, start_key = jax.random.split(key, 3)
    with jax.default_matmul_precision("highest"):
        base, near = anchor_kernel(anchor_key, features, bits=bits, anchors=anchors)
        start = jax.random.normal(start_key, (near.shape[1],), near.dtype)
        count = min(samples, features.shape[0])
        rows = jax.random.choice(sample_key, features.shape[0], (count,), replace=False)
        near, chosen = near[rows], labels[rows].astype(features.dtype)
        similar = jnp.where(chosen @ chosen.T > 0, 1, -1).astype(features.dtype)
        gram = near.T @ near
        gram = gram + RIDGE * jnp.mean(jnp.diagonal(gram)) * jnp.eye(gram.shape[0], dtype=gram.dtype)
        root = jnp.linalg.cholesky(gram)
        whitened = jax.scipy.linalg.solve_triangular(root, near.T, lower=True)

        def bit(residue: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
            top = top_eigenvector(whitened @ residue @ whitened.T, start)
            # Scaled such that K a has unit mean square: a' K' K a = n.
            first = jax.scipy.linalg.solve_triangular(root, top, lower=True, trans=1) * count**0.5
            second = _sharpen(near, residue, first, iterations)
            gains = [h @ residue @ h for h in (signs(near @ first), signs(near @ second))]
            best = jnp.where(gains[1] > gains[0], second, first)
            h = signs(near @ best)
            left = residue - h[:, None] * h[None]
            return left, (best, jnp.mean(left**2) / bits**2)

        _, (columns, objective) = jax.lax.scan(bit, bits * similar, None, length=bits)
        return Fitted(base._replace(projection=columns.T), jnp.concatenate([jnp.mean(similar**2)[None], objective]))


def sdh(
    key: Key[Array, ""],
    features: Float[Array, "n d"],
    labels: Bool[Array, "n c"],
    *,
    bits: int,
    anchors: int = 500,
    iterations: int = 5,
    sweeps: int = 10,
    classifier_weight: float = 1.0,
    fit_weight: float = 1e-5,
    regularization: float = 1e-2,
) -> Fitted:
    """Supervised discrete hashing: codes on which a linear classifier works, found bit by bit without relaxation.

    `min over B in {-1, 1}, W, P of |Y - B W|^2 + l |W|^2 + v (|B - F|^2 + r |P|^2)`, F = K P + bias, in turn: W and P
    by ridge regression, B by cyclic coordinate descent, column j being `sign(Y W_j' + v F_j - B_{-j} W_{-j} W_j')`.

    Args:
        key: PRNG key of anchors and first codes.
        features: items, one a row.
        labels: their classes Y, 0/1 rows.
        bits: code length.
        anchors: kernel anchors, at most n; fewer items lower it.
        iterations: rounds of the three steps.
        sweeps: passes over the bits in a round.
        classifier_weight: l.
        fit_weight: v.
        regularization: r.

    Returns:
        A `KernelHash`, and the objective after 0 to `iterations` rounds, never rising.

    Raises:
        ValueError: there are no items, labels of another number of them, or a count below 1.

    Example:
        >>> y = jnp.arange(60)[:, None] % 2 == jnp.arange(2)[None]
        >>> x = y.astype(float) @ jnp.eye(2, 6) * 3 + jax.random.normal(jax.random.key(0), (60, 6))
        >>> fitted = sdh(jax.random.key(1), x, y, bits=8, anchors=20)
        >>> bool(fitted.objective[-1] < fitted.objective[0])
        True

    References:
        Shen, Shen, Liu and Shen, Supervised discrete hashing, CVPR 2015: the least-squares objective and its three
        steps (section 2), discrete cyclic coordinate descent (section 2.2). Defaults of the authors' code: l = 1,
        v = 1e-5, r = 1e-2, 5 rounds, 10 sweeps.
    """
    check_fit(features, labels, bits=bits)
    _check_counts(anchors=anchors)
    anchor_key, code_key = jax.random.split(key)
    with jax.default_matmul_precision("highest"):
        base, near = anchor_kernel(anchor_key, features, bits=bits, anchors=anchors)
        goal = labels.astype(features.dtype)
        codes = signs(jax.random.normal(code_key, (features.shape[0], bits), features.dtype))
        gram = near.T @ near
        factor = jax.scipy.linalg.cho_factor(gram + regularization * jnp.eye(gram.shape[0], dtype=gram.dtype))

        def regress(b: Array) -> tuple[Array, Array, Array, Array]:
            inner = b.T @ b + classifier_weight * jnp.eye(bits, dtype=b.dtype)
            w = jnp.linalg.solve(inner, b.T @ goal)
            bias = jnp.mean(b, 0)
            p = jax.scipy.linalg.cho_solve(factor, near.T @ (b - bias[None]))
            fit = ((b - near @ p - bias[None]) ** 2).sum() + regularization * (p**2).sum()
            value = ((goal - b @ w) ** 2).sum() + classifier_weight * (w**2).sum() + fit_weight * fit
            return w, p, bias, value

        def round_(b: Array, _: None) -> tuple[Array, Array]:
            w, p, bias, value = regress(b)
            wanted = goal @ w.T + fit_weight * (near @ p + bias[None])
            return jax.lax.fori_loop(0, sweeps, lambda _, old: _sweep_bits(old, w, wanted), b), value

        codes, objective = jax.lax.scan(round_, codes, None, length=iterations)
        _, p, bias, value = regress(codes)
        return Fitted(base._replace(projection=p, bias=bias), jnp.append(objective, value))


def anchor_kernel(
    key: Key[Array, ""], features: Float[Array, "n d"], *, bits: int, anchors: int
) -> tuple[KernelHash, Float[jax.Array, "n m"]]:
    """Random anchors, the width that suits them, and the centered kernel values of the items.

    Args:
        key: PRNG key that picks anchors among the items.
        features: items, one a row.
        bits: code length of the empty projection.
        anchors: how many, lowered to n where there are fewer items.

    Returns:
        A `KernelHash` whose projection and bias are 0 (`variance` is the mean squared distance of items to anchors),
        and the centered kernel values.

    Example:
        >>> base, near = anchor_kernel(jax.random.key(0), jnp.eye(6), bits=8, anchors=3)
        >>> near.shape, bool(abs(near.sum(0)).max() < 1e-5)
        ((6, 3), True)
    """
    n, count = features.shape[0], min(anchors, features.shape[0])
    picked = jnp.asarray(features)[jax.random.choice(key, n, (count,), replace=False)]
    squared = squared_distances(features, picked)
    variance = jnp.maximum(jnp.mean(squared), jnp.finfo(squared.dtype).tiny)
    near = gaussian(features, picked, variance=variance)
    mean = jnp.mean(near, 0)
    empty = jnp.zeros((count, bits), near.dtype)
    return KernelHash(picked, variance, mean, empty, jnp.zeros(bits, near.dtype)), near - mean[None]


def top_eigenvector(matrix: Float[Array, "m m"], start: Float[Array, "m"], *, steps: int = 40) -> Float[jax.Array, "m"]:
    """Unit eigenvector of the largest eigenvalue of a symmetric matrix, by the Lanczos process.

    Orthogonalized Krylov vectors `q_1 = start, q_2 ~ A q_1, ...` span a small space whose best vector is taken: for one
    eigenvector of a few hundred dimensions a hundredth of the work of a full decomposition.

    Args:
        matrix: A, symmetric.
        start: a vector not orthogonal to what is sought, such as a random one.
        steps: dimensions of the space.

    Returns:
        A vector of length 1, of either sign.

    Example:
        >>> abs(top_eigenvector(jnp.diag(jnp.array([1.0, -5.0, 3.0])), jnp.ones(3))).round(3).tolist()
        [0.0, 0.0, 1.0]

    References:
        Lanczos, An iteration method for the solution of the eigenvalue problem, J. Res. NBS 45, 1950.
    """
    steps = min(steps, matrix.shape[0])
    unit = start / jnp.linalg.norm(start)
    first = jnp.zeros((steps + 1, matrix.shape[0]), matrix.dtype).at[0].set(unit)
    floor = jnp.linalg.norm(matrix) * jnp.finfo(matrix.dtype).eps

    def step(basis: Array, i: Array) -> tuple[Array, None]:
        pulled = matrix @ basis[i]
        for _ in range(2):  # once leaves rounding of the size of what is left
            pulled = pulled - basis.T @ (basis @ pulled)
        length = jnp.linalg.norm(pulled)
        return basis.at[i + 1].set(jnp.where(length > floor, pulled / jnp.maximum(length, floor), 0)), None

    basis = jax.lax.scan(step, first, jnp.arange(steps))[0][:steps]
    small = basis @ matrix @ basis.T
    # An exhausted space leaves rows of zeros, which must not pass for an eigenvalue 0.
    used = (basis * basis).sum(1) > 0.5
    small = jnp.where(jnp.diag(~used), -jnp.linalg.norm(matrix) - 1, small)
    best = basis.T @ jnp.linalg.eigh(small)[1][:, -1]
    return best / jnp.linalg.norm(best)


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def _sharpen(near: Array, residue: Array, first: Array, iterations: int) -> Array:
    """Nesterov's accelerated gradient with backtracking on -f' R f / n^2, f = tanh(K a / 2)."""
    scale = 1 / near.shape[0] ** 2

    def value(a: Array) -> tuple[Array, Array, Array]:
        f = jnp.tanh(near @ a / 2)
        pulled = residue @ f
        return -scale * (f @ pulled), f, pulled

    def step(state: tuple[Array, ...], _: None) -> tuple[tuple[Array, ...], None]:
        here, ahead, momentum, curvature = state
        start, f, pulled = value(ahead)
        # d tanh(z / 2) / dz = (1 - tanh^2) / 2, and R is symmetric; the product R f serves value and gradient.
        slope = -scale * (near.T @ (pulled * (1 - f * f)))
        drop = (slope**2).sum() / 2

        def too_long(c: Array) -> Array:
            return (value(ahead - slope / c)[0] > start - drop / c) & (c < 1e12)

        curvature = jax.lax.while_loop(too_long, lambda c: c * 2, curvature)
        there = ahead - slope / curvature
        longer = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        return (there, there + (momentum - 1) / longer * (there - here), longer, curvature), None

    one = jnp.ones((), near.dtype)
    return jax.lax.scan(step, (first, first, one, one * 1e-3), None, length=iterations)[0][0]


def _sweep_bits(codes: Array, w: Array, wanted: Array) -> Array:
    """One pass of cyclic coordinate descent: each column is set to its best given the others."""

    def column(scores: Array, old: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        b, weight, want = old
        rest = scores - b[:, None] * weight[None]
        new = signs(want - rest @ weight)
        return rest + new[:, None] * weight[None], new

    return jax.lax.scan(column, codes @ w, (codes.T, w, wanted.T))[1].T
