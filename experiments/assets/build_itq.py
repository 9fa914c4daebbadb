"""Build the general label-free head of `jcbir.hashing.heads.general_head` from features of research photographs.

    python -m experiments.assets.build_itq --imagenette imagenette_160.npz --tiny tiny_imagenet_64/train_0.npz \
        --folder FEATURES

200 training photographs of each class of imagenette and the first 4,000 of Tiny-ImageNet, through the network of
`jcbir.models.imagenet_resnet50` at 160 pixels (five minutes on a quiet core; `experiments.datasets` keeps what is
done). The file holds their mean, 64 principal axes and ITQ rotations: statistics, no photograph. Caltech-101 and the
ILSVRC2012 validation images of imagenette are left out, so that they can measure it.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
import tyro

from experiments.datasets import pooled_features
from jcbir.data import Source, packed, subset
from jcbir.hashing.heads import itq_rotations, principal_axes
from jcbir.models import imagenet_record, imagenet_resnet50

BITS = (16, 32, 48, 64, 128)


@dataclass(frozen=True)
class Config:
    """What it is fitted on, and where the file goes.

    Attributes:
        imagenette: the packed photographs.
        tiny: the packed photographs of Tiny-ImageNet.
        folder: where features are kept.
        count: photographs of Tiny-ImageNet.
        each: photographs a class of imagenette.
        out: folder of the file and its record.
    """

    imagenette: Path
    tiny: Path
    folder: Path
    count: int = 4000
    each: int = 200
    out: Path = Path("jcbir/models/assets")


def official(source: Source) -> np.ndarray:
    """Positions of imagenette's photographs that are ILSVRC2012 validation images."""
    return np.array([i for i, name in enumerate(source.ids) if "ILSVRC2012_val" in name])


def training(source: Source, *, each: int) -> Source:
    """So many training photographs of each class of imagenette, without the official validation images."""
    g = np.random.default_rng(0)
    apart = official(source)
    chosen = [g.permutation(np.setdiff1d(np.flatnonzero(source.labels == c), apart))[:each] for c in range(10)]
    return subset(source, np.concatenate(chosen))


def main(config: Config) -> dict[str, Any]:
    """Fit and write."""
    network = imagenet_resnet50()
    parts = {
        "imagenette": training(packed(config.imagenette, part="train"), each=config.each),
        "tiny_imagenet": subset(packed(config.tiny), range(config.count)),
    }
    pooled = np.concatenate(
        [pooled_features(source, network, folder=config.folder, label=name) for name, source in parts.items()]
    ).astype(np.float64)
    unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    mean, axes = principal_axes(unit, components=max(BITS) // 2)
    points = (unit - mean) @ axes
    rotations = {bits: itq_rotations(jax.random.key(0), points[:, : bits // 2], bits=bits) for bits in BITS}
    tensors = {"mean": mean, "axes": axes, **{f"rotations_{bits}": turned for bits, turned in rotations.items()}}
    encoded = safetensors.numpy.save({name: np.ascontiguousarray(t, np.float32) for name, t in tensors.items()})
    record = {
        "file": "itq.safetensors",
        "sha256": hashlib.sha256(encoded).hexdigest(),
        "bytes": len(encoded),
        "bits": list(BITS),
        "network_sha256": imagenet_record()["sha256"],
        "size": network.preprocessing.size,
        "photographs": {name: len(source.ids) for name, source in parts.items()},
        "variance_kept": round(float((points**2).sum() / ((unit - mean) ** 2).sum()), 4),
        "script": "experiments/assets/build_itq.py",
        "license": "ImageNet photographs are for non-commercial research; the file holds statistics, not one of them.",
    }
    (config.out / "itq.safetensors").write_bytes(encoded)
    (config.out / "itq.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))
    return record


if __name__ == "__main__":
    main(tyro.cli(Config))
