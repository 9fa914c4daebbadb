"""Feed the key stream to TestU01 and dieharder; the published quantiser beside it, to see that the tests can fail.

    python -m experiments.randomness --battery smallcrush --report FILE.json
    python -m experiments.randomness --battery crush --layout lane --workers 16 --report FILE.json
    python -m experiments.randomness --battery dieharder --layout lane --workers 16 --report FILE.json
    python -m experiments.randomness --battery smallcrush --stream published --report FILE.json

Needs the Debian packages libtestu01-0-dev (non-free) and a C compiler, or the driver compiled before (`--driver`);
and dieharder. The tests of a battery run apart from one another, `workers` at a time and the slowest first, each on a
stream of its own: key streams of 1 MiB, under nonces that no two tests share. `layout` "step" keeps the bytes as the
cipher consumes them (lanes interleaved); "lane" puts each trajectory's bytes one after another.

The run folder holds the results after every test, and a run that was killed goes on where it ended. As the users of
TestU01 do, a test with a suspect p-value (outside 0.0001 to 0.9999) is run once more, on fresh streams: of a good
generator one value in 5,000 is suspect, and does not come twice. The tests that dieharder itself calls suspect (OPSO,
OQSO, DNA) or not to be used (Sums) are left out.

With JAX_PLATFORMS=cpu XLA_FLAGS="--xla_cpu_multi_thread_eigen=false" a worker takes one core for its stream and one for
its test, which is the slower.
"""

import fcntl
import hashlib
import json
import multiprocessing
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments.reference_cipher import published_bytes
from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir.cipher import keystream
from jcbir.storage import write_file

STREAM = 1 << 20
SUSPECT = 1e-4
# Bytes a pipe holds: Linux gives 64 KiB unless asked, 1 MiB at most without privilege.
PIPE = 1 << 20

# One test of a battery on the words of its standard input.
DRIVER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "TestU01.h"
static unsigned int buffer[1 << 18];
static size_t filled = 0, next = 0;
static unsigned int word(void) {
  if (next == filled) {
    filled = fread(buffer, 4, 1 << 18, stdin);
    next = 0;
    if (!filled) { fputs("standard input ended\n", stderr); exit(3); }
  }
  return buffer[next++];
}
int main(int count, char **names) {
  int chosen[128] = {0};
  if (count != 3) return 2;
  chosen[atoi(names[2])] = 1;
  swrite_Basic = FALSE;
  unif01_Gen *stream = unif01_CreateExternGenBits("stream", word);
  if (strcmp(names[1], "smallcrush") == 0) bbattery_RepeatSmallCrush(stream, chosen);
  else bbattery_RepeatCrush(stream, chosen);
  for (int i = 0; i < bbattery_NTests; i++)
    if (bbattery_pVal[i] >= 0) printf("p-value,%s,%.17g\n", bbattery_TestNames[i], bbattery_pVal[i]);
  return 0;
}
"""

SLOW_CRUSH = (5, 6, 8, 7, 9, 4, 3, 76, 1, 2, 61, 59)
# Tests of each battery, those of the longest running time first: the number, for dieharder with the length of tuples
# (0: the test's own).
TESTS = {
    "smallcrush": [str(number) for number in range(1, 11)],
    "crush": [str(number) for number in (*SLOW_CRUSH, *sorted(set(range(1, 97)) - set(SLOW_CRUSH)))],
    "dieharder": ["17 0"]
    + [f"203 {n}" for n in range(32, -1, -1)]
    + [f"200 {n}" for n in range(12, 0, -1)]
    + [f"201 {n}" for n in range(5, 1, -1)]
    + [f"202 {n}" for n in range(5, 1, -1)]
    + [f"{d} 0" for d in (209, 208, 207, 206, 205, 204, 102, 101, 100)]
    + [f"{d} 0" for d in (16, 15, 13, 12, 11, 10, 9, 8, 4, 3, 2, 1, 0)],
}


@dataclass(frozen=True)
class Battery:
    """What is tested, and with what.

    Attributes:
        where: places.
        battery: TestU01 SmallCrush or Crush, or dieharder.
        stream: the cipher's key stream, or the byte quantiser of reference [50] on its own integrator.
        layout: order of the bytes, see above.
        workers: tests that run at a time.
        driver: the compiled program that runs TestU01; compiled to this file if it is not there, None: for this run.
    """

    where: At = PLACES
    battery: Literal["smallcrush", "crush", "dieharder"] = "smallcrush"
    stream: Literal["cipher", "published"] = "cipher"
    layout: Literal["step", "lane"] = "step"
    workers: int = 1
    driver: Path | None = None


SCALES: dict[Scale, Battery] = {"cpu": Battery()}


def key_stream(name: str, layout: str, *, batch: int = 16) -> Iterator[np.ndarray]:
    """Key streams of 1 MiB under nonces that follow from the name, `batch` at a time."""
    lanes = keystream.lane_count(STREAM)
    for first in range(0, 1 << 40, batch):
        nonces = [hashlib.sha256(f"{name} {number}".encode()).digest()[:16] for number in range(first, first + batch)]
        secrets = [
            keystream.stream_key(key=bytes(range(32)), nonce=nonce, shape=(1024, 1024, 1), order="paper")
            for nonce in nonces
        ]
        seeds = [keystream.lane_seeds(s, stage=1, channel=0, streams=1, length=STREAM)[0] for s in secrets]
        octets = keystream.expand(np.stack(seeds), length=STREAM, engine="compiled")
        if layout == "lane":
            octets = octets.view("<u8").reshape(batch, -1, 2, lanes).transpose(0, 3, 1, 2)
        yield np.ascontiguousarray(octets)


def published(name: str, layout: str) -> Iterator[np.ndarray]:
    """The published bytes, one trajectory per key, 4,096 samples of each."""
    begin = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") << 24
    for number in range(begin, begin + (1 << 24)):
        octets = published_bytes(4096, lanes=8192, number=number)
        yield np.ascontiguousarray(octets if layout == "step" else octets.T)


def run_test(battery: str, source: str, layout: str, driver: Path | None, test: str, attempt: int) -> dict[str, Any]:
    """Run one test of a battery on a stream of its own.

    Returns:
        Test, attempt, p-values by name, gigabytes it was given, seconds: of clock, of the test, of the stream.
    """
    pieces = {"cipher": key_stream, "published": published}[source](f"{battery} {test} {attempt}", layout)
    if battery == "dieharder":
        number, ntuple = test.split()
        command = ["dieharder", "-g", "200", "-k", "2", "-c", ",", "-d", number, "-n", ntuple]
    else:
        command = [str(driver), battery, test]
    clock, own, given = time.monotonic(), time.process_time(), 0
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    with tempfile.TemporaryFile("w+") as output:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, bufsize=0) as process:
            assert process.stdin is not None
            fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, PIPE)
            try:
                for piece in pieces:
                    rest = memoryview(piece).cast("B")
                    while rest:
                        rest = rest[process.stdin.write(rest) :]
                    given += piece.nbytes
            except BrokenPipeError:
                pass
        output.seek(0)
        text = output.read()
    values = _dieharder(text) if battery == "dieharder" else _testu01(text)
    if process.returncode or not values:
        raise RuntimeError(
            f"test {test}: {command} ended with {process.returncode} and {len(values)} p-values: {text[-500:]}"
        )
    return {
        "test": test,
        "attempt": attempt,
        "p_values": values,
        "gigabytes": round(given / 1e9, 3),
        "wall_seconds": round(time.monotonic() - clock, 1),
        "test_seconds": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before, 1),
        "stream_seconds": round(time.process_time() - own, 1),
    }


def suspect(result: dict[str, Any]) -> bool:
    """Has the test a p-value that one test in 5,000 of a good generator has?"""
    return any(not SUSPECT < v["p"] < 1 - SUSPECT for v in result["p_values"])


def main(config: Battery) -> dict[str, Any]:
    """Run what is still lacking of a battery, then the tests with suspect values once more."""
    begun = begin("randomness", config)
    place = begun.folder / "results.json"
    results: list[dict[str, Any]] = json.loads(place.read_text()) if place.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        driver = config.driver or Path(folder) / "driver"
        _provide(config.battery, driver)
        with ProcessPoolExecutor(config.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            for attempt in (0, 1):
                due = [r["test"] for r in results if suspect(r)] if attempt else TESTS[config.battery]
                done = {r["test"] for r in results if r["attempt"] == attempt}
                tasks = {
                    pool.submit(run_test, config.battery, config.stream, config.layout, driver, test, attempt): test
                    for test in due
                    if test not in done
                }
                for task in as_completed(tasks):
                    if error := task.exception():
                        print(f"test {tasks[task]}: {error}", flush=True)
                        continue
                    results.append(task.result())
                    print(json.dumps(results[-1]), flush=True)
                    write_file(place, (json.dumps(results, indent=1) + "\n").encode())
    return finish(begun, _summary(config, results))


def _summary(config: Battery, results: list[dict[str, Any]]) -> dict[str, Any]:
    first = [r for r in results if r["attempt"] == 0]
    again = [r for r in results if r["attempt"] == 1]
    return {
        "battery": config.battery,
        "source": config.stream,
        "layout": config.layout,
        "tests": len(first),
        "tests_of_the_battery": len(TESTS[config.battery]),
        "statistics": sum(len(r["p_values"]) for r in first),
        "gigabytes": round(sum(r["gigabytes"] for r in results), 1),
        "processor_minutes": round(sum(r["test_seconds"] + r["stream_seconds"] for r in results) / 60, 1),
        "suspect_below_or_above": SUSPECT,
        "suspect": [r["test"] for r in first if suspect(r)],
        "repeated": [r["test"] for r in again],
        "suspect_again": [r["test"] for r in again if suspect(r)],
        "results": results,
    }


def _provide(battery: str, driver: Path) -> None:
    """See to it that the program of a battery is there."""
    if battery == "dieharder":
        if shutil.which("dieharder") is None:
            raise SystemExit("dieharder is not installed: apt-get install dieharder")
    elif not driver.exists():
        libraries = ["-ltestu01", "-ltestu01probdist", "-ltestu01mylib", "-lm"]
        command = ["gcc", "-O2", "-static", "-x", "c", "-", "-o", str(driver), *libraries]
        subprocess.run(command, input=DRIVER.encode(), check=True)


def _testu01(output: str) -> list[dict[str, Any]]:
    lines = [line.split(",") for line in output.splitlines() if line.startswith("p-value,")]
    return [{"name": ",".join(line[1:-1]), "p": float(line[-1])} for line in lines]


def _dieharder(output: str) -> list[dict[str, Any]]:
    rows = [[cell.strip() for cell in line.split(",")] for line in output.splitlines()]
    return [{"name": f"{r[0]} {r[1]}", "p": float(r[4])} for r in rows if len(r) == 6 and r[1].isdigit()]


if __name__ == "__main__":
    main(command_line(SCALES))
