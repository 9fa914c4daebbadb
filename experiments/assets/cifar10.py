"""The sample of CIFAR-10 of the experiments and of the tests of small networks: 2,000 photographs to train on, 2,000 to
search in, 200 to ask with, at 32 pixels.

Lossless WebP sheets built by `experiments.assets.build_cifar10`; which photographs is the split `cifar10-sample` of
`jcbir.data`. Training and database images come from CIFAR-10's training set, queries from its test set; every ten in a
row hold the ten classes.
"""

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jcbir.data import Sample, Split, unpack_sheet

SIDE = 32
RECORD = resources.files("jcbir.data") / "assets" / "cifar10_sample.json"


def sample_record() -> dict[str, Any]:
    """Source package, hashes, rule of choice, labels and positions."""
    return json.loads(RECORD.read_text())


def load_sample() -> Sample:
    """Read the sample; ids are CIFAR-10's set and position, `test/00042`."""
    about = sample_record()
    return Sample(**{name: _split(entry) for name, entry in about["splits"].items()}, names=tuple(about["names"]))


def _split(entry: dict[str, Any]) -> Split:
    path = Path(__file__).parent / entry["file"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != entry["sha256"]:
        raise ValueError(f"{entry['file']}: must have SHA-256 {entry['sha256']}, got {digest}")
    with Image.open(path) as opened:
        sheet = np.asarray(opened.convert("RGB"))
    ids = tuple(f"{entry['part']}/{position:05d}" for position in entry["positions"])
    return Split(unpack_sheet(sheet, count=len(ids), side=SIDE), np.asarray(entry["labels"], np.int32), ids)
