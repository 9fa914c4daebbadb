"""What distances alone give away over many queries, in every scheme: the codes.

With h and q as rows of 1 and -1, `k - 2 d = q h^T`. Known queries are linear equations for the codes; unknown ones are
a mixture of k independent sources, which independent component analysis separates up to order and sign: enough for all
distances between codes.
"""

import numpy as np
from jaxtyping import Bool, Float, Int


def linear_algebra(*, count: int, bits: int, top: int, queries: int, seed: int) -> dict[str, float]:
    """A user whose queries are its own solves for the codes of the images whose distances it is told.

    Before: no limits, one batch of as many queries as bits, all distances. After: one day of a grant, `queries` at most
    and the distances of the `top` nearest to each. Under `remaining`: a week of that, and the authority, who sees all
    distances, on a day on which it knows the queries.

    Returns:
        Shares of the codes that are determined, and right.
    """
    generator = np.random.default_rng(seed)
    codes, asked = generator.random((count, bits)) < 0.5, generator.random((7 * queries, bits)) < 0.5
    distances = _distances(asked, codes)
    near = np.argsort(distances, axis=1, kind="stable")[:, :top]
    told = np.zeros(distances.shape, bool)
    np.put_along_axis(told, near, True, axis=1)
    all_known = _solved(asked[:bits], distances[:bits], np.ones((bits, count), bool), codes)
    return {
        "user_codes_before": all_known,
        "user_codes_after": _solved(asked[:queries], distances[:queries], told[:queries], codes),
        "user_codes_in_a_week_remaining": _solved(asked, distances, told, codes),
        "authority_codes_known_queries_remaining": all_known,
    }


def component_analysis(*, count: int, bits: int, classes: int, flip: float, seed: int) -> dict[str, float]:
    """The authority knows no query: FastICA on the distances of 2 k of them, on independent codes and on classes.

    Returns:
        Shares of the bits of all codes that are right, up to one order and sign for all images. Chance is a little
        above one half.
    """
    generator = np.random.default_rng(seed)
    centers = generator.random((classes, bits)) < 0.5

    def in_classes(number: int) -> np.ndarray:
        return centers[generator.integers(0, classes, number)] ^ (generator.random((number, bits)) < flip)

    def independent(number: int) -> np.ndarray:
        return generator.random((number, bits)) < 0.5

    found = {}
    for name, draw in (("independent", independent), ("classes", in_classes)):
        codes, asked = draw(count), draw(2 * bits)
        sources = _fast_ica(bits - 2.0 * _distances(asked, codes), generator)
        found[f"authority_bits_unknown_queries_{name}_remaining"] = _aligned(sources, codes)
    return found


def _solved(asked: np.ndarray, distances: np.ndarray, told: np.ndarray, codes: np.ndarray) -> float:
    """Share of codes that least squares over what is told gives exactly; an undetermined system gives none."""
    bits, signs = codes.shape[1], np.where(asked, 1.0, -1.0)
    right = 0
    for image in range(len(codes)):
        rows = told[:, image]
        if rows.sum() < bits:
            continue
        solution, _, rank, _ = np.linalg.lstsq(signs[rows], bits - 2.0 * distances[rows, image], rcond=None)
        right += rank == bits and np.array_equal(solution > 0, codes[image])
    return right / len(codes)


def _fast_ica(mixed: Float[np.ndarray, "q n"], generator: np.random.Generator, rounds: int = 200) -> np.ndarray:
    """Symmetric FastICA with the cube for nonlinearity: the sources, a row each (Hyvärinen, 1999)."""
    centered = mixed - mixed.mean(axis=1, keepdims=True)
    _, scales, right = np.linalg.svd(centered, full_matrices=False)
    white = right[scales > 1e-9 * scales[0]] * np.sqrt(mixed.shape[1])
    weights = _orthogonal(generator.standard_normal((len(white), len(white))))
    for _ in range(rounds):
        sources = weights @ white
        turned = _orthogonal(sources**3 @ white.T / white.shape[1] - 3 * weights)
        done = np.abs(np.abs((turned * weights).sum(axis=1)) - 1).max() < 1e-9
        weights = turned
        if done:
            break
    return weights @ white


def _orthogonal(weights: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(weights)
    return left @ right


def _aligned(sources: Float[np.ndarray, "s n"], codes: Bool[np.ndarray, "n k"]) -> float:
    """Share of right bits, each bit read from the source that fits it best."""
    agree = np.where(sources > 0, 1.0, -1.0) @ np.where(codes, 1.0, -1.0) / len(codes)
    return float((1 + np.abs(agree).max(axis=0)).mean() / 2)


def _distances(asked: Bool[np.ndarray, "q k"], codes: Bool[np.ndarray, "n k"]) -> Int[np.ndarray, "q n"]:
    one, other = (np.where(bits, 1.0, -1.0) for bits in (asked, codes))
    return ((codes.shape[1] - one @ other.T) / 2).astype(int)
