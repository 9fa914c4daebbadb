"""The whole of it in one process: learn, hash, publish, search by every scheme, compare, draw."""

import importlib.metadata
import json
import platform
import resource
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int32
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from jcbir.cli.demo.options import DemoOptions
from jcbir.cli.demo.picture import Answer, contact_sheet
from jcbir.cli.demo.search import Found, Ledger, Parties, establish, search, timed
from jcbir.cli.demo.tables import print_report
from jcbir.cli.network import training_apply
from jcbir.codes import pack, pairwise
from jcbir.data import SAMPLE_SIDE, Sample, Split, class_folders, load_sample, read_image
from jcbir.hashing import fine_tune, hash_images
from jcbir.hashing.centers import class_targets, hash_centers
from jcbir.metrics import mean_average_precision
from jcbir.models import bundled, untrained
from jcbir.paillier.secret import generate_keys
from jcbir.protocol import owner, user
from jcbir.protocol.leakage import describe
from jcbir.ranking._decode import rank

INTEGER_QUERIES = 1
"""The paper's scheme decrypts once per image and query: so many queries run encrypted, all by its rule in clear."""

PICTURE_SIDE = 256
"""Photographs from a folder are sealed at this longer side at most."""

DRAWN = 5
"""Queries in the picture."""


class Hashed(NamedTuple):
    """Codes of database and queries by one network."""

    database: Bool[np.ndarray, "n k"]
    query: Bool[np.ndarray, "q k"]


def run_demo(options: DemoOptions, *, console: Console) -> dict[str, Any]:
    """Run the main job and print its table.

    Args:
        options: what to run.
        console: where to print and to show progress.

    Returns:
        The report: `map_plain`, `map`, `order_identical`, `seconds`, `bytes`, `peak_rss_mb`, `versions` and more.

    Raises:
        ValueError: options out of range, or a folder that holds no usable collection.

    Example:
        >>> DemoOptions().bits
        64
    """
    _check_options(options)
    ledger = Ledger([], {}, {})
    with timed(ledger, "all"):
        with timed(ledger, "load photographs"):
            sample = _load(options, console)
        with timed(ledger, "fine-tune twice, hash images"):
            pretrained, scratch = _learn_both(options, sample, console)
        with timed(ledger, "make keys"):
            key = generate_keys(bits=options.modulus_bits, draw=secrets.token_bytes)
        own = owner.create(collection="demo", bits=options.bits, secret=key, draw=secrets.token_bytes)
        schemes = ("bitsliced", "packed", "integer")
        console.print(f"encrypting {len(pretrained.database)} codes three ways, sealing as many images ...")
        images = _pictures(options, sample.database)
        parties = establish(
            own, pretrained.database, images, sample.database.ids, schemes=schemes, top=options.top, ledger=ledger
        )
        answers = {}
        for scheme in schemes:
            asked = pretrained.query[:INTEGER_QUERIES] if scheme == "integer" else pretrained.query
            console.print(f"answering {len(asked)} encrypted queries by {scheme} ...")
            parties, answers[scheme] = search(parties, asked, scheme=scheme, top=options.top, ledger=ledger)
        report = _evaluate(sample, pretrained, scratch, parties, answers)
        _draw(options, sample, parties, answers[options.scheme], report)
    report |= {
        "options": {name: _plain(value) for name, value in vars(options).items()},
        "sizes": {"train": len(sample.train.ids), "database": len(sample.database.ids), "query": len(sample.query.ids)},
        "seconds": {phase: round(value, 3) for phase, value in ledger.seconds.items()},
        "bytes": ledger.sizes,
        "leakage": describe(ledger.transcript),
        "peak_rss_mb": _peak_rss(),
        "versions": _versions(),
    }
    print_report(report, console=console)
    if options.report is not None:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(json.dumps(report, indent=2) + "\n")
        console.print(f"report: {options.report}")
    console.print(f"picture: {options.out}")
    return report


def _check_options(options: DemoOptions) -> None:
    for name in ("epochs", "top", "per_class"):
        if getattr(options, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(options, name)}")
    for path in (options.out, options.report):
        if path is not None and path.is_dir():
            raise ValueError(f"{path} is a folder; name the file to write")


def _load(options: DemoOptions, console: Console) -> Sample:
    if options.images is None:
        sample = load_sample()
    else:
        sample, skipped = class_folders(options.images, size=SAMPLE_SIDE, per_class=options.per_class)
        for file in skipped:
            console.print(f"[yellow]skipped[/] {file.path}: {file.reason}", markup=True, highlight=False)
        if skipped:
            console.print(f"[yellow]{len(skipped)} files skipped[/]")
    if options.top > len(sample.database.ids):
        raise ValueError(
            f"top must be at most the {len(sample.database.ids)} images of the database, got {options.top}"
        )
    return sample


def _pictures(options: DemoOptions, split: Split) -> list[np.ndarray]:
    """What is sealed: of a user's own photographs not the squares that the network sees, but the pictures, reduced."""
    if options.images is None:
        return list(split.images)
    pictures = []
    for name in split.ids:
        pictures.append(read_image(options.images / name, longest_side=PICTURE_SIDE))
    return pictures


def _learn_both(options: DemoOptions, sample: Sample, console: Console) -> tuple[Hashed, Hashed]:
    """Fine-tune from pretrained and from random weights, a core each: XLA's own threads do not fill two."""
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  {task.fields[rate]:.0f} images/s"),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=console) as bar, ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(_learn, options, sample, bar, initial=initial) for initial in ("pretrained", "random")]
        pretrained, scratch = (run.result() for run in runs)
    return pretrained, scratch


def _learn(options: DemoOptions, sample: Sample, bar: Progress, *, initial: str) -> Hashed:
    key = jax.random.key(options.seed)
    network = bundled(bits=options.bits, key=key) if initial == "pretrained" else untrained(key, bits=options.bits)
    centers = hash_centers(key, len(sample.names), bits=options.bits)
    task = bar.add_task(f"fine-tune from {initial} weights", total=None, loss=float("nan"), rate=0.0)
    start = time.perf_counter()

    def show(progress: Any) -> None:
        rate = progress.step * progress.images / (time.perf_counter() - start)
        bar.update(task, completed=progress.step, total=progress.steps, loss=progress.metrics["loss"], rate=rate)

    variables = fine_tune(
        key,
        sample.train.images,
        class_targets(sample.train.labels, centers),
        apply=training_apply(network),
        variables=network.variables,
        epochs=options.epochs,
        progress=show,
    )
    both = np.concatenate([sample.database.images, sample.query.images])
    codes = hash_images(network._replace(variables=variables), both)
    return Hashed(codes[: len(sample.database.ids)], codes[len(sample.database.ids) :])


def _evaluate(
    sample: Sample, pretrained: Hashed, scratch: Hashed, parties: Parties, answers: dict[str, Found]
) -> dict[str, Any]:
    relevant = sample.query.labels[:, None] == sample.database.labels[None, :]
    plain = _hamming(pretrained)
    rule = _integer_ranks(pretrained, parties)
    used = {"bitsliced": answers["bitsliced"].distances, "packed": answers["packed"].distances, "integer": rule}
    expected = {"bitsliced": plain, "packed": plain, "integer": rule[:INTEGER_QUERIES]}
    score = {name: mean_average_precision(distances, relevant) for name, distances in used.items()}
    reference = mean_average_precision(plain, relevant)
    return {
        "convention": reference.convention,
        "map_plain": reference.value,
        "map_random_init": mean_average_precision(_hamming(scratch), relevant).value,
        "map": {name: value.value for name, value in score.items()},
        # The order against plaintext Hamming distance, ties by index: what a user would see.
        "order_identical": {
            name: _same_order(answers[name].distances, plain[: len(answers[name].distances)]) for name in used
        },
        # What was decrypted against the same arithmetic in clear: the cryptography changes nothing.
        "decrypted_equal_plain": {name: bool(np.array_equal(answers[name].distances, expected[name])) for name in used},
        "encrypted_queries": {name: len(answers[name].distances) for name in used},
    }


def _hamming(hashed: Hashed) -> Int32[np.ndarray, "q n"]:
    return np.asarray(pairwise(pack(hashed.query), pack(hashed.database)))


def _integer_ranks(hashed: Hashed, parties: Parties) -> Int32[np.ndarray, "q n"]:
    """The paper's rule in clear, on the codes as they were encrypted: dense ranks of |t_i - t_q|."""
    card, masking_key = parties.owner.card, parties.owner.masking_key
    weights = 1 << np.arange(card.bits - 1, -1, -1).astype(object)

    def integers(codes: np.ndarray) -> np.ndarray:
        masked = user.masked_codes(codes, card=card, scheme="integer", masking_key=masking_key)
        return (masked.astype(object) * weights).sum(axis=1)

    differences = np.abs(integers(hashed.query)[:, None] - integers(hashed.database)[None, :])
    return np.stack([np.unique(row, return_inverse=True)[1] for row in differences]).astype(np.int32)


def _same_order(left: Int32[np.ndarray, "q n"], right: Int32[np.ndarray, "q n"]) -> bool:
    n = left.shape[1]
    return all(np.array_equal(rank(a, top=n), rank(b, top=n)) for a, b in zip(left, right, strict=True))


def _draw(options: DemoOptions, sample: Sample, parties: Parties, answer: Found, report: dict[str, Any]) -> None:
    names = {owner.pseudonym(parties.owner, name): i for i, name in enumerate(sample.database.ids)}
    # One query of each of the first classes: the query split is balanced in every prefix, so the first are distinct.
    asked = _pictures(options, sample.query)
    chosen = list(dict.fromkeys(int(label) for label in sample.query.labels))[:DRAWN]
    rows = []
    for label in chosen:
        query = int(np.flatnonzero(sample.query.labels == label)[0])
        matches = answer.matches[query]
        labels = sample.database.labels[[names[match.image_id] for match in matches]]
        rows.append(
            Answer(
                asked[query],
                answer.trapdoors[query],
                [parties.server.images[match.image_id] for match in matches],
                [match.image for match in matches],
                labels == label,
            )
        )
    title = f"jcbir: {report['convention']} {report['map'][options.scheme]:.3f} on encrypted {options.bits}-bit codes"
    caption = (
        f"scheme {options.scheme}, Paillier {options.modulus_bits} bits, {len(sample.database.ids)} images; "
        f"green: of the query's class, red: not"
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(rows, title=title, caption=caption).save(options.out, format="PNG", optimize=True)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _peak_rss() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return round(usage * unit / 2**20, 1)


def _versions() -> dict[str, str]:
    names = ("jcbir", "jax", "jaxlib", "flax", "optax", "numpy", "cryptography", "sympy", "gmpy2")
    installed = {}
    for name in names:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = "not installed"
    return {"python": platform.python_version(), **installed}
