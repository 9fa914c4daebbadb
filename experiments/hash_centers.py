"""How far apart hash centers are: the paper's rule, random rows over many draws, and coded centers.

    python -m experiments.hash_centers --report experiments/results/hash_centers.json

`published` are the minimum distances of the center files released with the official CSQ code. Expected: coded centers
are at least as far apart everywhere, and three times as far at 100 x 16.
"""

import time
from dataclasses import dataclass
from typing import Any

import jax

from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir.hashing.centers import Separation, bernoulli, hash_centers, separated_centers, separation

PUBLISHED = {(100, 16): 2, (100, 32): 8, (100, 64): 32, (80, 16): 2, (80, 32): 8, (80, 64): 20, (21, 16): 4}
SHAPES = (*PUBLISHED, (1000, 64), (100, 48), (21, 12), (40_000, 64))


@dataclass(frozen=True)
class Tables:
    """How often it is drawn.

    Attributes:
        where: places.
        draws: random tables a shape; one for the largest.
    """

    where: At = PLACES
    draws: int = 20


SCALES: dict[Scale, Tables] = {"cpu": Tables()}


def main(config: Tables) -> dict[str, Any]:
    """Measure every shape, print a table, write the report."""
    run = begin("hash_centers", config)
    rows = {}
    names = ("classes x bits", "published", "paper", "random", "coded", "coded mean")
    print("".join(f"{name:>16}" for name in names))
    for classes, bits in SHAPES:
        key = jax.random.key(0)
        paper = separation(hash_centers(key, classes, bits=bits))
        draws = 1 if classes > 10_000 else config.draws
        tables = (bernoulli(jax.random.key(draw), classes, bits=bits) for draw in range(draws))
        drawn = max(separation(table).minimum for table in tables)
        begun = time.perf_counter()
        coded: Separation = separation(separated_centers(key, classes, bits=bits))
        seconds = time.perf_counter() - begun
        published = PUBLISHED.get((classes, bits))
        rows[f"{classes}x{bits}"] = {
            "published_minimum": published,
            "paper_rule": paper._asdict(),
            "random_best_minimum": drawn,
            "random_draws": draws,
            "coded": coded._asdict(),
            "coded_seconds": seconds,
        }
        cells = (f"{classes} x {bits}", published or "-", paper.minimum, drawn, coded.minimum, round(coded.mean, 3))
        print("".join(f"{cell:>16}" for cell in cells))
    return finish(run, {"draws": config.draws, "centers": rows})


if __name__ == "__main__":
    main(command_line(SCALES))
