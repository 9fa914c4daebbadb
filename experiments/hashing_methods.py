"""Every hashing method on one backbone, split, budget and recipe: Table 2 of the paper in shape, with spreads.

    python -m experiments.hashing_methods --report experiments/results/hashing_methods.json
    python -m experiments.hashing_methods --tune all --report experiments/results/hashing_methods_all.json
    python -m experiments.hashing_methods --dataset corel5k --source corel5k.npz --size 64 --report corel5k.json
    python -m experiments.hashing_methods --methods csq itq --bits 16 --seeds 1 --epochs 2 --report smoke.json

Deep methods train a two-layer head on the frozen features of the pretrained network (`--tune head`) or fine-tune all of
it (`--tune all`); shallow methods are fitted on those features. All deep methods share optimizer, batch, epochs,
augmentation and the random keys of a seed; none has a setting of its own beyond its authors' defaults. The epoch is
chosen on validation photographs taken from the training set; the queries are looked at once, at the end.
`--runs FOLDER` keeps checkpoints: a comparison that is killed continues where it stood.

Expected: central similarity first or within the spread of first; unsupervised shallow methods clearly behind.
"""

import json
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments import hashing_zoo as zoo
from experiments.hashing_data import Dataset, Part, Task, load_task
from jcbir.codes import pack, pairwise
from jcbir.hashing.augment import crop_and_flip
from jcbir.hashing.encode import encode
from jcbir.hashing.optimizers import two_rates
from jcbir.hashing.training import TrainState, init_state, linen_apply
from jcbir.io.files import write_file
from jcbir.io.runs import best_state, train_run
from jcbir.metrics.curves import precision_recall
from jcbir.metrics.precision import convention, mean_average_precision
from jcbir.metrics.tally import tally
from jcbir.models.backbone import Backbone, attach
from jcbir.models.bundled import bundled
from jcbir.models.preprocessing import preprocess


@dataclass(frozen=True)
class Config:
    """What is compared.

    Fields:
        report: JSON file to write; the precision-recall curves go beside it as `.png`.
        dataset: which photographs.
        source: their file or folder; not needed for `bundled`.
        size: pixels a side the photographs are brought to (`imagenette`, `corel5k`).
        bits: code lengths.
        methods: names in lower case; all of them by default.
        seeds: runs a cell.
        tune: a head on frozen features, or all layers.
        epochs: passes over the training photographs, for every deep method.
        batch: photographs a step.
        rate: learning rate of the head.
        backbone_scale: learning rate of the backbone over the head's.
        validation: training photographs kept out to choose the epoch.
        top: cut-off of mAP.
        backbone: `bundled`, or a name or file that `jcbir.io.backbones.load_backbone` knows.
        runs: folder of checkpoints to continue from; a temporary one by default.
    """

    report: Path
    dataset: Dataset = "bundled"
    source: Path | None = None
    size: int = 64
    bits: tuple[int, ...] = (16, 32, 64)
    methods: tuple[str, ...] = zoo.SHALLOW + zoo.DEEP
    seeds: int = 3
    tune: Literal["head", "all"] = "head"
    epochs: int = 20
    batch: int = 100
    rate: float = 2e-3
    backbone_scale: float = 0.3
    validation: int = 200
    top: int = 1000
    backbone: str = "bundled"
    runs: Path | None = None


class Bench(NamedTuple):
    """What all runs of one configuration share."""

    config: Config
    task: Task
    backbone: Backbone
    features: dict[str, np.ndarray]


class Outcome(NamedTuple):
    """One run."""

    test: float
    validation: float
    seconds: float
    codes: tuple[np.ndarray, np.ndarray]


def main(config: Config) -> dict[str, Any]:
    """Run the comparison, print the table, write report and picture."""
    unknown = set(config.methods) - {*zoo.SHALLOW, *zoo.DEEP}
    if unknown:
        raise SystemExit(f"methods must be among {', '.join(zoo.SHALLOW + zoo.DEEP)}; got {', '.join(sorted(unknown))}")
    bench = prepare(config)
    cells: dict[str, dict[int, list[Outcome]]] = {
        method: {bits: [] for bits in config.bits} for method in config.methods
    }
    total, done, begun = len(config.methods) * len(config.bits) * config.seeds, 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = config.runs or Path(temporary)
        for bits in config.bits:
            for method in config.methods:
                run = (
                    deep_runner(bench, method, bits, folder)
                    if method in zoo.DEEP
                    else partial(shallow, bench, method, bits)
                )
                for seed in range(config.seeds):
                    cells[method][bits].append(run(seed))
                    done += 1
                    outcome, passed = cells[method][bits][-1], time.perf_counter() - begun
                    print(
                        f"{zoo.title(method):10} {bits:3} bits seed {seed}: mAP {outcome.test:.4f} "
                        f"(validation {outcome.validation:.4f}), {outcome.seconds:.1f} s; "
                        f"{done}/{total}, {passed / done * (total - done):.0f} s left",
                        flush=True,
                    )
    report = summarize(bench, cells, seconds=time.perf_counter() - begun)
    print_table(report)
    config.report.parent.mkdir(parents=True, exist_ok=True)
    write_file(config.report, (json.dumps(report, indent=1) + "\n").encode())
    draw_curves(report, config.report.with_suffix(".png"))
    return report


def prepare(config: Config) -> Bench:
    """Data, backbone and its frozen features, computed once."""
    task = load_task(config.dataset, source=config.source, size=config.size, validation=config.validation)
    print(task.protocol, flush=True)
    if config.backbone == "bundled":
        backbone = Backbone(*bundled())
    else:
        from jcbir.io.backbones import load_backbone

        backbone = load_backbone(config.backbone)
    side = task.train.images.shape[1]
    if backbone.preprocessing.resize is None and backbone.preprocessing.size != side:
        # Convolutions and a mean over the pixels take any size.
        backbone = backbone._replace(preprocessing=replace(backbone.preprocessing, size=side))

    def apply(variables: Any, images: Any) -> Any:
        return backbone.module.apply(variables, preprocess(images, backbone.preprocessing)).pooled

    apply = jax.jit(apply)
    parts = {name: getattr(task, name).images for name in ("train", "validation", "database", "query")}
    features = {name: encode(apply, backbone.variables, images, batch=200) for name, images in parts.items()}
    center, spread = features["train"].mean(0), features["train"].std(0) + 1e-6
    return Bench(config, task, backbone, {name: (value - center) / spread for name, value in features.items()})


def shallow(bench: Bench, method: str, bits: int, seed: int) -> Outcome:
    """Fit on the frozen features of the training photographs."""
    begun = time.perf_counter()
    key = jax.random.fold_in(jax.random.key(seed), bits)
    codes_of = zoo.fit_shallow(method, key, bench.features["train"], bench.task.train.labels, bits=bits)
    seconds = time.perf_counter() - begun
    return outcome_of(bench, {name: codes_of(value) for name, value in bench.features.items()}, seconds)


def deep_runner(bench: Bench, method: str, bits: int, folder: Path):
    """A function of the seed; compiles the method's step and encoder once for all seeds."""
    config, task = bench.config, bench.task
    train_apply, encode_apply, init, inputs = network(bench, bits)
    batch = min(config.batch, len(task.train.images))
    per_epoch = len(task.train.images) // batch
    optimizer = two_rates(steps_per_epoch=per_epoch, rate=config.rate, backbone_scale=config.backbone_scale)
    classes = task.train.labels.shape[1]
    step = zoo.step_of(
        method, apply=train_apply, optimizer=optimizer, classes=classes, bits=bits, steps=per_epoch * config.epochs,
        augment=crop_and_flip if config.tune == "all" else None,
    )  # fmt: skip

    def codes_of(state: TrainState, name: str) -> np.ndarray:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        return encode(encode_apply, variables, inputs[name], batch=200) >= 0

    def validate(state: TrainState) -> dict[str, float]:
        names = ("validation", "train") if task.searches_train else ("validation",)
        return {"validation": score_validation(bench, {name: codes_of(state, name) for name in names})}

    def run(seed: int) -> Outcome:
        begun = time.perf_counter()
        key, init_key, target_key, class_key = jax.random.split(jax.random.key(seed), 4)
        variables = init(init_key)
        params = zoo.with_classifier(method, class_key, variables["params"], classes=classes, bits=bits)
        fresh = init_state(key, {**variables, "params": params}, optimizer=optimizer)
        targets = zoo.targets_of(method, target_key, task.train.labels, bits=bits)
        about = {"config": about_run(config), "method": method, "bits": bits, "seed": seed}
        place = folder / f"{config.dataset}-{config.tune}-{method}-{bits}-{seed}"
        train_run(
            place, fresh, inputs["train"], targets, step=step, epochs=config.epochs, batch=batch, about=about,
            validate=validate, monitor="validation",
        )  # fmt: skip
        state = best_state(place, fresh, about=about)
        seconds = time.perf_counter() - begun
        return outcome_of(bench, {name: codes_of(state, name) for name in inputs}, seconds)

    return run


def network(bench: Bench, bits: int):
    """Training and evaluation `apply`, initialization, and inputs: all layers, or a head on the frozen features."""
    if bench.config.tune == "all":
        module = bench.backbone.module.clone(classes=0, bits=bits)
        record = bench.backbone.preprocessing
        inner = linen_apply(module, select=lambda outputs: outputs.hash_logits)
        inputs = {name: getattr(bench.task, name).images for name in bench.features}
        return (
            lambda variables, images, key: inner(variables, preprocess(images, record), key),
            jax.jit(lambda variables, images: module.apply(variables, preprocess(images, record)).hash_logits),
            lambda key: attach(key, bench.backbone, module).variables,
            inputs,
        )
    width = bench.features["train"].shape[1]

    def head(variables: Any, rows: Any) -> Any:
        first, second = variables["params"]["hash_hidden"], variables["params"]["hash"]
        hidden = jax.nn.relu(rows[:, 0, 0] @ first["kernel"] + first["bias"])
        return hidden @ second["kernel"] + second["bias"]

    def init(key: jax.Array) -> dict[str, Any]:
        one, two = jax.random.split(key)
        hidden = {"kernel": jax.random.normal(one, (width, width)) * (2 / width) ** 0.5, "bias": jnp.zeros((1, width))}
        last = {"kernel": jax.random.normal(two, (width, bits)) * (1 / width) ** 0.5, "bias": jnp.zeros((1, bits))}
        return {"params": {"hash_hidden": hidden, "hash": last}}

    inputs = {name: value[:, None, None, :] for name, value in bench.features.items()}
    return lambda variables, rows, key: (head(variables, rows), {}), jax.jit(head), init, inputs


def about_run(config: Config) -> dict[str, Any]:
    """The part of the configuration that a checkpoint depends on."""
    kept = asdict(config)
    for name in ("report", "runs", "source", "bits", "methods", "seeds", "top"):
        kept.pop(name)
    return kept


def outcome_of(bench: Bench, codes: dict[str, np.ndarray], seconds: float) -> Outcome:
    """Score a run on the validation photographs and on the queries."""
    return Outcome(
        score(bench, codes["query"], codes["database"], "query", "database"),
        score_validation(bench, codes),
        seconds,
        (codes["query"], codes["database"]),
    )


def score(bench: Bench, asked: np.ndarray, stored: np.ndarray, ask: str, store: str) -> float:
    """mAP of codes that ask codes that are stored; two photographs are relevant when they share a class."""
    distances, relevant = ranked(asked, stored, getattr(bench.task, ask), getattr(bench.task, store))
    top = min(bench.config.top, len(stored))
    return mean_average_precision(distances, relevant, top=top, bits=asked.shape[1]).value


def score_validation(bench: Bench, codes: dict[str, np.ndarray]) -> float:
    """mAP of the validation photographs in what stands for the database.

    Where the database is the training set, that is searched. Where it is not, training photographs would flatter every
    method that fits them: then each validation photograph searches the other ones.
    """
    if bench.task.searches_train:
        return score(bench, codes["validation"], codes["train"], "validation", "train")
    part, bits = bench.task.validation, codes["validation"].shape[1]
    distances, relevant = ranked(codes["validation"], codes["validation"], part, part)
    others = ~np.eye(len(distances), dtype=bool)
    distances, relevant = (matrix[others].reshape(len(others), -1) for matrix in (distances, relevant))
    top = min(bench.config.top, len(distances) - 1)
    return mean_average_precision(distances, relevant, top=top, bits=bits).value


def ranked(asked: np.ndarray, stored: np.ndarray, ask: Part, store: Part) -> tuple[np.ndarray, np.ndarray]:
    """Hamming distances and relevance."""
    relevant = ask.labels.astype(np.float32) @ store.labels.astype(np.float32).T > 0
    return np.asarray(pairwise(pack(asked), pack(stored))), relevant


def summarize(bench: Bench, cells: dict[str, dict[int, list[Outcome]]], *, seconds: float) -> dict[str, Any]:
    """The report: means, spreads, curves at the longest code, and what it was run with."""

    def cell(outcomes: list[Outcome], field: str) -> dict[str, Any]:
        values = [getattr(outcome, field) for outcome in outcomes]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        return {"mean": float(np.mean(values)), "spread": spread, "values": values}

    longest = max(bench.config.bits)
    curves = {}
    for method, by_bits in cells.items():
        counts = tally(*ranked(*by_bits[longest][0].codes, bench.task.query, bench.task.database), bits=longest)
        curve = precision_recall(counts)
        kept = ~np.isnan(curve.precision)
        curves[method] = {"recall": curve.recall[kept].tolist(), "precision": curve.precision[kept].tolist()}
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(bench.config).items()}
    # Where the files lay says nothing to a reader.
    settings = {name: value for name, value in settings.items() if name not in ("report", "runs", "source")}
    grid = {
        field: {m: {str(bits): cell(runs, field) for bits, runs in row.items()} for m, row in cells.items()}
        for field in ("test", "validation", "seconds")
    }
    return {
        "map": grid["test"],
        "map_validation": grid["validation"],
        "seconds_by_run": grid["seconds"],
        "convention": convention(top=bench.config.top),
        "protocol": bench.task.protocol,
        "config": settings,
        "curves": {"bits": longest, "seed": 0, "methods": curves},
        "seconds": seconds,
        "versions": {name: version(name) for name in ("jax", "flax", "optax", "numpy")},
    }


def print_table(report: dict[str, Any]) -> None:
    """One row a method, one column a code length, mean and standard deviation over the seeds."""
    lengths = list(next(iter(report["map"].values())))
    print(f"\n{report['convention']}, {report['protocol']}")
    print(f"{'method':12}" + "".join(f"{length + ' bits':>18}" for length in lengths))
    for method, row in report["map"].items():
        cells = "".join(f"{row[length]['mean']:10.4f} ±{row[length]['spread']:6.4f}" for length in lengths)
        print(f"{zoo.title(method):12}{cells}")
    for length in lengths:
        order = sorted(report["map"], key=lambda method: -report["map"][method][length]["mean"])
        print(f"{length} bits: {' > '.join(zoo.title(method) for method in order[:4])}")


def draw_curves(report: dict[str, Any], path: Path) -> None:
    """Precision against recall over Hamming radii, one line a method."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    colors = plt.get_cmap("tab20")
    for index, (method, curve) in enumerate(report["curves"]["methods"].items()):
        style = "--" if method in zoo.SHALLOW else "-"
        axes.plot(
            curve["recall"], curve["precision"], style, label=zoo.title(method), color=colors(index), linewidth=1.4
        )
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"{report['curves']['bits']} bits, {report['config']['dataset']}, by Hamming radius", fontsize=10)
    axes.legend(fontsize=7, ncols=2)
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    main(tyro.cli(Config))
