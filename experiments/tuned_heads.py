"""What fine-tuning below the hash head is worth on a small album: `jcbir owner train --tune none | last | all`.

    python -m experiments.tuned_heads --caltech caltech101.npz --report experiments/results/tuned_heads.json

Photographs of some kinds of Caltech-101, which the network has not been trained on, lie in a folder for each kind, and
`jcbir.cli.training.train_network`, which the command runs, learns from them and measures itself on those that it keeps
out, the same for each part. The label-free head beside it is fitted on the features of the same network, tuned or not.
Ten minutes on one core.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np

from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir.cli.training import train_network
from jcbir.data import packed


@dataclass(frozen=True)
class Tuning:
    """What to learn from.

    Attributes:
        where: places.
        caltech: the packed photographs.
        kinds: how many, of those that have enough.
        each: photographs of each.
        parts: of the network that are trained.
        epochs: of each training.
        size: pixels a side.
        seed: of the choice, and of training.
    """

    where: At = PLACES
    caltech: Path = Path("caltech101.npz")
    kinds: int = 10
    each: int = 24
    parts: tuple[str, ...] = ("none", "last", "all")
    epochs: int = 4
    size: int = 160
    seed: int = 0


SCALES: dict[Scale, Tuning] = {"cpu": Tuning(), "smoke": Tuning(kinds=2, each=12, parts=("last",), epochs=1, size=64)}


def write_album(folder: Path, config: Tuning) -> None:
    """A folder for each kind."""
    source, g = packed(config.caltech), np.random.default_rng(config.seed)
    enough = np.flatnonzero(np.bincount(source.labels) >= config.each)
    for kind in g.permutation(enough)[: config.kinds]:
        place = folder / source.names[kind]
        place.mkdir(parents=True)
        for position in g.permutation(np.flatnonzero(source.labels == kind))[: config.each]:
            (place / f"{position}.jpg").write_bytes(source.read(int(position)))


def main(config: Tuning) -> dict[str, Any]:
    """Train each part, and report what the command would print."""
    run = begin("tuned_heads", config)
    rows = {}
    with TemporaryDirectory() as folder:
        album = Path(folder, "album")
        write_album(album, config)
        for part in config.parts:
            begun, used = time.perf_counter(), time.process_time()
            found = train_network(
                jax.random.key(config.seed),
                Path(folder, f"{part}.safetensors"),
                folder=album,
                labels=None,
                label_free=False,
                tune=part,  # type: ignore[arg-type]
                epochs=config.epochs,
                bits=64,
                backbone=None,
                size=config.size,
                advance=lambda done, total: None,
            )
            if found["skipped"]:
                raise ValueError(f"caltech: must hold photographs that can be read, got {found['skipped'][0]}")
            rows[part] = {
                "seconds": round(time.perf_counter() - begun, 1),
                "processor_seconds": round(time.process_time() - used, 1),
                "megabytes": round(Path(folder, f"{part}.safetensors").stat().st_size / 1e6, 1),
                **{name: found[name] for name in ("photographs", "kept_out", "classes", "figures", "warnings")},
            }
            print(part, rows[part], flush=True)
    return finish(run, {"parts": rows})


if __name__ == "__main__":
    main(command_line(SCALES))
