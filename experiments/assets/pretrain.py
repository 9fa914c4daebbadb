"""Pretrain the network that the package carries, on Tiny-ImageNet at 32 x 32.

    python -m experiments.assets.pretrain --images tiny_imagenet_64 [--report FILE.json]
    python -m experiments.assets.pretrain --images tiny_imagenet_64 --export-only     # weights of the last checkpoint

Cross-entropy over 200 classes; SGD with Nesterov momentum under a warmed-up cosine; shifted crops and mirror images;
photographs halved from 64 to 32 pixels by area averaging. The state is written after every epoch and depends on the
configuration alone: a run that is killed and started again ends in the same weights as one that was not.

Hardware and time: `seconds` and `images_per_second` in the record beside the weights. Source and target domains differ
on purpose: no CIFAR-10 photograph is seen here.
"""

import hashlib
import io
import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import safetensors.numpy
import tyro
from PIL import Image

from experiments.assets.cifar10 import load_sample
from jcbir import models
from jcbir.hashing import (
    Progress,
    TrainState,
    crop_and_flip,
    init_state,
    linen_apply,
    state_from_bytes,
    train_step,
)
from jcbir.models import Preprocessing, preprocess
from jcbir.storage import train_run

TRAIN_FILES = ("train_0.npz", "train_1.npz")
HELD_OUT_FILES = ("val_0.npz",)
CLASSES = 200
PREPROCESSING = Preprocessing(size=32)


@dataclass(frozen=True)
class Config:
    """What is trained and how long.

    Attributes:
        images: folder of Tiny-ImageNet packed as `train_0.npz`, `train_1.npz`, `val_0.npz`.
        stages: blocks in each stage of `models.small`.
        width: channels of the first stage.
        stem_stride: stride of the 3x3 stem.
        epochs: passes over the training images.
        batch: images a step.
        rate: peak learning rate.
        weight_decay: on kernels only.
        smoothing: label smoothing; none by default: it costs transfer (Kornblith et al., 2021), and this run underfits.
        number: of the PRNG key.
        limit: use this many training images (a class-balanced prefix); None for all.
        run: folder of the checkpoint.
        out: folder of the weights and their record.
        export_only: write the weights of the last checkpoint and stop.
        report: also write the record to this JSON file.
    """

    images: Path
    stages: tuple[int, ...] = (1, 1, 1, 1)
    width: int = 32
    stem_stride: int = 2
    epochs: int = 16
    batch: int = 64
    rate: float = 0.1
    weight_decay: float = 5e-4
    smoothing: float = 0.0
    number: int = 0
    limit: int | None = None
    run: Path = Path("runs/pretrain")
    out: Path = Path("jcbir/models/assets")
    export_only: bool = False
    report: Path | None = None


def recipe(config: Config) -> dict[str, Any]:
    """The fields that decide the weights, as JSON."""
    places = ("images", "run", "out", "export_only", "report")
    return json.loads(json.dumps({name: value for name, value in asdict(config).items() if name not in places}))


# ---------------------------------------------------------------------------------------------------------- images


def read_packed(folder: Path, files: tuple[str, ...], limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Decode packed photographs, halved by area averaging."""
    images, labels = [], []
    for name in files:
        with np.load(folder / name) as packed:
            blob, offsets = packed["blob"], packed["offsets"]
            for first, last in itertools.pairwise(offsets):
                with Image.open(io.BytesIO(blob[first:last].tobytes())) as opened:
                    images.append(np.asarray(opened.convert("RGB").reduce(2)))
            labels.append(packed["labels"])
    if not files:
        return np.zeros((0, 32, 32, 3), np.uint8), np.zeros(0, np.int32)
    return np.stack(images[:limit]), np.concatenate(labels).astype(np.int32)[:limit]


# -------------------------------------------------------------------------------------------------------- training


def build(config: Config, steps: int) -> tuple[Any, TrainState, Callable]:
    """Network, first state, and the step."""
    module = models.small(stages=config.stages, width=config.width, stem_stride=config.stem_stride, classes=CLASSES)
    key = jax.random.key(config.number)
    variables = jax.jit(module.init)(key, jnp.zeros((1, 32, 32, 3)))
    schedule = optax.warmup_cosine_decay_schedule(0.0, config.rate, steps // 20, steps, config.rate / 1000)
    kernels = partial(jax.tree.map, lambda leaf: leaf.ndim > 1)
    optimizer = optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask=kernels),
        optax.sgd(schedule, momentum=0.9, nesterov=True),
    )
    network = linen_apply(module, select=lambda outputs: outputs.logits)

    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        targets = optax.smooth_labels(jax.nn.one_hot(labels, CLASSES), config.smoothing)
        return optax.softmax_cross_entropy(logits, targets)

    def apply(variables: Any, images: jax.Array, key: jax.Array) -> tuple[Any, Any]:
        return network(variables, preprocess(images, PREPROCESSING), key)

    step = partial(train_step, apply=apply, loss=loss, optimizer=optimizer, augment=crop_and_flip)
    return module, init_state(key, variables, optimizer=optimizer), step


def train(config: Config, images: np.ndarray, labels: np.ndarray) -> tuple[Any, TrainState, float]:
    """Run to the end from the last checkpoint, or from the start; returns the seconds of all sittings."""
    module, state, step = build(config, max(1, config.epochs * (len(images) // config.batch)))

    def progress(now: Progress, rate: float, left: float) -> None:
        if now.step % 200 == 0:
            print(f"{now.step}/{now.steps} loss {now.metrics['loss']:.3f}, {rate:.0f} a second, {left:.0f} s left")

    if config.export_only:
        saved = (config.run / "state.safetensors").read_bytes()
        lines = [json.loads(line) for line in (config.run / "metrics.jsonl").read_text().splitlines()]
        state = state_from_bytes(saved, like=state, about=recipe(config))
    else:
        state, lines = train_run(
            config.run,
            state,
            images,
            labels,
            step=step,
            epochs=config.epochs,
            batch=config.batch,
            about=recipe(config),
            progress=progress,
        )
    # Seconds are those of a sitting: where they fall, another one begins.
    spent = [line["seconds"] for line in lines]
    return module, state, sum(now for now, after in zip(spent, [*spent[1:], 0.0], strict=True) if after < now)


# ---------------------------------------------------------------------------------------------------------- results


def outputs_of(module: Any, variables: Any, images: np.ndarray, batch: int = 500) -> models.Outputs:
    """Logits and pooled features; features are left out, they would not fit."""
    apply = jax.jit(lambda images: module.apply(variables, preprocess(images, PREPROCESSING))._replace(features=None))
    parts = [apply(images[first : first + batch]) for first in range(0, len(images), batch)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def top_share(logits: np.ndarray, labels: np.ndarray, top: int) -> float:
    """Share of images whose label is among the `top` highest scores."""
    return float((np.argsort(-logits, axis=1, kind="stable")[:, :top] == labels[:, None]).any(1).mean())


def cosine_map(module: Any, variables: Any) -> float:
    """mAP of the pooled features on the bundled sample, ranked by cosine around the database's mean."""
    task = load_sample()
    database, query = (outputs_of(module, variables, part.images).pooled for part in (task.database, task.query))
    center = database.mean(0)
    database, query = (
        (part - center) / np.linalg.norm(part - center, axis=1, keepdims=True) for part in (database, query)
    )
    order = np.argsort(-(query @ database.T), axis=1, kind="stable")
    relevant = task.database.labels[order] == task.query.labels[:, None]
    precision = relevant.cumsum(1) / np.arange(1, len(database) + 1)
    return float(((precision * relevant).sum(1) / relevant.sum(1)).mean())


def weights(variables: Any) -> dict[str, np.ndarray]:
    """Tensors by name without the classifier: kernels in float16, BatchNorm in float32."""
    tensors = {}
    for path, leaf in flax.traverse_util.flatten_dict(variables, sep="/").items():
        if not path.startswith("params/fc/"):
            tensors[path] = np.asarray(leaf, np.float16 if path.endswith("kernel") else np.float32)
    return tensors


def export(config: Config, module: Any, state: TrainState, seconds: float) -> dict[str, Any]:
    """Measure, write the weights and the record beside them."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    tensors = weights(variables)
    # What is measured is what is shipped.
    rounded = {**flax.traverse_util.flatten_dict(variables, sep="/")}
    rounded.update({name: tensor.astype(np.float32) for name, tensor in tensors.items()})
    rounded = flax.traverse_util.unflatten_dict(rounded, sep="/")
    images, labels = read_packed(config.images, HELD_OUT_FILES)
    logits = outputs_of(module, rounded, images).logits
    untrained = jax.jit(module.init)(jax.random.key(config.number), jnp.zeros((1, 32, 32, 3)))
    encoded = safetensors.numpy.save(tensors)
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "small.safetensors").write_bytes(encoded)
    files = {
        name: hashlib.sha256((config.images / name).read_bytes()).hexdigest() for name in TRAIN_FILES + HELD_OUT_FILES
    }
    record = {
        "file": "small.safetensors",
        "sha256": hashlib.sha256(encoded).hexdigest(),
        "module": {"stages": config.stages, "width": config.width, "stem_stride": config.stem_stride},
        "preprocessing": asdict(PREPROCESSING),
        "parameters": int(
            sum(leaf.size for leaf in jax.tree.leaves(state.params)) - state.params["fc"]["kernel"].size - CLASSES
        ),
        "script": "experiments/assets/pretrain.py",
        "config": recipe(config),
        "steps": int(state.step),
        "seconds": round(seconds, 1),
        "images_per_second": round(int(state.step) * config.batch / seconds, 1) if seconds else None,
        "date": datetime.now(UTC).date().isoformat(),
        "source": {
            "data_set": "Tiny-ImageNet (Stanford CS231n): 200 ImageNet classes, 64 x 64, half of its training images",
            "sha256": files,
            "license": "ImageNet photographs are for non-commercial research; the weights contain none.",
        },
        "held_out": {
            "file": HELD_OUT_FILES[0],
            "images": len(labels),
            "top1": top_share(logits, labels, 1),
            "top5": top_share(logits, labels, 5),
        },
        "bundled_sample_cosine_map": {
            "convention": "mAP@all over 2,000, pooled features, centered cosine, no fine-tuning",
            "pretrained": cosine_map(module, rounded),
            "random": cosine_map(module, untrained),
        },
        "versions": {"jax": jax.__version__, "flax": flax.__version__, "optax": optax.__version__},
    }
    text = json.dumps(record, indent=1) + "\n"
    (config.out / "small.json").write_text(text)
    if config.report:
        config.report.write_text(text)
    return record


def main(config: Config) -> None:
    """Run it."""
    files = () if config.export_only else TRAIN_FILES
    images, labels = read_packed(config.images, files, config.limit)
    module, state, seconds = train(config, images, labels)
    print(json.dumps(export(config, module, state, seconds), indent=1))


if __name__ == "__main__":
    main(tyro.cli(Config))
