"""Paillier and private Hamming search: this project's engines against python-paillier, LightPHE and TenSEAL BFV, in
one run.

    python -m experiments.bench_paillier --report experiments/results/bench_paillier_cpu.json
    python -m experiments.bench_paillier --table experiments/results/bench_paillier_cpu.json   # writes
    docs/performance.md

One core is pinned and every library is told to use one thread; figures are CPU seconds of that core, medians of
interleaved rounds, compilation left out. On an accelerator:

    python -m experiments.bench_paillier --clock wall --no-pin --search-engines jax --counts 100000 1000000 \
        --curve 64 512 2048 8192 --report experiments/results/bench_paillier_gpu.json

Every distance of every
contender is checked against a popcount of Python integers (`exact`). A peer that is not installed says so; a peer too
slow to run in full is run on `codes_run` codes and scaled, and says that too. Expected on a core with AVX-512 at 2048
bits: decryption 3 to 4 times gmpy2's, a bit-sliced query of 100,000 codes of 64 bits in about 0.3 s, four digits
times python-paillier bit by bit, and TenSEAL BFV ahead of both by one to two more. `--quick` runs small sizes in
about a minute, for a look.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
PINNED = "JCBIR_BENCH_PINNED"


@dataclass(frozen=True)
class Config:
    """What to run and where the report goes."""

    report: Path | None = None
    """Write the figures here as JSON."""
    table: Path | None = None
    """Read a report and write the page from it, instead of measuring."""
    page: Path = Path("docs/performance.md")
    """The page that `--table` writes."""
    quick: bool = False
    """Small sizes, one round."""
    sizes: tuple[int, ...] = (2048, 3072)
    """Bits of n."""
    counts: tuple[int, ...] = (10_000, 100_000)
    """Codes in the index."""
    bits: int = 64
    """Code length."""
    rounds: int = 3
    """Interleaved rounds."""
    engines: tuple[str, ...] = ("jax", "gmpy2", "python")
    """This project's engines, for the operations; the first is the one the ratios are of."""
    search_engines: tuple[str, ...] = ("auto", "gmpy2")
    """This project's engines, for the queries; the first is the one the ratios are of."""
    peers: bool = True
    """Run the other libraries too."""
    curve: tuple[int, ...] = ()
    """Batch sizes at which the first engine's decryption and encryption are timed, for an accelerator."""
    clock: Literal["cpu", "wall"] = "cpu"
    """CPU seconds of the process, or wall seconds (an accelerator's time is not the processor's)."""
    pin: bool = True
    """Pin the process to one core, with one thread everywhere."""


def pin_one_core() -> None:
    """Start again on one core: thread counts are read once, when the libraries load."""
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    flags = f"{os.environ.get('XLA_FLAGS', '')} {ONE_THREAD}".strip()
    environment = os.environ | threads | {"XLA_FLAGS": flags, PINNED: "1"}
    os.execve(sys.executable, [sys.executable, "-m", "experiments.bench_paillier", *sys.argv[1:]], environment)


def main() -> None:
    config = tyro.cli(Config, description=__doc__)
    if config.table is not None:
        from experiments.performance_page import write_page

        write_page(config.table, config.page)
        return
    if config.pin and PINNED not in os.environ:
        pin_one_core()
    from experiments.search_bench import run

    run(config)


if __name__ == "__main__":
    main()
