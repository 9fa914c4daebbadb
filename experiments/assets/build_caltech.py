"""Build the sample of Caltech-101 of `jcbir.data.load_sample` from the packed photographs.

    python -m experiments.assets.build_caltech --caltech caltech101.npz

Twenty kinds that a person tells apart, people's faces left out; squares of 128 pixels from the middle of the
photographs, in one WebP sheet a split. A photograph that repeats an earlier one, byte for byte or as an 8 x 8 thumbnail
within `near` gray levels (root mean square), is passed over. The kinds follow one another in each split, so that a
prefix is balanced. The same Pillow and libwebp give the same bytes. A minute on one core.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from jcbir.data import SAMPLE_SIDE, Source, decode_image, packed, unpack_sheet

KINDS = (
    "Leopards", "Motorbikes", "airplanes", "bonsai", "buddha", "butterfly", "ewer", "hawksbill", "helicopter", "ibis",
    "ketch", "llama", "menorah", "minaret", "scorpion", "starfish", "sunflower", "trilobite", "umbrella", "watch",
)  # fmt: skip
COLUMNS = 20
LIMIT = 14_000_000


@dataclass(frozen=True)
class Config:
    """Which photographs, how many of each kind, and where they go.

    Attributes:
        caltech: the packed photographs.
        out: folder of the sheets and the record.
        train: photographs of a kind to train on.
        database: photographs of a kind to search in.
        query: photographs of a kind to ask with.
        near: thumbnails closer than this count as the same photograph.
        quality: of the WebP sheets.
        seed: of the choice.
    """

    caltech: Path
    out: Path = Path("jcbir/data/assets")
    train: int = 30
    database: int = 38
    query: int = 5
    near: float = 4.0
    quality: int = 85
    seed: int = 0


def choose(source: Source, config: Config) -> tuple[dict[str, list[int]], list[str]]:
    """Positions of each split, kinds in turn, and the photographs that were passed over."""
    counts = {"train": config.train, "database": config.database, "query": config.query}
    g = np.random.default_rng(config.seed)
    digests: set[bytes] = set()
    thumbnails = np.zeros((0, 8, 8, 3), np.float32)
    repeated: list[str] = []
    rows: list[list[int]] = []
    for kind in KINDS:
        row: list[int] = []
        for position in g.permutation(np.flatnonzero(source.labels == source.names.index(kind))).tolist():
            if len(row) == sum(counts.values()):
                break
            encoded = source.read(position)
            digest = hashlib.sha256(encoded).digest()
            thumbnail = decode_image(encoded, size=128).reshape(8, 16, 8, 16, 3).mean((1, 3), dtype=np.float32)
            apart = np.sqrt(((thumbnails - thumbnail) ** 2).mean((1, 2, 3))).min(initial=np.inf)
            if digest in digests or apart < config.near:
                repeated.append(source.ids[position])
                continue
            digests.add(digest)
            thumbnails = np.concatenate([thumbnails, thumbnail[None]])
            row.append(position)
        if len(row) < sum(counts.values()):
            raise ValueError(f"caltech: must hold {sum(counts.values())} photographs of {kind}, got {len(row)}")
        rows.append(row)
    starts = np.cumsum([0, *counts.values()])
    return {
        name: [row[place] for place in range(start, start + counts[name]) for row in rows]
        for name, start in zip(counts, starts, strict=False)
    }, repeated


def write_sheet(images: np.ndarray, path: Path, *, quality: int) -> bytes:
    """One WebP of 20 tiles a row."""
    rows, side = -(-len(images) // COLUMNS), images.shape[1]
    tiles = np.zeros((rows * COLUMNS, side, side, 3), np.uint8)
    tiles[: len(images)] = images
    sheet = tiles.reshape(rows, COLUMNS, side, side, 3).transpose(0, 2, 1, 3, 4)
    picture = Image.fromarray(sheet.reshape(rows * side, COLUMNS * side, 3))
    picture.save(path, "WEBP", quality=quality, method=6)
    with Image.open(path) as opened:
        again = unpack_sheet(np.asarray(opened.convert("RGB")), count=len(images), side=side)
    apart = np.abs(again.astype(np.int16) - images).mean(axis=(1, 2, 3)).max()
    if apart > 12:
        raise ValueError(f"quality: must keep each photograph within 12 gray levels on average, got {apart:.1f}")
    return path.read_bytes()


def main(config: Config) -> None:
    """Choose, write, describe."""
    source = packed(config.caltech)
    chosen, repeated = choose(source, config)
    splits = {}
    for name, positions in chosen.items():
        images = np.stack([decode_image(source.read(position), size=SAMPLE_SIDE) for position in positions])
        encoded = write_sheet(images, config.out / f"caltech101_{name}.webp", quality=config.quality)
        splits[name] = {
            "file": f"caltech101_{name}.webp",
            "sha256": hashlib.sha256(encoded).hexdigest(),
            "bytes": len(encoded),
            "labels": [KINDS.index(source.names[source.labels[position]]) for position in positions],
            "ids": [source.ids[position].split("/", 1)[1] for position in positions],
        }
    size = sum(split["bytes"] for split in splits.values())
    if size > LIMIT:
        raise ValueError(f"splits: must have at most {LIMIT} bytes, got {size}")
    record = {
        "names": [kind.lower() for kind in KINDS],
        "source": {
            "data_set": "Caltech-101: Li, Andreeto, Ranzato and Perona, CaltechDATA, 2022, doi:10.22002/D1.20086",
            "license": "CC BY 4.0; cut square, reduced to 128 pixels and compressed anew",
        },
        "script": "experiments/assets/build_caltech.py",
        "rule": {"near": config.near, "seed": config.seed, "passed_over": repeated},
        "splits": splits,
    }
    (config.out / "caltech101_sample.json").write_text(json.dumps(record, separators=(",", ":")) + "\n")
    print({name: split["bytes"] for name, split in splits.items()}, "passed over:", repeated)


if __name__ == "__main__":
    main(tyro.cli(Config))
