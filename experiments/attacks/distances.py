"""What distances alone give away over many queries, in every scheme: the codes.

    python -m experiments.attacks.distances --scale full --source FOLDER \
        --report experiments/results/attacks_distances.json

With h and q as rows of 1 and -1, `k - 2 d = q h^T`. Known queries are linear equations for the codes; unknown ones are
a mixture of k independent sources, which independent component analysis separates up to order and sign: enough for all
distances between codes. Budgets bound what a user is told, and nothing bounds the authority. Figures are as in
`experiments.attacks.protocol`.

FOLDER holds codes of photographs as signs, `database_hash.npy` and `test_hash.npy`, and the former's classes,
`database_label.npy`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from jaxtyping import Bool, Float, Int

from experiments.attacks.parties import played
from experiments.running import Scale, Where, begin, command_line, finish

# What grants allow by default, and less: queries a day, results a query.
BUDGETS = ((200, 100), (200, 10), (50, 100), (50, 10))


@dataclass(frozen=True)
class Config:
    """Sizes of the attacks.

    Fields:
        where: scale and places.
        source: folder of the codes of photographs; without it they are left out.
        bits: length of the simulated codes.
        count: how many.
        classes: classes of those in classes.
        flip: probability that a bit differs from the class's.
        seed: of codes and queries.
    """

    where: Annotated[Where, tyro.conf.arg(name="")] = field(default_factory=Where)
    source: Path | None = None
    bits: int = 16
    count: int = 1000
    classes: int = 20
    flip: float = 0.05
    seed: int = 0


SCALES: dict[Scale, Config] = {
    "full": Config(where=Where(scale="full"), bits=64, count=2000),
    "smoke": Config(),
}


class Codes(NamedTuple):
    """Codes of images and of queries.

    Fields:
        images: bool[n, k].
        queries: bool[q, k], more than k.
    """

    images: np.ndarray
    queries: np.ndarray


def main(config: Config) -> dict[str, Any]:
    """Run the attacks on simulated codes, and on those of photographs where they are at hand."""
    run = begin("attacks_distances", config)
    generator = np.random.default_rng(config.seed)
    centers = generator.random((config.classes, config.bits)) < 0.5

    def independent(number: int) -> np.ndarray:
        return generator.random((number, config.bits)) < 0.5

    def in_classes(number: int) -> np.ndarray:
        return centers[generator.integers(0, config.classes, number)] ^ (
            generator.random((number, config.bits)) < config.flip
        )

    found = {
        name: Codes(draw(config.count), draw(8 * config.bits))
        for name, draw in (("independent", independent), ("classes", in_classes))
    }
    attacks = {"user": lambda: user(found["independent"].images, generator)}
    if config.source is not None:
        images, queries = (np.load(config.source / f"{name}_hash.npy") > 0 for name in ("database", "test"))
        found["real"] = Codes(images, generator.permutation(queries))
        labels = np.load(config.source / "database_label.npy")
        attacks["neighbors"] = lambda: neighbors(found["real"], labels)
    for name, codes in found.items():
        attacks[f"known_queries_{name}"] = lambda name=name, codes=codes: known(codes, name)
        attacks[f"unknown_queries_{name}"] = lambda name=name, codes=codes: unknown(codes, name, generator)
    return finish(run, {"attacks": played(attacks)})


def known(codes: Codes, name: str) -> dict[str, float]:
    """The authority sees all distances of queries that it knows and solves for the codes.

    Returns:
        Share of the codes that k queries determine; queries until all are determined.
    """
    bits = codes.images.shape[1]
    ranks = [np.linalg.matrix_rank(_signs(codes.queries[:asked])) for asked in range(bits, len(codes.queries) + 1)]
    enough = bits + int(np.argmax(np.array(ranks) == bits)) if bits in ranks else 0
    return {
        f"authority_codes_{name}_remaining": _determined(codes.queries[:bits], codes.images),
        f"queries_for_all_codes_{name}_remaining": enough,
    }


def unknown(codes: Codes, name: str, generator: np.random.Generator) -> dict[str, float]:
    """The authority knows no query: FastICA on the distances.

    Returns:
        Share of the bits of all codes that are right, up to one order and sign for all images. Chance is a little
        above one half.
    """
    bits = codes.images.shape[1]
    sources = _fast_ica(bits - 2.0 * _distances(codes.queries, codes.images), generator)
    return {f"authority_bits_{name}_remaining": _aligned(sources, codes.images)}


def neighbors(codes: Codes, labels: Int[np.ndarray, " n"]) -> dict[str, float]:
    """Where FastICA fails: images whose distances to unknown queries are alike are alike.

    Returns:
        Share of the images whose nearest other image has the same class: nearest by the distances to all queries, and
        by the codes themselves.
    """
    shares = {}
    for name, points in (("distances", _distances(codes.queries, codes.images)), ("codes", _signs(codes.images))):
        points = points - points.mean(axis=0 if name == "codes" else 1, keepdims=True)
        points = points.T if name == "distances" else points
        squares = (points**2).sum(axis=1)
        apart = squares[:, None] + squares[None, :] - 2 * points @ points.T
        np.fill_diagonal(apart, np.inf)
        shares[f"neighbors_by_{name}_remaining"] = float((labels[apart.argmin(axis=1)] == labels).mean())
    return shares


def user(codes: Bool[np.ndarray, "n k"], generator: np.random.Generator) -> dict[str, float]:
    """A user within its budget solves for the codes of the images of whose distances it is told.

    In a day it asks for neighborhoods, a point with each bit turned, and solves for what stays near; in a week for
    anything, and solves for what it was told of as often as a code has bits.

    Before: no limits, all distances. After: one day of a grant by default. Under `remaining` a week of it, and days
    until half the codes are determined, by queries a day and results a query.

    Returns:
        Shares of the codes that are determined, and right; days.
    """
    bits = codes.shape[1]
    queries, top = BUDGETS[0]
    figures = {
        "user_codes_before": _determined(generator.random((bits, bits)) < 0.5, codes),
        "user_codes_after": _by_neighborhoods(codes, generator, queries // bits, top),
        "user_codes_in_a_week_remaining": _by_chance(codes, generator, 7 * queries, top),
    }
    for queries, top in BUDGETS:
        asked, half = np.zeros(len(codes), int), 0
        while (asked >= bits).mean() < 0.5:
            asked += _told(generator.random((queries, bits)) < 0.5, codes, top).sum(axis=0)
            half += 1
        figures[f"days_to_half_with_{queries}_queries_{top}_results_remaining"] = half
    return figures


def _by_neighborhoods(codes: np.ndarray, generator: np.random.Generator, points: int, top: int) -> float:
    """Share of the codes that are determined and right."""
    bits, found = codes.shape[1], np.zeros(len(codes), bool)
    for _ in range(points):
        asked = (generator.random(bits) < 0.5) ^ np.eye(bits, dtype=bool)
        stays = _told(asked, codes, top).all(axis=0)
        solved = np.linalg.solve(_signs(asked), bits - 2.0 * _distances(asked, codes[stays])).T > 0
        found[stays] |= (solved == codes[stays]).all(axis=1)
    return float(found.mean())


def _by_chance(codes: np.ndarray, generator: np.random.Generator, queries: int, top: int) -> float:
    """Share of the codes that least squares over what is told gives exactly; an undetermined system gives none."""
    bits, right = codes.shape[1], 0
    asked = generator.random((queries, bits)) < 0.5
    for code, rows in zip(codes, _told(asked, codes, top).T, strict=True):
        right += rows.sum() >= bits and _determined(asked[rows], code[None]) == 1
    return right / len(codes)


def _told(asked: np.ndarray, codes: np.ndarray, top: int) -> Bool[np.ndarray, "q n"]:
    """Which distances the user is told: the smallest of each query."""
    told = np.zeros((len(asked), len(codes)), bool)
    near = np.argsort(_distances(asked, codes), axis=1, kind="stable")[:, :top]
    np.put_along_axis(told, near, True, axis=1)
    return told


def _determined(asked: Bool[np.ndarray, "q k"], codes: Bool[np.ndarray, "n k"]) -> float:
    """Share of the codes that least squares over all distances gives exactly; an undetermined bit is wrong."""
    signs = _signs(asked)
    solution = np.linalg.pinv(signs) @ (codes.shape[1] - 2.0 * _distances(asked, codes))
    return float((np.abs(solution.T - _signs(codes)) < 1e-6).all(axis=1).mean())


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
    agree = np.where(sources > 0, 1.0, -1.0) @ _signs(codes) / len(codes)
    return float((1 + np.abs(agree).max(axis=0)).mean() / 2)


def _signs(codes: Bool[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    return np.where(codes, 1.0, -1.0)


def _distances(asked: Bool[np.ndarray, "q k"], codes: Bool[np.ndarray, "n k"]) -> Int[np.ndarray, "q n"]:
    return ((codes.shape[1] - _signs(asked) @ _signs(codes).T) / 2).astype(int)


if __name__ == "__main__":
    main(command_line(SCALES))
