"""Build what `jcbir.hashing.heads` knows of research photographs: `general_head` and `research_whitening`.

    python -m experiments.assets.build_heads --imagenette imagenette_160.npz --tiny tiny_imagenet_64/train_0.npz \
        --folder FEATURES

200 training photographs of each class of imagenette and the first 4,000 of Tiny-ImageNet, through the network of
`jcbir.models.imagenet_resnet50` at 160 pixels (fifteen minutes on a quiet core; `experiments.datasets` keeps what is
done). The file holds 64 directions within their 210 classes, 128 principal axes, and label-free weights for each code
length: statistics, no photograph. Caltech-101 and the ILSVRC2012 validation images of imagenette are left out, so that
they can measure it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
import tyro

from experiments.datasets import pooled_features
from jcbir.data import Source, packed, subset
from jcbir.hashing.heads import LEARNED_FROM, Whitening, fit_label_free, fit_whitening
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


def fit_research(
    features: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]
) -> tuple[Whitening, dict[str, np.ndarray]]:
    """The whitening of all classes of all sets, and every tensor of the file."""
    rows = np.concatenate(list(features.values()))
    first = np.cumsum([0, *(int(labels[name].max()) + 1 for name in features)])
    numbers = np.concatenate([first[i] + labels[name].astype(int) for i, name in enumerate(features)])
    whitening = fit_whitening(rows, numbers)
    heads = {bits: fit_label_free(jax.random.key(0), rows, bits=bits, whitening=whitening) for bits in BITS}
    # All of them lie in the span of the axes that the fits learned from.
    axes = np.linalg.svd(np.concatenate([head.projection for head in heads.values()], 1).astype(np.float64))[0]
    axes = axes[:, :LEARNED_FROM]
    tensors = {"whitening_axes": whitening.axes, "whitening_share": whitening.share, "axes": axes}
    for bits, head in heads.items():
        # A bit is a sign: its weights are scaled to what half precision holds.
        weights = axes.T @ head.projection
        scale = np.abs(weights).max()
        tensors |= {f"weights_{bits}": weights / scale, f"bias_{bits}": head.bias / scale}
    return whitening, tensors


def main(config: Config) -> dict[str, Any]:
    """Fit and write."""
    network = imagenet_resnet50()
    parts = {
        "imagenette": training(packed(config.imagenette, part="train"), each=config.each),
        "tiny_imagenet": subset(packed(config.tiny), range(config.count)),
    }
    features = {
        name: pooled_features(source, network, folder=config.folder, label=name) for name, source in parts.items()
    }
    whitening, tensors = fit_research(features, {name: source.labels for name, source in parts.items()})
    encoded = safetensors.numpy.save({name: np.ascontiguousarray(t, np.float16) for name, t in tensors.items()})
    record = {
        "file": "heads.safetensors",
        "sha256": hashlib.sha256(encoded).hexdigest(),
        "bytes": len(encoded),
        "bits": list(BITS),
        "network_sha256": imagenet_record()["sha256"],
        "size": network.preprocessing.size,
        "photographs": {name: len(source.ids) for name, source in parts.items()},
        "whitening_share": [round(float(share), 4) for share in whitening.share[[0, 7, 15, 31]]],
        "script": "experiments/assets/build_heads.py",
        "license": "ImageNet photographs are for non-commercial research; the file holds statistics, not one of them.",
    }
    (config.out / "heads.safetensors").write_bytes(encoded)
    (config.out / "heads.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))
    return record


if __name__ == "__main__":
    main(tyro.cli(Config))
