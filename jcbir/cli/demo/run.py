"""The whole of it in one process: learn, hash, publish, search by every scheme, compare, draw."""

import dataclasses
import importlib.metadata
import json
import os
import platform
import resource
import secrets
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int32
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from jcbir.cli.console import CommandConsole, answer, printable
from jcbir.cli.demo.picture import Answer, contact_sheet
from jcbir.cli.network import LARGEST_BATCH, keep_programs, open_features, whitening_of
from jcbir.cli.options import Demo
from jcbir.cli.training import csq_head
from jcbir.codes import binarize, pack, pairwise
from jcbir.data import (
    Sample,
    Split,
    class_folders,
    decode_whole,
    encode_jpeg,
    load_sample,
    published_file,
    read_encoded,
)
from jcbir.hashing import encode_images
from jcbir.hashing.heads import FEWEST, Whitening, fit_label_free
from jcbir.metrics import mean_average_precision, precision_at, tally
from jcbir.models import Backbone, Head, project_head
from jcbir.protocol import owner, session as sessions
from jcbir.protocol.leakage import describe
from jcbir.protocol.session import Found, Session
from jcbir.protocol.user import scheme_masking_key
from jcbir.ranking import KEY_KINDS, SCHEMES, SECRET_KEY_KINDS, mask_index, plan, rank
from jcbir.sealing import Photograph

INTEGER_QUERIES = 1
"""The paper's scheme decrypts once per image and query: so many queries run encrypted, all by its rule in clear."""

SCRATCH_SIDE = 64
"""The network that is not pretrained sees squares of so many pixels: it is there to compare with, and to be quick."""

PICTURE_SIDE = 256
"""Photographs from a folder are sealed at this longer side at most."""

DRAWN = 5
"""Queries in the picture."""

PHASES = {
    "publish": "encrypt index, seal images",
    "accept": "server takes the index in",
    "ask": "user asks",
    "blinders": "blinders, ahead",
    "score": "server scores",
    "rank": "authority opens and ranks",
    "receive": "user opens",
}
"""What the protocol calls a piece of work, and what the report does."""

TOPICS = {
    "Publication": "publication",
    "Catalog": "catalog",
    "Enrollment": "admission",
    "Admission": "admission",
    "Query": "query",
    "ScoreReport": "scores",
    "Ranking": "ranking",
    "Delivery": "sealed results",
}
"""Messages, and under which name the report counts their bytes."""


TITLES = {"integer": "integer (the paper's |difference|)", "lattice": "lattice (experimental, not reviewed)"}
"""How the table and the picture call schemes, where the name alone says too little."""


class Hashed(NamedTuple):
    """Codes of database and queries by one hash head."""

    database: Bool[np.ndarray, "n k"]
    query: Bool[np.ndarray, "q k"]


def demo(command: Demo, console: CommandConsole) -> None:
    """`jcbir demo`."""
    # The demo keeps a core busy with each of its own threads; XLA's on top would only get in each other's way.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    keep_programs()
    stream = sys.stderr if console.json else sys.stdout
    # A file name is no markup, whatever brackets it has.
    plain = Console(file=stream, width=None if stream.isatty() else 140, markup=False)
    report = run_demo(command, console=plain)
    if console.json:
        answer(console, report)


def run_demo(options: Demo, *, console: Console) -> dict[str, Any]:
    """Run the main job and print its table."""
    _check_options(options)
    seconds: dict[str, float] = {}
    sizes: dict[str, int] = {}
    with _timed(seconds, "all"):
        with _timed(seconds, "load photographs"):
            sample = _load(options, console)
        with _timed(seconds, "look at photographs"):
            network = open_features(options.backbone, size=options.size)
            features, scratch_features = _look(options, network, sample, console)
        with _timed(seconds, "fit hash heads"):
            learned, label_free, scratch = _fit(
                options, sample, features, scratch_features, whitening=whitening_of(network)
            )
        # One collection for each kind of keys.
        plans = {"paillier": ("bitsliced", "packed", "integer")}
        plans.setdefault(SCHEMES[options.scheme].key_kind, (options.scheme,))
        searched: dict[str, tuple[Session, Found]] = {}
        for kind, schemes in plans.items():
            session = _publish(options, sample, learned, kind, schemes, seconds, console)
            _count(sizes, session, 0, prefix="")
            for scheme in schemes:
                asked = learned.query[:INTEGER_QUERIES] if scheme == "integer" else learned.query
                console.print(f"answering {len(asked)} encrypted queries by {scheme} ...")
                said = len(session.transcript)
                session, found = sessions.search(
                    session,
                    asked,
                    scheme=scheme,
                    top=options.top,
                    now=int(time.time()),
                    draw=secrets.token_bytes,
                    phase=lambda name, scheme=scheme: _timed(seconds, f"{scheme}: {PHASES[name]}"),
                )
                _count(sizes, session, said, prefix=f"{scheme}: ")
                searched[scheme] = session, found
        report = _evaluate(sample, learned, label_free, scratch, searched)
        _draw(options, sample, *searched[options.scheme], report)
        # Each collection's transcript as of its last search.
        ends = {session.owner.card.public.kind: session for session, _ in searched.values()}
        told = [row for session in ends.values() for row in describe(session.transcript)]
    report |= {
        "options": {name: _plain(value) for name, value in vars(options).items() if name != "output"},
        "sizes": {"train": len(sample.train.ids), "database": len(sample.database.ids), "query": len(sample.query.ids)},
        "seconds": {phase: round(value, 3) for phase, value in seconds.items()},
        "bytes": sizes,
        "leakage": [row for place, row in enumerate(told) if row not in told[:place]],
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


def _publish(
    options: Demo,
    sample: Sample,
    learned: Hashed,
    kind: str,
    schemes: Sequence[str],
    seconds: dict[str, float],
    console: Console,
) -> Session:
    """A collection under keys of a kind, published, with one user admitted."""
    draw, secret_kind = secrets.token_bytes, SECRET_KEY_KINDS[kind]
    with _timed(seconds, "make keys"):
        key = secret_kind.generate(bits=options.modulus_bits, code_bits=options.bits, draw=draw)
    # What services do when they start.
    with _timed(seconds, "compile"):
        for half, measure in ((key.public, KEY_KINDS[kind].row_seconds), (key, secret_kind.row_seconds)):
            if measure is not None:
                measure(half, clock=time.perf_counter)
    console.print(f"encrypting {len(learned.database)} codes for {', '.join(schemes)}, sealing as many images ...")
    session = sessions.found(collection="demo", bits=options.bits, secret=key, draw=draw)
    session = sessions.publish(
        session,
        learned.database,
        _photographs(options, sample.database),
        sample.database.ids,
        schemes=schemes,
        draw=draw,
        phase=lambda name: _timed(seconds, PHASES[name]),
    )
    return sessions.admit(
        session,
        now=int(time.time()),
        max_results=options.top,
        queries_per_day=len(schemes) * len(sample.query.ids),
        images_per_day=len(sample.database.ids),
        draw=draw,
    )


def _check_options(options: Demo) -> None:
    for name in ("top", "per_class"):
        if getattr(options, name) < 1:
            raise ValueError(f"{name}: must be at least 1, got {getattr(options, name)}")
    if options.images is not None and not options.images.is_dir():
        raise ValueError(f"images: must be a folder of class folders, got {str(options.images)!r}")
    for name, path in (("out", options.out), ("report", options.report)):
        if path is not None and path.is_dir():
            raise ValueError(f"{name}: must be the file to write, got the folder {str(path)!r}")


def _load(options: Demo, console: Console) -> Sample:
    if options.images is None:
        sample = load_sample()
    else:
        sample, skipped = class_folders(options.images, size=options.size, per_class=options.per_class)
        for file in skipped:
            console.print(printable(f"skipped {file.path}: {file.reason}"), highlight=False, soft_wrap=True)
        if skipped:
            console.print(f"{len(skipped)} files skipped")
    if options.top > len(sample.database.ids):
        raise ValueError(
            f"top: must be at most the {len(sample.database.ids)} images of the database, got {options.top}"
        )
    return sample


def _photographs(options: Demo, split: Split) -> list[Photograph]:
    """What is sealed: of a user's own photographs not the squares that the network sees, but the pictures, reduced."""
    if options.images is None:
        pairs = zip(split.images, split.ids, strict=True)
        return [Photograph(encode_jpeg(image), "image/jpeg", name) for image, name in pairs]
    photographs = []
    for name in split.ids:
        file = published_file(read_encoded(options.images / name), longest_side=PICTURE_SIDE)
        photographs.append(Photograph(file.data, file.media_type, name, file.taken))
    return photographs


def _look(
    options: Demo, network: Backbone, sample: Sample, console: Console
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
    """Features of all photographs, by the network and by the same one not pretrained, on two threads."""
    networks = (network, _not_pretrained(network, seed=options.seed))
    images = np.concatenate([split.images for split in (sample.train, sample.database, sample.query)])
    starts = range(0, len(images), LARGEST_BATCH)
    # The first batch of each compiles its program; the quick network fills the time that the other's takes.
    jobs = [(0, 0), *((1, start) for start in starts), *((0, start) for start in starts[1:])]
    columns = [
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f} photographs/s"), TimeElapsedColumn(),
    ]  # fmt: skip
    with Progress(*columns, console=console) as bar, ThreadPoolExecutor(2) as threads:
        titles = ("look at photographs", "with a network not pretrained")
        tasks = [bar.add_task(title, total=len(images), rate=0.0) for title in titles]
        begun = time.perf_counter()

        def look(job: tuple[int, int]) -> np.ndarray:
            which, start = job
            rows = encode_images(networks[which], images[start : start + LARGEST_BATCH], batch=LARGEST_BATCH)
            bar.advance(tasks[which], len(rows))
            bar.update(tasks[which], rate=bar.tasks[which].completed / (time.perf_counter() - begun))
            return rows

        found = dict(zip(jobs, threads.map(look, jobs), strict=True))
    whole, scratch = (np.concatenate([found[which, start] for start in starts]) for which in (0, 1))
    return whole, scratch


def _not_pretrained(network: Backbone, *, seed: int) -> Backbone:
    """The same network with random kernels, of He's variance, and normalization that changes nothing."""
    random = np.random.default_rng(seed)

    def leaf(path: Any, old: Any) -> np.ndarray:
        name, shape = path[-1].key, np.shape(old)
        if name == "kernel":
            kernel = random.standard_normal(shape, np.float32)
            return kernel * np.float32(np.sqrt(2 / np.prod(shape[:-1])))
        return np.ones(shape, np.float32) if name in ("scale", "var") else np.zeros(shape, np.float32)

    side = min(SCRATCH_SIDE, network.preprocessing.size)
    return network._replace(
        variables=jax.tree_util.tree_map_with_path(leaf, network.variables),
        preprocessing=dataclasses.replace(network.preprocessing, size=side, resize=side),
    )


def _fit(
    options: Demo,
    sample: Sample,
    features: Float[np.ndarray, "n d"],
    scratch: Float[np.ndarray, "n d"],
    *,
    whitening: Whitening | None,
) -> tuple[Hashed, Hashed | None, Hashed]:
    """Codes by a head learned from labels, by one without them where photographs are enough, by one on `scratch`."""
    key, count = jax.random.key(options.seed), len(sample.train.ids)
    rows = np.eye(len(sample.names), dtype=bool)[sample.train.labels]

    def hashed(head: Head, given: np.ndarray) -> Hashed:
        codes = np.asarray(binarize(project_head(head, given[count:])))
        return Hashed(codes[: len(sample.database.ids)], codes[len(sample.database.ids) :])

    learned, compared = (
        hashed(csq_head(key, given[:count], rows, bits=options.bits), given) for given in (features, scratch)
    )
    if count < FEWEST:
        return learned, None, compared
    head = fit_label_free(key, features[:count], bits=options.bits, whitening=whitening)
    return learned, hashed(head, features), compared


def _evaluate(
    sample: Sample,
    learned: Hashed,
    label_free: Hashed | None,
    scratch: Hashed,
    searched: Mapping[str, tuple[Session, Found]],
) -> dict[str, Any]:
    relevant = sample.query.labels[:, None] == sample.database.labels[None, :]
    plain = _hamming(learned)
    rule = _integer_ranks(learned, searched["integer"][0])
    found = {name: _in_order(answer.distances, sample, session) for name, (session, answer) in searched.items()}
    used = {**found, "integer": rule}
    expected = {**dict.fromkeys(found, plain), "integer": rule[:INTEGER_QUERIES]}
    score = {name: mean_average_precision(distances, relevant) for name, distances in used.items()}
    reference = mean_average_precision(plain, relevant)
    return {
        "convention": reference.convention,
        "map_plain": reference.value,
        "map_random_init": mean_average_precision(_hamming(scratch), relevant).value,
        "map_label_free": label_free and mean_average_precision(_hamming(label_free), relevant).value,
        "precision_at_5": float(precision_at(tally(plain, relevant), top=5).mean()),
        "map": {name: value.value for name, value in score.items()},
        # The order against plaintext Hamming distance, ties by index: what a user would see.
        "order_identical": {name: _same_order(found[name], plain[: len(found[name])]) for name in used},
        # What was decrypted against the same arithmetic in clear: the cryptography changes nothing.
        "decrypted_equal_plain": {name: bool(np.array_equal(found[name], expected[name])) for name in used},
        "encrypted_queries": {name: len(found[name]) for name in used},
    }


def _hamming(hashed: Hashed) -> Int32[np.ndarray, "q n"]:
    return np.asarray(pairwise(pack(hashed.query), pack(hashed.database)))


def _integer_ranks(hashed: Hashed, session: Session) -> Int32[np.ndarray, "q n"]:
    """The paper's rule in clear, on the codes as they were encrypted: dense ranks of |t_i - t_q|."""
    card = session.owner.card
    layout = plan(card.public.key, scheme="integer", count=1, bits=card.bits)
    masking_key = scheme_masking_key(card, scheme="integer", masking_key=session.owner.masking_key)
    weights = 1 << np.arange(card.bits - 1, -1, -1).astype(object)

    def integers(codes: np.ndarray) -> np.ndarray:
        return (mask_index(codes, layout, masking_key=masking_key).astype(object) * weights).sum(axis=1)

    differences = np.abs(integers(hashed.query)[:, None] - integers(hashed.database)[None, :])
    return np.stack([np.unique(row, return_inverse=True)[1] for row in differences]).astype(np.int32)


def _in_order(distances: Int32[np.ndarray, "q m"], sample: Sample, session: Session) -> Int32[np.ndarray, "q n"]:
    """Columns in the order of the database: the owner publishes in an order drawn afresh, sentinels among them."""
    (catalog,) = session.authority.catalogs.values()
    places = {image_id: place for place, image_id in enumerate(catalog.image_ids)}
    return distances[:, [places[owner.pseudonym(session.owner, name)] for name in sample.database.ids]]


def _same_order(left: Int32[np.ndarray, "q n"], right: Int32[np.ndarray, "q n"]) -> bool:
    n = left.shape[1]
    return all(np.array_equal(rank(a, top=n), rank(b, top=n)) for a, b in zip(left, right, strict=True))


def _draw(options: Demo, sample: Sample, session: Session, answer: Found, report: dict[str, Any]) -> None:
    names = {owner.pseudonym(session.owner, name): i for i, name in enumerate(sample.database.ids)}
    # One query of each of the first classes: the query split is balanced in every prefix, so the first are distinct.
    asked = _photographs(options, sample.query)
    chosen = list(dict.fromkeys(int(label) for label in sample.query.labels))[:DRAWN]
    rows = []
    for label in chosen:
        query = int(np.flatnonzero(sample.query.labels == label)[0])
        matches = answer.matches[query]
        labels = sample.database.labels[[names[match.image_id] for match in matches]]
        rows.append(
            Answer(
                decode_whole(asked[query].data),
                answer.query.trapdoors[query].body.tobytes(),
                [session.server.images[match.image_id] for match in matches],
                [decode_whole(match.photograph.data) for match in matches],
                labels == label,
            )
        )
    title = f"jcbir: {report['convention']} {report['map'][options.scheme]:.3f} on encrypted {options.bits}-bit codes"
    name, modulus = TITLES.get(options.scheme, options.scheme), answer.report.scores[0][0].layout.modulus_bits
    caption = (
        f"scheme {name}, a modulus of {modulus} bits, {len(sample.database.ids)} images; "
        f"green: of the query's class, red: not"
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(rows, title=title, caption=caption).save(options.out, format="PNG", optimize=True)


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Add the wall-clock seconds of a block to a phase."""
    start = time.perf_counter()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - start


def _count(sizes: dict[str, int], session: Session, start: int, *, prefix: str) -> None:
    """Add the bytes of all messages from one on to their topics."""
    for line in session.transcript[start:]:
        # What is handed over in person has no topic.
        if line.size:
            topic = prefix + TOPICS[type(line.message).__name__]
            sizes[topic] = sizes.get(topic, 0) + line.size


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


def print_report(report: dict[str, Any], *, console: Console) -> None:
    """Print what was found, what it cost, and what each party learned."""
    console.print(_results(report))
    console.print(_phases(report))
    console.print(_leakage(report))


def _results(report: dict[str, Any]) -> Table:
    sizes, options = report["sizes"], report["options"]
    table = Table(
        title=f"{report['convention']}: {sizes['query']} queries, {sizes['database']} images, {options['bits']} bits",
        title_justify="left",
    )
    for name, justify in (
        ("ranking", "left"),
        ("mAP", "right"),
        ("lost", "right"),
        ("order = plaintext", "left"),
        ("encrypted queries", "right"),
        ("server s/query", "right"),
        ("authority s/query", "right"),
        ("query bytes", "right"),
        ("scores bytes", "right"),
    ):
        table.add_column(name, justify=justify)
    plain = report["map_plain"]
    table.add_row("plaintext codes", f"{plain:.4f}", "", "", "", "", "", "", "")
    for scheme, value in report["map"].items():
        count = report["encrypted_queries"][scheme]
        seconds, sent = report["seconds"], report["bytes"]
        table.add_row(
            TITLES.get(scheme, scheme),
            f"{value:.4f}",
            f"{plain - value:.4f}",
            "identical" if report["order_identical"][scheme] else "differs",
            str(count),
            f"{seconds[f'{scheme}: server scores'] / count:.4f}",
            f"{seconds[f'{scheme}: authority opens and ranks'] / count:.4f}",
            f"{sent[f'{scheme}: query'] // count:,}",
            f"{sent[f'{scheme}: scores'] // count:,}",
        )
    for name, value in (
        ("plaintext, label-free head", report["map_label_free"]),
        ("plaintext, network not pretrained", report["map_random_init"]),
    ):
        if value is not None:
            table.add_row(name, f"{value:.4f}", f"{plain - value:.4f}", *[""] * 6)
    return table


def _phases(report: dict[str, Any]) -> Table:
    table = Table(title="seconds by phase, bytes by message", title_justify="left")
    table.add_column("phase or message")
    table.add_column("seconds", justify="right")
    table.add_column("bytes", justify="right")
    for phase, seconds in report["seconds"].items():
        if phase != "all":
            table.add_row(phase, f"{seconds:.2f}", "")
    for topic, count in report["bytes"].items():
        table.add_row(topic, "", f"{count:,}")
    table.add_section()
    table.add_row("all", f"{report['seconds']['all']:.1f}", f"{sum(report['bytes'].values()):,}")
    table.add_row("peak memory", "", f"{report['peak_rss_mb']:,.0f} MB")
    return table


def _leakage(report: dict[str, Any]) -> Table:
    table = Table(title="what each party learned", title_justify="left", show_lines=True)
    for name in ("scheme", "party", "learned"):
        table.add_column(name)
    for row in report["leakage"]:
        table.add_row(row["scheme"], row["party"], row["learned"])
    return table
