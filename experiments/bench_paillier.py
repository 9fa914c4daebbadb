"""Paillier and private Hamming search: this project's engines against python-paillier, LightPHE and TenSEAL BFV, in
one run.

    python -m experiments.bench_paillier --report experiments/results/bench_paillier_cpu.json

One core is pinned and every library is told to use one thread; figures are CPU seconds of that core, medians of
interleaved rounds, compilation left out. On an accelerator:

    python -m experiments.bench_paillier --clock wall --no-pin --search-engines jax --counts 100000 1000000 \
        --curve 64 512 2048 8192 --report experiments/results/bench_paillier_gpu.json

Every distance of every contender is checked against a popcount of Python integers (`exact`). A peer that is not
installed says so; a peer too slow to run in full is run on `codes_run` codes and scaled, and says that too. Expected on
a core with AVX-512 at 2048 bits: decryption 3 to 4 times gmpy2's, a bit-sliced query of 100,000 codes of 64 bits in
about 0.3 s, four digits times python-paillier bit by bit, and TenSEAL BFV ahead of both by one to two more. `--scale
smoke` runs small sizes in about a minute, for a look.
"""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from experiments import bench_search
from experiments.bench_search import BATCH, PINNED, Stopwatch, pin_one_core, say
from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir.paillier import SecretKey, blinders, generate_keys, public as public_half, secret as secret_half

PUBLIC_BATCH = {"jax": 256, "gmpy2": 16, "python": 2}


@dataclass(frozen=True)
class Bench:
    """What to run.

    Attributes:
        where: scale and places; smoke: small sizes, one round.
        sizes: bits of n.
        counts: codes in the index.
        bits: code length.
        rounds: interleaved rounds.
        engines: this project's engines, for the operations; the first is the one the ratios are of.
        search_engines: this project's engines, for the queries; the first is the one the ratios are of.
        peers: run the other libraries too.
        curve: batch sizes at which the first engine's decryption and encryption are timed, for an accelerator.
        clock: CPU seconds of the process, or wall seconds (an accelerator's time is not the processor's).
        pin: pin the process to one core, with one thread everywhere.
    """

    where: At = PLACES
    sizes: tuple[int, ...] = (2048, 3072)
    counts: tuple[int, ...] = (10_000, 100_000)
    bits: int = 64
    rounds: int = 3
    engines: tuple[str, ...] = ("jax", "gmpy2", "python")
    search_engines: tuple[str, ...] = ("auto", "gmpy2")
    peers: bool = True
    curve: tuple[int, ...] = ()
    clock: Literal["cpu", "wall"] = "cpu"
    pin: bool = True


SCALES: dict[Scale, Bench] = {"cpu": Bench(), "smoke": Bench(sizes=(2048,), counts=(2000,), rounds=1)}


def main(config: Bench) -> dict[str, Any]:
    """Operations and queries at every size."""
    if config.pin and PINNED not in os.environ:
        pin_one_core("experiments.bench_paillier")
    run = begin("bench_paillier", config, packages=("gmpy2", *bench_search.PACKAGES))
    report: dict[str, Any] = {"operations": {}, "queries": []}
    watch = Stopwatch(config.clock)
    for size in config.sizes:
        say(f"{size} bits: operations")
        key = generate_keys(bits=size, draw=secrets.token_bytes)
        report["operations"][str(size)] = operations(config, key)
        if config.curve:
            report.setdefault("curve", {})[str(size)] = curve(config, key)
        for count in config.counts:
            say(f"{size} bits: {count} codes")
            report["queries"] += bench_search.queries(
                watch,
                key,
                count,
                bits=config.bits,
                engines=config.search_engines,
                rounds=config.rounds,
                peers=config.peers,
                quick=config.where.scale == "smoke",
            )
    summarize(config, report)
    return finish(run, report)


def operations(config: Bench, key: SecretKey) -> dict[str, dict[str, float]]:
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
        thunks |= bench_search.peer_operations(key)
    times = watch.rounds({name: thunk for name, (thunk, _) in thunks.items()}, max(config.rounds, 1))
    table: dict[str, dict[str, float]] = {}
    for name, seconds in times.items():
        contender, operation = name.split("/")
        table.setdefault(contender, {})[operation] = 1000 * seconds / thunks[name][1]
    return table


def curve(config: Bench, key: SecretKey) -> dict[str, dict[str, float]]:
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


def summarize(config: Bench, report: dict[str, Any]) -> None:
    """The keys a reader compares: ratios and seconds, `not installed` where a peer was not."""
    first, searcher = f"jcbir {config.engines[0]}", f"jcbir {config.search_engines[0]}"
    sizes = [str(size) for size in config.sizes]
    table = report["operations"]

    def ratio(size, operation, peer, theirs=None):
        other = table[size].get(peer, {}).get(theirs or operation)
        return None if other is None else other / table[size][first][operation]

    report["decrypt_ratio_vs_gmpy2"] = {s: ratio(s, "decrypt", "jcbir gmpy2") for s in sizes}
    report["encrypt_ratio_vs_gmpy2"] = {s: ratio(s, "encrypt by owner", "jcbir gmpy2") for s in sizes}
    report["decrypt_ratio_vs_phe"] = {s: ratio(s, "decrypt", bench_search.PHE) for s in sizes}
    report["encrypt_ratio_vs_phe"] = {s: ratio(s, "encrypt by owner", bench_search.PHE, "encrypt") for s in sizes}
    largest, smallest = max(config.counts), min(config.counts)
    report[f"query_{largest // 1000}k_s"] = best(report, searcher, largest)
    report[f"query_ratio_vs_phe_{smallest // 1000}k"] = against(
        report, searcher, smallest, bench_search.PHE, "bit by bit"
    )
    report[f"query_ratio_vs_tenseal_{largest // 1000}k"] = {
        scheme: against(report, searcher, largest, bench_search.TENSEAL, twin).get(scheme, {})
        for scheme, twin in (("packed", "packed"), ("bitsliced", "bitsliced"))
    }
    report["exact"] = all(row["exact"] for row in report["queries"])
    report["peak_rss_mb"] = max(row["peak_rss_mb"] for row in report["queries"] if "peak_rss_mb" in row)
    report["peers"] = bench_search.installed() if config.peers else "not run"


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


if __name__ == "__main__":
    main(command_line(SCALES))
