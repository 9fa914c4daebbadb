"""The measurements of `experiments.bench_paillier`: this project's side, and the bookkeeping of the run."""

import importlib.metadata
import json
import os
import platform
import resource
import secrets
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from experiments import running, search_peers
from experiments.bench_paillier import Config
from jcbir.paillier import blinders, public as public_half, secret as secret_half
from jcbir.ranking import (
    SCHEMES,
    Calibration,
    build_index,
    calibrate,
    cost,
    open_scores,
    plan,
    prepare,
    rank,
    score,
    trapdoor,
)
from jcbir.ranking.isometry import isometry, mask_codes

BATCH = {"auto": 512, "jax": 512, "gmpy2": 64, "python": 4}
PUBLIC_BATCH = {"jax": 256, "gmpy2": 16, "python": 2}
TOP = 100
# The integer scheme decrypts once per image: it is run on a part and scaled.
INTEGER_CODES = 1000


class Stopwatch:
    """Times thunks on one clock; rounds are interleaved, so that a slow minute of the machine slows every contender."""

    def __init__(self, clock: str):
        self.read = time.process_time if clock == "cpu" else time.perf_counter

    def once(self, thunk: Callable[[], Any]) -> tuple[float, Any]:
        begin = self.read()
        result = thunk()
        return self.read() - begin, result

    def rounds(self, thunks: dict[str, Callable[[], Any]], rounds: int, *, warm: bool = False) -> dict[str, float]:
        for thunk in () if warm else thunks.values():
            thunk()
        times = {name: [] for name in thunks}
        for _ in range(rounds):
            for name, thunk in thunks.items():
                times[name].append(self.once(thunk)[0])
        return {name: statistics.median(values) for name, values in times.items()}


def run(config: Config) -> None:
    if config.quick:
        config = Config(**(vars(config) | {"counts": (2000,), "rounds": 1, "sizes": config.sizes[:1]}))
    begin = time.perf_counter()
    report: dict[str, Any] = {"machine": machine(config), "config": describe(config), "operations": {}, "queries": []}
    for size in config.sizes:
        say(f"{size} bits: operations")
        key = secret_half.generate_keys(bits=size, draw=secrets.token_bytes)
        report["operations"][str(size)] = operations(config, key)
        if config.curve:
            report.setdefault("curve", {})[str(size)] = curve(config, key)
        for count in config.counts:
            say(f"{size} bits: {count} codes")
            report["queries"] += queries(config, key, count)
        save(config, report, begin)
    summarize(config, report)
    save(config, report, begin)


def save(config: Config, report: dict[str, Any], begin: float) -> None:
    report["wall_s"] = round(time.perf_counter() - begin, 1)
    report["machine"]["load_at_end"] = [round(x, 2) for x in os.getloadavg()]
    if config.report is not None:
        config.report.parent.mkdir(parents=True, exist_ok=True)
        config.report.write_text(json.dumps(report, indent=1) + "\n")


def operations(config: Config, key: secret_half.SecretKey) -> dict[str, dict[str, float]]:
    """Milliseconds per operation of every contender."""
    watch, public = Stopwatch(config.clock), key.public
    thunks: dict[str, tuple[Callable[[], Any], int]] = {}
    for engine in config.engines:
        size, few = BATCH[engine], PUBLIC_BATCH[engine]
        messages = np.random.default_rng(0).integers(0, 256, (size, public.plaintext_bytes - 1), np.uint8)
        body = secret_half.encrypt(key, messages, draw=secrets.token_bytes, engine=engine)

        def encrypt(m=messages, e=engine):
            return secret_half.encrypt(key, m, draw=secrets.token_bytes, engine=e)

        thunks[f"jcbir {engine}/encrypt by owner"] = encrypt, size
        thunks[f"jcbir {engine}/encrypt"] = (
            (lambda n=few, e=engine: blinders(public, n, draw=secrets.token_bytes, engine=e)),
            few,
        )
        thunks[f"jcbir {engine}/decrypt"] = (lambda b=body, e=engine: secret_half.decrypt(key, b, engine=e)), size
        thunks[f"jcbir {engine}/add"] = (lambda b=body, e=engine: public_half.add(public, b, b, engine=e)), size
    if config.peers:
        thunks |= search_peers.operations(key)
    times = watch.rounds({name: thunk for name, (thunk, _) in thunks.items()}, max(config.rounds, 1))
    table: dict[str, dict[str, float]] = {}
    for name, seconds in times.items():
        contender, operation = name.split("/")
        table.setdefault(contender, {})[operation] = 1000 * seconds / thunks[name][1]
    return table


def curve(config: Config, key: secret_half.SecretKey) -> dict[str, dict[str, float]]:
    """Milliseconds a number by batch size, engine and conversions included."""
    watch, engine, found = Stopwatch(config.clock), config.engines[0], {}
    for count in config.curve:
        messages = np.random.default_rng(count).integers(0, 256, (count, key.public.plaintext_bytes - 1), np.uint8)
        body = secret_half.encrypt(key, messages, draw=secrets.token_bytes, engine=engine)
        thunks = {
            "encrypt by owner": lambda m=messages: secret_half.encrypt(key, m, draw=secrets.token_bytes, engine=engine),
            "decrypt": lambda b=body: secret_half.decrypt(key, b, engine=engine),
        }
        times = watch.rounds(thunks, max(config.rounds, 3))
        found[str(count)] = {name: 1000 * seconds / count for name, seconds in times.items()}
    return found


def queries(config: Config, key: secret_half.SecretKey, count: int) -> list[dict[str, Any]]:
    """Rows of the query table at one size and count: ours, then the peers', every distance checked."""
    watch = Stopwatch(config.clock)
    generator = np.random.default_rng(count)
    codes = generator.random((count, config.bits)) < 0.5
    query = codes[count // 2] ^ (np.arange(config.bits) < 3)
    expected = popcount_distances(codes, query)
    rows, thunks, built = [], {}, {}
    for scheme, base, group, engine in contenders(config, count):
        say(f"  {scheme}, base {base}, tables {group}, {engine}")
        part = codes[:INTEGER_CODES] if scheme == "integer" else codes
        row, stages = ours(watch, key, part, query, scheme, base, group, engine, built)
        rows.append(row)
        for stage, thunk in stages.items():
            thunks[f"{len(rows) - 1}/{stage}"] = thunk
        if scheme != "integer":
            distances, order = stages["open"](), np.argsort(expected, kind="stable")
            row["exact"] = bool(np.array_equal(distances, expected))
            row["exact"] &= bool(np.array_equal(rank(distances, top=TOP), order[:TOP]))
    measured = {engine: calibration(config, key, engine) for engine in {row["engine"] for row in rows}}
    for name, seconds in watch.rounds(thunks, config.rounds, warm=True).items():
        position, stage = name.split("/")
        rows[int(position)][f"{stage}_s"] = seconds
    for row in rows:
        row["prediction_error"] = predict(config, key, row, measured[row["engine"]])
        if row["codes_run"] < count:
            scale(row, count)
        row["query_s"] = row["trapdoor_s"] + row["score_s"] + row["open_s"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for row in rows:
        row["peak_rss_mb"] = round(peak, 1)
    if config.peers:
        rows += search_peers.queries(
            watch, key, codes, query, expected, slow=count <= 10_000, quick=config.quick, rounds=config.rounds
        )
    for row in rows:
        row |= {"modulus_bits": key.public.bits, "count": count, "bits": config.bits}
    return rows


def contenders(config: Config, count: int) -> Sequence[tuple[str, int | None, int | None, str]]:
    """Scheme, base, table group and engine; the slow ones only where they end within a coffee."""
    first, *others = config.search_engines
    chosen = [("bitsliced", None, 2, first), ("bitsliced", None, 4, first), ("packed", 3, None, first)]
    chosen.append(("integer", None, None, first))
    if count <= 10_000:
        chosen.append(("packed", 4, None, first))
    if "gmpy2" in others and count <= 10_000:
        chosen += [("bitsliced", None, 2, "gmpy2"), ("packed", 3, None, "gmpy2")]
    return chosen


def ours(
    watch, key, codes, query, scheme, base, group, engine, built
) -> tuple[dict[str, Any], dict[str, Callable[[], Any]]]:
    """Build once; the stages of a query as thunks. Blinders come from a pool, whose filling is timed apart."""
    public = key.public
    layout = plan(public, scheme=scheme, count=len(codes), bits=codes.shape[1], base=base)
    secret_mask = isometry(bytes(32), bits=codes.shape[1])
    masked, masked_query = mask_codes(codes, secret_mask), mask_codes(query, secret_mask)

    def owner(rows):
        return secret_half.encrypt(key, rows, draw=secrets.token_bytes, engine=engine)

    def user(rows):
        fresh = blinders(public, len(rows), draw=secrets.token_bytes)
        return public_half.encrypt(public, rows, blinders=fresh)

    # Compilation apart: every batch size the build will meet.
    for size in (BATCH[engine], SCHEMES[layout.scheme].shapes(layout).index[0] % BATCH[engine] or 1):
        owner(np.zeros((size, public.plaintext_bytes), np.uint8))
    slot = (layout, engine)
    if slot not in built:
        built[slot] = watch.once(lambda: build_index(masked, layout, encrypt=owner, public=public))
    build_s, index = built[slot]
    index_bytes, prepare_s = index.ciphertexts.nbytes, 0.0
    if group is not None:
        prepare_s, index = watch.once(lambda: prepare(public, index, group=group, engine=engine))
    refill_s, pool = watch.once(lambda: secret_half.owner_blinders(key, layout.blocks, draw=secrets.token_bytes))
    state: dict[str, Any] = {}

    def ask():
        state["trapdoor"] = trapdoor(masked_query, layout, encrypt=user, public=public)

    def answer():
        state["scores"] = score(public, index, state["trapdoor"], blinders=pool, engine=engine)

    def read():
        distances = open_scores(key, state["scores"], engine=engine)
        rank(distances, top=TOP)
        return distances

    ask(), answer()
    row = {
        "contender": f"jcbir {engine}",
        "scheme": scheme,
        "base": layout.base,
        "tables": group,
        "engine": engine,
        "build_s": build_s,
        "prepare_s": prepare_s,
        "pool_refill_by_owner_s": refill_s,
        "index_bytes": index_bytes,
        "prepared_bytes": 0 if group is None else index.table.nbytes,
        "trapdoor_bytes": state["trapdoor"].body.nbytes,
        "reply_bytes": state["scores"].ciphertexts.nbytes,
        "codes_run": len(codes),
        "extrapolated": False,
    }
    if scheme == "integer":
        # What is exact here is the order of the differences, not of the Hamming distances.
        def read_ranks():
            ranks = open_scores(key, state["scores"], engine=engine)
            rank(ranks, top=TOP)
            weights = 1 << np.arange(codes.shape[1] - 1, -1, -1, dtype=object)
            target = int(masked_query @ weights)
            magnitudes = [abs(int(value) - target) for value in masked @ weights]
            levels = {m: i for i, m in enumerate(sorted(set(magnitudes)))}
            state["integer_exact"] = ranks.tolist() == [levels[m] for m in magnitudes]
            return ranks

        read_ranks()
        row["exact"] = state["integer_exact"]
    return row, {"trapdoor": ask, "score": answer, "open": read}


def scale(row: dict[str, Any], count: int) -> None:
    """Multiply a row that ran on a part of the codes up to all of them, and say so."""
    factor = count / row["codes_run"]
    for name in ("build_s", "pool_refill_by_owner_s", "score_s", "open_s", "index_bytes", "reply_bytes"):
        row[name] = type(row[name])(row[name] * factor)
    row["extrapolated"] = True


def predict(config: Config, key, row: dict[str, Any], measured: Calibration) -> dict[str, float]:
    """`cost()` against what was measured: relative error of build and of the query."""
    predicted = cost(
        key.public,
        scheme=row["scheme"],
        count=row["codes_run"],
        bits=config.bits,
        base=row["base"],
        group=row["tables"],
        calibration=measured,
    ).seconds
    return {
        "build": predicted.build / row["build_s"] - 1,
        "query": (predicted.score + predicted.open) / (row["score_s"] + row["open_s"]) - 1,
    }


def calibration(config: Config, key, engine: str) -> Calibration:
    return calibrate(key, draw=secrets.token_bytes, clock=Stopwatch(config.clock).read, engine=engine, budget=2.0)


def popcount_distances(codes: np.ndarray, query: np.ndarray) -> np.ndarray:
    """The independent check: Hamming distances by Python's own integers, sharing no code with the library."""
    width = codes.shape[1]
    digits = [int.from_bytes(row.tobytes()) for row in np.packbits(codes, axis=1)]
    target = int("".join("01"[bit] for bit in query.astype(int).tolist()), 2) << (-width % 8)
    distances = np.array([(value ^ target).bit_count() for value in digits], np.int32)
    if distances.max() > width:
        raise RuntimeError("a distance above the code length")
    return distances


def summarize(config: Config, report: dict[str, Any]) -> None:
    """The keys a reader compares: ratios and seconds, `not installed` where a peer was not."""
    first, searcher = f"jcbir {config.engines[0]}", f"jcbir {config.search_engines[0]}"
    sizes = [str(size) for size in config.sizes]
    table = report["operations"]

    def ratio(size, operation, peer, theirs=None):
        other = table[size].get(peer, {}).get(theirs or operation)
        return None if other is None else other / table[size][first][operation]

    report["decrypt_ratio_vs_gmpy2"] = {s: ratio(s, "decrypt", "jcbir gmpy2") for s in sizes}
    report["encrypt_ratio_vs_gmpy2"] = {s: ratio(s, "encrypt by owner", "jcbir gmpy2") for s in sizes}
    report["decrypt_ratio_vs_phe"] = {s: ratio(s, "decrypt", search_peers.PHE) for s in sizes}
    report["encrypt_ratio_vs_phe"] = {s: ratio(s, "encrypt by owner", search_peers.PHE, "encrypt") for s in sizes}
    largest, smallest = max(config.counts), min(config.counts)
    report[f"query_{largest // 1000}k_s"] = best(report, searcher, largest)
    report[f"query_ratio_vs_phe_{smallest // 1000}k"] = against(
        report, searcher, smallest, search_peers.PHE, "bit by bit"
    )
    report[f"query_ratio_vs_tenseal_{largest // 1000}k"] = {
        scheme: against(report, searcher, largest, search_peers.TENSEAL, twin).get(scheme, {})
        for scheme, twin in (("packed", "packed"), ("bitsliced", "bitsliced"))
    }
    report["exact"] = all(row["exact"] for row in report["queries"])
    report["peak_rss_mb"] = max(row["peak_rss_mb"] for row in report["queries"] if "peak_rss_mb" in row)
    report["peers"] = search_peers.installed() if config.peers else "not run"


def best(report, contender: str, count: int) -> dict[str, dict[str, float]]:
    """Seconds of one query by scheme and size, the best layout of each scheme."""
    table: dict[str, dict[str, float]] = {}
    for row in report["queries"]:
        if row["contender"] == contender and row["count"] == count:
            cells = table.setdefault(row["scheme"], {})
            size = str(row["modulus_bits"])
            cells[size] = min(row["query_s"], cells.get(size, float("inf")))
    return table


def against(report, contender: str, count: int, peer: str, scheme: str) -> dict[str, dict[str, float]]:
    """A peer's query seconds over ours, by our scheme and size: above 1 we are faster."""
    theirs = {
        str(row["modulus_bits"]): row["query_s"]
        for row in report["queries"]
        if row["contender"] == peer and row["scheme"] == scheme and row["count"] == count and "query_s" in row
    }
    mine = best(report, contender, count)
    return {
        name: {size: theirs[size] / seconds for size, seconds in cells.items() if size in theirs}
        for name, cells in mine.items()
    }


def machine(config: Config) -> dict[str, Any]:
    names = ("jax", "jaxlib", "numpy", "gmpy2", *search_peers.PACKAGES)
    return {
        "processor": running.processor(),
        "avx512": "avx512f" in cpu_flags(),
        "cores_used": len(os.sched_getaffinity(0)) if config.pin else os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "clock": config.clock,
        "load_at_start": [round(x, 2) for x in os.getloadavg()],
        "date": time.strftime("%Y-%m-%d"),
    }


def describe(config: Config) -> dict[str, Any]:
    shown = (
        "quick",
        "sizes",
        "counts",
        "bits",
        "rounds",
        "engines",
        "search_engines",
        "peers",
        "curve",
        "clock",
        "pin",
    )
    return {name: getattr(config, name) for name in shown}


def version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def cpu_flags() -> set[str]:
    lines = running.cpu_lines()
    return {flag for line in lines if line.startswith("flags") for flag in line.split()}


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)
