"""Private Hamming search: this project's four schemes, and other libraries doing the same, in one run.

    python -m experiments.bench_search --report experiments/results/bench_search.json --counts 10000 100000 1000000

One core is pinned; figures are CPU seconds of that core, medians of interleaved rounds, compilation left out. Every
distance of every contender is checked against a popcount of Python integers (`exact`). A query is what user, server and
authority compute, ranking included. `ratio_lattice_vs_X` is the lattice's time over X's: below 1 the lattice is faster.
Above `alone` codes the lattice scheme runs alone. `cold_start` is a new process that imports the server's half, maps
the largest index into memory and scores its first query, nothing compiled before; `two_workers` are two processes, each
on a core of its own with half of that index, that score one query together. `experiments.bench_paillier` measures
the Paillier schemes at more sizes, with the functions of this module.

A peer is imported where it is used; one that is missing is reported as `not installed`. They are oracles and yardsticks
of this benchmark, not dependencies of the project (`pip install phe gmpy2 lightphe tenseal`).
"""

import contextlib
import importlib.util
import json
import os
import resource
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir.lattice._parameters import CHUNKS
from jcbir.paillier import SecretKey, blinders, generate_keys, public as public_half, secret as secret_half
from jcbir.ranking import (
    KEY_KINDS,
    SCHEMES,
    SECRET_KEY_KINDS,
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
from jcbir.ranking.isometry import derive_isometry, mask_codes

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
PINNED = "JCBIR_BENCH_PINNED"
BATCH = {"auto": 512, "jax": 512, "gmpy2": 64, "python": 4}
TOP = 100
# The integer scheme decrypts once per image: it is run on a part and scaled.
INTEGER_CODES = 1000

PHE, LIGHTPHE, TENSEAL = "python-paillier", "LightPHE", "TenSEAL BFV"
PACKAGES = ("phe", "lightphe", "tenseal")
NAMES = dict(zip(PACKAGES, (PHE, LIGHTPHE, TENSEAL), strict=True))

# BFV with 4096 slots and a 34-bit prime = 1 mod 8192: 17 two-bit digits, or 5 lanes in base 65, to a slot.
DEGREE, PLAIN_MODULUS = 4096, 17179754497
SLOT_DIGITS = 17

STAGES = ("trapdoor", "score", "open")
Stages = dict[str, Callable[[], Any]]
"""A query's stages, to run in order; `open` returns what it reads."""
# A server's start and its first query: what it imports, maps, computes and compiles.
COLD_START = """
import json, secrets, sys, time
from pathlib import Path
import numpy as np
from jcbir.lattice import public
folder, began, imported = Path(sys.argv[1]), time.perf_counter(), time.process_time()
v = public.parameters(bits=int(sys.argv[2]))
key = public.PublicKey(v, (folder / "seed").read_bytes())
index = public.Index(key.fingerprint, bytes(32), np.load(folder / "index.npy", mmap_mode="r"))
part = public.prepare(key, index)
prepared = time.process_time()
query = public.Query(key.fingerprint, np.load(folder / "query.npy"))
public.score(key, [part], query, draw=secrets.token_bytes)
scored = time.process_time()
times = {"import_s": imported, "prepare_s": prepared - imported, "first_query_s": scored - prepared}
print(json.dumps(times | {"total_s": scored, "wall_s_without_import": time.perf_counter() - began}))
"""
# A worker with a part of the index, that scores for each line it reads.
WORKER = """
import os, secrets, sys, time
from pathlib import Path
import numpy as np
from jcbir.lattice import public
folder, bits, core, cores = Path(sys.argv[1]), *map(int, sys.argv[2:])
os.sched_setaffinity(0, {sorted(map(int, (folder / "cores").read_text().split()))[core]})
key = public.PublicKey(public.parameters(bits=bits), (folder / "seed").read_bytes())
rows = np.array_split(np.load(folder / "index.npy", mmap_mode="r"), cores)[core]
part = public.prepare(key, public.Index(key.fingerprint, bytes(32), rows))
query = public.Query(key.fingerprint, np.load(folder / "query.npy"))
for _ in iter(sys.stdin.readline, ""):
    began = time.process_time()
    public.score_blocks(key, part, query, draw=secrets.token_bytes)
    print(time.process_time() - began, flush=True)
"""


@dataclass(frozen=True)
class Bench:
    """What to run.

    Attributes:
        where: scale and places; smoke: small sizes, one round.
        counts: codes in the index.
        bits: code length.
        modulus_bits: of Paillier's n.
        rounds: interleaved rounds.
        alone: above so many codes the lattice scheme runs alone.
        clock: CPU seconds of the process, or wall seconds (an accelerator's time is not the processor's).
        pin: pin the process to one core, with one thread everywhere.
    """

    where: At = PLACES
    counts: tuple[int, ...] = (10_000, 100_000)
    bits: int = 64
    modulus_bits: int = 2048
    rounds: int = 5
    alone: int = 100_000
    clock: Literal["cpu", "wall"] = "cpu"
    pin: bool = True


SCALES: dict[Scale, Bench] = {"cpu": Bench(), "smoke": Bench(counts=(2000,), rounds=1)}


def pin_one_core(module: str) -> None:
    """Start again on one core: thread counts are read once, when the libraries load."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-1:])
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    flags = f"{os.environ.get('XLA_FLAGS', '')} {ONE_THREAD}".strip()
    environment = os.environ | threads | {"XLA_FLAGS": flags, PINNED: " ".join(map(str, cores))}
    os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], environment)


def main(config: Bench) -> dict[str, Any]:
    """All schemes and peers at every count."""
    if config.pin and PINNED not in os.environ:
        pin_one_core("experiments.bench_search")
    run = begin("bench_search", config, packages=("gmpy2", *PACKAGES))
    watch, key, rows = Stopwatch(config.clock), generate_keys(bits=config.modulus_bits, draw=secrets.token_bytes), []
    for count in config.counts:
        say(f"{count} codes")
        rows += compare(watch, key, count, config)
    say("cold start")
    report = {"queries": rows, "exact": all(row["exact"] for row in rows), "peers": installed(("phe", "tenseal"))}
    with served(max(config.counts), config.bits) as folder:
        report["cold_start"] = {"count": max(config.counts)} | cold_start(folder, config.bits)
        report["two_workers"] = {"count": max(config.counts)} | two_workers(folder, config.bits, config.rounds)
    return finish(run, report | compared(rows))


def compare(watch: "Stopwatch", key: SecretKey, count: int, config: Bench) -> list[dict[str, Any]]:
    """Rows of one count; the rounds of all contenders but python-paillier are interleaved."""
    generator = np.random.default_rng(count)
    codes = generator.random((count, config.bits)) < 0.5
    query = codes[count // 2] ^ (np.arange(config.bits) < 3)
    expected = popcount_distances(codes, query)
    contending = [lattice(watch, codes, query)]
    if count <= config.alone:
        for scheme, base, group in (("bitsliced", None, 2), ("packed", 3, None), ("integer", None, None)):
            say(f"  {scheme}")
            part = codes[:INTEGER_CODES] if scheme == "integer" else codes
            contending.append(ours(watch, key, part, query, scheme, base, group, "auto", {}))
        if present("tenseal"):
            say("  TenSEAL")
            contending += [make(watch, codes, query) for make in (tenseal_difference, tenseal_bitsliced)]
    say("  rounds")
    rows = timed(watch, contending, expected, config.rounds)
    for row in rows:
        if row["codes_run"] < count:
            scale(row, count)
        row["query_s"] = sum(row[f"{stage}_s"] for stage in STAGES)
    if count <= min(config.alone, 10_000) and present("phe"):
        few = max(2, 12 * 2048 // config.modulus_bits)
        rows.append(phe_bit_by_bit(watch, key, codes, query, expected, few=few))
        rows.append(phe_slots(watch, key, codes, query, expected, few=16 * few))
    if count <= config.alone:
        rows += absent(("phe", "tenseal"))
    return [row | {"modulus_bits": key.public.bits, "count": count, "bits": config.bits} for row in rows]


def timed(
    watch: "Stopwatch", contending: Sequence[tuple[dict[str, Any], Stages]], expected: np.ndarray, rounds: int
) -> list[dict[str, Any]]:
    """The rows of warm contenders with the seconds of each stage; all distances checked where none were yet."""
    order, thunks = np.argsort(expected, kind="stable")[:TOP], {}
    for position, (row, stages) in enumerate(contending):
        if "exact" not in row:
            distances = stages["open"]()
            row["exact"] = bool(np.array_equal(distances, expected) and np.array_equal(rank(distances, top=TOP), order))
        thunks |= {f"{position}/{stage}": thunk for stage, thunk in stages.items()}
    for name, seconds in watch.rounds(thunks, rounds, warm=True).items():
        position, stage = name.split("/")
        contending[int(position)][0][f"{stage}_s"] = seconds
    return [row for row, _ in contending]


def compared(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The keys a reader compares, by count; None where a peer was not installed or did not run."""
    found: dict[str, Any] = {}
    for count in sorted({row["count"] for row in rows}):
        here = {(row["contender"], row["scheme"]): row for row in rows if row["count"] == count and "query_s" in row}
        mine, size = here["jcbir auto", "lattice"], f"{count // 1000}k"
        found[f"lattice_query_ms_{size}"] = 1000 * mine["query_s"]
        if len(here) == 1:
            continue
        others = {
            "tenseal_packed": (TENSEAL, "packed"),
            "tenseal_bitsliced": (TENSEAL, "bitsliced"),
            "bitsliced": ("jcbir auto", "bitsliced"),
            "packed": ("jcbir auto", "packed"),
            "phe": (PHE, "bit by bit"),
        }
        for name, slot in others.items():
            ratio = mine["query_s"] / here[slot]["query_s"] if slot in here else None
            found[f"ratio_lattice_vs_{name}_{size}"] = ratio
        found[f"build_ratio_lattice_vs_packed_{size}"] = mine["build_s"] / here["jcbir auto", "packed"]["build_s"]
    return found


@contextlib.contextmanager
def served(count: int, bits: int) -> Iterator[Path]:
    """A folder with what a server has of an index, and a query."""
    key = SECRET_KEY_KINDS["lattice"].generate(draw=secrets.token_bytes, code_bits=bits)
    codes = np.random.default_rng(count).random((count, bits)) < 0.5
    layout = plan(key.public, scheme="lattice", count=count, bits=bits)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "seed").write_bytes(key.public.seed)
        np.save(folder / "index.npy", encrypted(key, codes, layout).ciphertexts)
        np.save(folder / "query.npy", question(key, codes[0], layout).body[0])
        (folder / "cores").write_text(os.environ.get(PINNED, "0"))
        yield folder


def cold_start(folder: Path, bits: int) -> dict[str, float]:
    """CPU seconds until a server that was not there has answered, on the one core of this process."""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, "-c", COLD_START, str(folder), str(bits)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def two_workers(folder: Path, bits: int, rounds: int) -> dict[str, float | None]:
    """Seconds on the wall until both have scored, and CPU seconds of the slower: medians. None on a single core."""
    if len((folder / "cores").read_text().split()) < 2:
        return {"wall_s": None, "cpu_s": None}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder), str(bits), str(core), "2"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )
        for core in range(2)
    ]  # fmt: skip
    walls, slower = [], []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for worker in workers:
            worker.stdin.write("\n")
        slower.append(max(float(worker.stdout.readline()) for worker in workers))
        walls.append(time.perf_counter() - start)
    for worker in workers:
        worker.communicate()
    # The first round compiles.
    return {"wall_s": statistics.median(walls[1:]), "cpu_s": statistics.median(slower[1:])}


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


def queries(
    watch: Stopwatch,
    key: SecretKey,
    count: int,
    *,
    bits: int,
    engines: Sequence[str],
    rounds: int,
    peers: bool,
    quick: bool,
) -> list[dict[str, Any]]:
    """Rows of the query table at one size and count: ours, then the peers', every distance checked."""
    generator = np.random.default_rng(count)
    codes = generator.random((count, bits)) < 0.5
    query = codes[count // 2] ^ (np.arange(bits) < 3)
    expected = popcount_distances(codes, query)
    contending, built = [], {}
    for scheme, base, group, engine in contenders(engines, count):
        say(f"  {scheme}, base {base}, tables {group}, {engine}")
        part = codes[:INTEGER_CODES] if scheme == "integer" else codes
        contending.append(ours(watch, key, part, query, scheme, base, group, engine, built))
    measured = {engine: calibration(watch, key, engine) for engine in {row["engine"] for row, _ in contending}}
    rows = timed(watch, contending, expected, rounds)
    for row in rows:
        row["prediction_error"] = predict(key, bits, row, measured[row["engine"]])
        if row["codes_run"] < count:
            scale(row, count)
        row["query_s"] = sum(row[f"{stage}_s"] for stage in STAGES)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for row in rows:
        row["peak_rss_mb"] = round(peak, 1)
    if peers:
        rows += peer_queries(watch, key, codes, query, expected, slow=count <= 10_000, quick=quick, rounds=rounds)
    for row in rows:
        row |= {"modulus_bits": key.public.bits, "count": count, "bits": bits}
    return rows


def contenders(engines: Sequence[str], count: int) -> Sequence[tuple[str, int | None, int | None, str]]:
    """Scheme, base, table group and engine; the slow ones only where they end within a coffee."""
    first, *others = engines
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
    secret_mask = derive_isometry(bytes(32), bits=codes.shape[1])
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


def encrypted(key, codes, layout):
    """A lattice index, as its owner makes it."""
    kind = SECRET_KEY_KINDS["lattice"]
    return build_index(
        codes, layout, encrypt=lambda rows: kind.encrypt(key, rows, draw=secrets.token_bytes), public=key.public
    )


def question(key, query, layout):
    """A lattice query, as its user makes it."""
    kind = KEY_KINDS["lattice"]
    fresh = kind.blinders(key.public, 1, draw=secrets.token_bytes)
    return trapdoor(
        query, layout, encrypt=lambda rows: kind.encrypt(key.public, rows, blinders=fresh), public=key.public
    )


def lattice(watch, codes, query) -> tuple[dict[str, Any], Stages]:
    """As `ours`, under a key of its own; its answers need no pool, and what opens them is prepared once."""
    kind, scheme = SECRET_KEY_KINDS["lattice"], SCHEMES["lattice"]
    key = kind.generate(draw=secrets.token_bytes, code_bits=codes.shape[1])
    layout = plan(key.public, scheme="lattice", count=len(codes), bits=codes.shape[1])
    say("  lattice")
    # Compilation apart: programs of each size of chunk serve any number of blocks.
    few = plan(key.public, scheme="lattice", count=sum(CHUNKS) * layout.lanes, bits=codes.shape[1])
    encrypted(key, np.resize(codes, (few.count, few.bits)), few)
    build_s, index = watch.once(lambda: encrypted(key, codes, layout))
    prepare_s, served = watch.once(lambda: prepare(key.public, index._replace(hint=None)))
    opener = kind.prepare(key, layout, index.hint)
    state: dict[str, Any] = {}

    def ask():
        state["question"] = question(key, query, layout)
        # The user signs a digest of what the scores share.
        scheme.share(key.public, state["question"])

    def answer():
        seeds = KEY_KINDS["lattice"].blinders(key.public, 1, draw=secrets.token_bytes)
        state["scores"] = score(key.public, served, state["question"]._replace(opening=None), blinders=seeds)

    def read():
        rows = kind.open(key, [opener], [layout], state["scores"].ciphertexts, state["question"].opening)
        distances = scheme.decode([(layout, rows)], key.public)
        rank(distances, top=TOP)
        return distances

    ask(), answer()
    row = {
        "contender": "jcbir auto",
        "scheme": "lattice",
        "build_s": build_s,
        "prepare_s": prepare_s,
        "index_bytes": index.ciphertexts.nbytes,
        "hint_bytes": index.hint.nbytes,
        "prepared_bytes": sum(chunk.nbytes for chunk in served.table.chunks),
        "trapdoor_bytes": state["question"].body.nbytes,
        "reply_bytes": state["scores"].ciphertexts.nbytes,
        "codes_run": len(codes),
        "extrapolated": False,
    }
    return row, {"trapdoor": ask, "score": answer, "open": read}


def scale(row: dict[str, Any], count: int) -> None:
    """Multiply a row that ran on a part of the codes up to all of them, and say so."""
    factor = count / row["codes_run"]
    for name in ("build_s", "pool_refill_by_owner_s", "score_s", "open_s", "index_bytes", "reply_bytes"):
        row[name] = type(row[name])(row[name] * factor)
    row["extrapolated"] = True


def predict(key: SecretKey, bits: int, row: dict[str, Any], measured: Calibration) -> dict[str, float]:
    """`cost()` against what was measured: relative error of build and of the query."""
    predicted = cost(
        key.public,
        scheme=row["scheme"],
        count=row["codes_run"],
        bits=bits,
        base=row["base"],
        group=row["tables"],
        calibration=measured,
    ).seconds
    return {
        "build": predicted.build / row["build_s"] - 1,
        "query": (predicted.score + predicted.open) / (row["score_s"] + row["open_s"]) - 1,
    }


def calibration(watch: Stopwatch, key: SecretKey, engine: str) -> Calibration:
    return calibrate(key, draw=secrets.token_bytes, clock=watch.read, engine=engine, budget=2.0)


def popcount_distances(codes: np.ndarray, query: np.ndarray) -> np.ndarray:
    """The independent check: Hamming distances by Python's own integers, sharing no code with the library."""
    width = codes.shape[1]
    digits = [int.from_bytes(row.tobytes()) for row in np.packbits(codes, axis=1)]
    target = int("".join("01"[bit] for bit in query.astype(int).tolist()), 2) << (-width % 8)
    distances = np.array([(value ^ target).bit_count() for value in digits], np.int32)
    if distances.max() > width:
        raise RuntimeError("a distance above the code length")
    return distances


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def installed(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    return {NAMES[name]: "run" if present(name) else "not installed" for name in packages}


def present(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def peer_operations(key: SecretKey) -> dict[str, tuple[Callable[[], Any], int]]:
    """Encrypt, decrypt and add of the Paillier peers, under our own key where the library takes one."""
    thunks: dict[str, tuple[Callable[[], Any], int]] = {}
    if present("phe"):
        public, private = phe_keys(key)
        body = [public.raw_encrypt(5 + i) for i in range(16)]
        n_squared = public.nsquare
        from phe.util import mulmod

        thunks[f"{PHE}/encrypt"] = (lambda: [public.raw_encrypt(5 + i) for i in range(16)]), 16
        thunks[f"{PHE}/decrypt"] = (lambda: [private.raw_decrypt(c) for c in body]), 16
        thunks[f"{PHE}/add"] = (lambda: [mulmod(c, c, n_squared) for c in body * 32]), 512
    if present("lightphe"):
        system = lightphe_system(key.public.bits)
        ciphertexts = [system.encrypt(5), system.encrypt(6)]
        thunks[f"{LIGHTPHE}/encrypt"] = (lambda: [system.encrypt(5), system.encrypt(6)]), 2
        thunks[f"{LIGHTPHE}/decrypt"] = (lambda: [system.decrypt(c) for c in ciphertexts]), 2
        thunks[f"{LIGHTPHE}/add"] = (lambda: [ciphertexts[0] + ciphertexts[1] for _ in range(64)]), 64
    return thunks


def peer_queries(watch, key, codes, query, expected, *, slow: bool, quick: bool, rounds: int) -> list[dict[str, Any]]:
    """The peers' rows of the query table; `slow` ones are scaled from a few codes, so once is enough."""
    rows = []
    few = 2 if quick else max(2, 12 * 2048 // key.public.bits)
    if slow and present("phe"):
        rows.append(phe_bit_by_bit(watch, key, codes, query, expected, few=few))
        rows.append(phe_slots(watch, key, codes, query, expected, few=16 * few))
    if slow and present("lightphe"):
        rows.append(lightphe_bit_by_bit(watch, key, codes, query))
    if present("tenseal"):
        bfv = [make(watch, codes, query) for make in (tenseal_difference, tenseal_bitsliced)]
        for row in timed(watch, bfv, expected, rounds):
            rows.append(row | {"query_s": sum(row[f"{stage}_s"] for stage in STAGES)})
    return rows + absent(PACKAGES)


def absent(packages: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each peer that is not installed, which says so."""
    gone = [NAMES[name] for name in packages if not present(name)]
    return [{"contender": name, "scheme": "-", "note": "not installed", "exact": True} for name in gone]


def phe_keys(key):
    import phe

    public = phe.PaillierPublicKey(key.public.n)
    return public, phe.PaillierPrivateKey(public, key.p.prime, key.q.prime)


def lightphe_system(bits: int):
    from lightphe import LightPHE

    return LightPHE(algorithm_name="Paillier", key_size=bits)


def peer_stages(
    watch: Stopwatch,
    contender: str,
    scheme: str,
    *,
    build: Callable[[], Any],
    ask: Callable[[], Any],
    answer: Callable[[Any, Any], Any],
    read: Callable[[Any], Any],
) -> tuple[dict[str, Any], Stages, dict[str, Any]]:
    """A peer's row with the seconds of its build, the stages of its query, and where they keep what they make."""
    build_s, index = watch.once(build)
    state: dict[str, Any] = {"index": index}
    stages = {
        "trapdoor": lambda: state.update(question=ask()),
        "score": lambda: state.update(scores=answer(index, state["question"])),
        "open": lambda: read(state["scores"]),
    }
    return {"contender": contender, "scheme": scheme, "build_s": build_s}, stages, state


def peer_row(watch: Stopwatch, contender: str, scheme: str, *, expected: Any, **parts: Any) -> dict[str, Any]:
    """A peer's row of one cold run."""
    row, stages, _ = peer_stages(watch, contender, scheme, **parts)
    for stage, thunk in stages.items():
        row[f"{stage}_s"], result = watch.once(thunk)
    return row | {"exact": np.asarray(result).tolist() == np.asarray(expected).tolist()}


def scaled(row: dict[str, Any], *, run: float, count: int, ciphertext_bytes: int, per_code: int) -> dict[str, Any]:
    """A row measured once on `run` codes, multiplied up to `count`."""
    for stage in ("build_s", "score_s", "open_s"):
        row[stage] *= count / run
    return row | {
        "query_s": sum(row[f"{stage}_s"] for stage in ("trapdoor", "score", "open")),
        "index_bytes": count * per_code * ciphertext_bytes,
        "reply_bytes": count * per_code * ciphertext_bytes,
        "trapdoor_bytes": per_code * ciphertext_bytes,
        "codes_run": run,
        "extrapolated": run < count,
    }


def phe_bit_by_bit(watch: Stopwatch, key: SecretKey, codes, query, expected, *, few: int) -> dict[str, Any]:
    """One ciphertext per bit, the naive reading: E(h_j) E(-q_j), decrypted one by one."""
    from phe.util import mulmod

    public, private = phe_keys(key)
    n, n_squared = public.n, public.nsquare
    row = peer_row(
        watch,
        PHE,
        "bit by bit",
        build=lambda: [[public.raw_encrypt(int(b)) for b in row] for row in codes[:few]],
        ask=lambda: [public.raw_encrypt(-int(b) % n) for b in query],
        answer=lambda index, asked: [[mulmod(h, q, n_squared) for h, q in zip(r, asked, strict=True)] for r in index],
        read=lambda scores: [sum(private.raw_decrypt(c) != 0 for c in row) for row in scores],
        expected=expected[:few],
    )
    size = key.public.ciphertext_bytes
    return scaled(row, run=few, count=len(codes), ciphertext_bytes=size, per_code=codes.shape[1])


def phe_slots(watch: Stopwatch, key: SecretKey, codes, query, expected, *, few: int) -> dict[str, Any]:
    """One code per ciphertext in two-bit slots: what one writes with python-paillier after a second thought."""
    from phe.util import mulmod

    public, private = phe_keys(key)

    def slots(bits):
        return int("".join("01"[int(b)] for b in bits), 4)

    ones = slots(np.ones(codes.shape[1], bool))
    row = peer_row(
        watch,
        PHE,
        "one code per ciphertext",
        build=lambda: [public.raw_encrypt(slots(row)) for row in codes[:few]],
        ask=lambda: public.raw_encrypt(slots(~query)),
        answer=lambda index, asked: [mulmod(c, asked, public.nsquare) for c in index],
        read=lambda scores: [codes.shape[1] - (int(private.raw_decrypt(c)) & ones).bit_count() for c in scores],
        expected=expected[:few],
    )
    run = min(few, len(codes))
    return scaled(row, run=run, count=len(codes), ciphertext_bytes=key.public.ciphertext_bytes, per_code=1)


def lightphe_bit_by_bit(watch: Stopwatch, key: SecretKey, codes, query) -> dict[str, Any]:
    """As `phe_bit_by_bit`, on a quarter of one code: it takes seconds."""
    system = lightphe_system(key.public.bits)
    quarter = codes.shape[1] // 4
    row = peer_row(
        watch,
        LIGHTPHE,
        "bit by bit",
        build=lambda: [system.encrypt(int(b)) for b in codes[0, :quarter]],
        ask=lambda: [system.encrypt(int(not b)) for b in query[:quarter]],
        answer=lambda index, asked: [h + q for h, q in zip(index, asked, strict=True)],
        read=lambda scores: sum(system.decrypt(c) != 1 for c in scores),
        expected=(codes[0, :quarter] != query[:quarter]).sum(),
    )
    row["trapdoor_s"] *= 4
    size = key.public.ciphertext_bytes
    return scaled(row, run=0.25, count=len(codes), ciphertext_bytes=size, per_code=codes.shape[1])


def tenseal_context():
    import tenseal as ts

    return ts, ts.context(ts.SCHEME_TYPE.BFV, poly_modulus_degree=DEGREE, plain_modulus=PLAIN_MODULUS, n_threads=1)


def tenseal_contender(watch: Stopwatch, scheme: str, *, count: int, **parts: Any) -> tuple[dict[str, Any], Stages]:
    row, stages, state = peer_stages(watch, TENSEAL, scheme, **parts)
    stages["trapdoor"](), stages["score"]()
    asked = state["question"]
    row |= {
        "index_bytes": sum(len(c.serialize()) for c in flatten(state["index"])),
        "reply_bytes": sum(len(c.serialize()) for c in state["scores"]),
        "trapdoor_bytes": len(asked.serialize()) if hasattr(asked, "serialize") else -(-len(asked) // 8),
        "codes_run": count,
        "extrapolated": False,
    }
    return row, stages


def flatten(nested) -> list[Any]:
    return [c for part in nested for c in flatten(part)] if isinstance(nested, list) else [nested]


def tenseal_difference(watch, codes, query) -> tuple[dict[str, Any], Stages]:
    """The function and the leak of `packed`: encrypted two-bit slots, the key holder sees where the codes differ."""
    ts, context = tenseal_context()
    count, bits = codes.shape
    per_vector = DEGREE * SLOT_DIGITS // bits
    powers = 4 ** np.arange(SLOT_DIGITS)

    def slots(digits):
        padded = np.zeros(DEGREE * SLOT_DIGITS, np.int64)
        padded[: digits.size] = digits.reshape(-1)
        return (padded.reshape(DEGREE, SLOT_DIGITS) @ powers).tolist()

    def build():
        parts = range(0, count, per_vector)
        return [ts.bfv_vector(context, slots(codes[i : i + per_vector].astype(np.int64))) for i in parts]

    def ask():
        return ts.bfv_vector(context, slots(np.tile(~query, (per_vector, 1)).astype(np.int64)))

    def read(scores):
        values = np.array([c.decrypt() for c in scores], np.int64) % PLAIN_MODULUS
        digits = (values[:, :, None] >> (2 * np.arange(SLOT_DIGITS))) & 3
        used = digits.reshape(len(scores), -1)[:, : per_vector * bits].reshape(-1, bits)
        return np.count_nonzero(used != 1, axis=1)[:count]

    return tenseal_contender(
        watch,
        "packed",
        build=build,
        ask=ask,
        answer=lambda index, question: [c + question for c in index],
        read=read,
        count=count,
    )


def tenseal_bitsliced(watch, codes, query) -> tuple[dict[str, Any], Stages]:
    """The function and the leak of `bitsliced`: encrypted planes, query bits in clear, finished distances."""
    ts, context = tenseal_context()
    count, bits = codes.shape
    lanes = int(np.log(PLAIN_MODULUS) / np.log(bits + 1))
    per_vector = DEGREE * lanes
    powers = (bits + 1) ** np.arange(lanes)

    def slots(column):
        padded = np.zeros(per_vector, np.int64)
        padded[: column.size] = column
        return (padded.reshape(DEGREE, lanes) @ powers).tolist()

    def build():
        parts = range(0, count, per_vector)
        return [[ts.bfv_vector(context, slots(column)) for column in codes[i : i + per_vector].T] for i in parts]

    def answer(index, question):
        constant = [int(question.sum()) * int(powers.sum())] * DEGREE
        scores = []
        for planes in index:
            total = planes[0].copy() if not question[0] else 0 - planes[0]
            for plane, bit in zip(planes[1:], question[1:], strict=True):
                total = total - plane if bit else total + plane
            scores.append(total + constant)
        return scores

    def read(scores):
        values = np.array([c.decrypt() for c in scores], np.int64) % PLAIN_MODULUS
        return ((values[:, :, None] // powers) % (bits + 1)).reshape(-1)[:count]

    return tenseal_contender(
        watch,
        "bitsliced",
        build=build,
        ask=lambda: query,
        answer=answer,
        read=read,
        count=count,
    )


if __name__ == "__main__":
    main(command_line(SCALES))
