"""Feed the key stream to TestU01 and dieharder; the published quantiser beside it, to see that the tests can fail.

    python -m experiments.randomness --battery smallcrush --report FILE.json
    python -m experiments.randomness --battery crush --layout lane --seconds 1200 --report FILE.json
    python -m experiments.randomness --battery dieharder --seconds 600 --report FILE.json
    python -m experiments.randomness --battery smallcrush --source published --report FILE.json

Needs a C compiler and the Debian packages libtestu01-0-dev (non-free) and dieharder. The stream is what the cipher
uses: streams of 1 MiB under successive nonces. `layout` "step" keeps the bytes as the cipher consumes them (lanes
interleaved); "lane" puts each trajectory's bytes one after another. When `seconds` run out the finished tests are
reported.
SmallCrush takes half a minute, Crush about an hour on one core.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from experiments.reference_cipher import published_bytes
from jcbir.cipher import keystream

STREAM = 1 << 20
SUSPECT = 1e-4

SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "TestU01.h"
static unsigned int buffer[1 << 16];
static size_t filled = 0, next = 0;
static unsigned long long used = 0;
static unsigned int word(void) {
  if (next == filled) {
    filled = fread(buffer, 4, 1 << 16, stdin);
    next = 0;
    if (!filled) { fflush(stdout); exit(3); }
  }
  if (!(++used & 0xFFFFFF)) fprintf(stderr, "%llu\n", used);
  return buffer[next++];
}
int main(int count, char **names) {
  unif01_Gen *stream = unif01_CreateExternGenBits("stream", word);
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (strcmp(names[1], "smallcrush") == 0) bbattery_SmallCrush(stream);
  else bbattery_Crush(stream);
  fprintf(stderr, "%llu\n", used);
  return 0;
}
"""


@dataclass(frozen=True)
class Config:
    """What is tested, with what, for how long.

    Fields:
        battery: TestU01 SmallCrush or Crush, or dieharder.
        source: the cipher's key stream, or the byte quantiser of reference [50] on its own integrator.
        layout: order of the bytes, see above.
        seconds: wall clock after which a battery is stopped.
        report: also write the figures to this JSON file.
    """

    battery: Literal["smallcrush", "crush", "dieharder"] = "smallcrush"
    source: Literal["cipher", "published"] = "cipher"
    layout: Literal["step", "lane"] = "step"
    seconds: float = 1200.0
    report: Path | None = None


def key_stream(layout: str, *, batch: int = 16) -> Iterator[bytes]:
    """Streams of 1 MiB under successive nonces, `batch` at a time."""
    lanes = keystream.lane_count(STREAM)
    for first in range(0, 1 << 40, batch):
        secrets = [
            keystream.stream_key(
                key=bytes(range(32)), nonce=number.to_bytes(16, "big"), shape=(1024, 1024, 1), order="paper"
            )
            for number in range(first, first + batch)
        ]
        seeds = [keystream.lane_seeds(s, stage=1, channel=0, streams=1, length=STREAM)[0] for s in secrets]
        octets = np.asarray(keystream.expand(np.stack(seeds), length=STREAM))
        if layout == "lane":
            words = octets.view("<u8").reshape(batch, -1, 2, lanes)
            octets = np.ascontiguousarray(words.transpose(0, 3, 1, 2)).view(np.uint8)
        yield octets.tobytes()


def published(layout: str) -> Iterator[bytes]:
    """The published bytes, one trajectory per key, 4,096 samples of each."""
    for number in range(1 << 30):
        octets = published_bytes(4096, lanes=8192, number=number)
        yield (octets if layout == "step" else np.ascontiguousarray(octets.T)).tobytes()


def run(config: Config) -> dict:
    """Run one battery.

    Returns:
        The configuration, the p-values by test as far as they got, and which are suspect.
    """
    pieces = {"cipher": key_stream, "published": published}[config.source](config.layout)
    with tempfile.TemporaryDirectory() as folder:
        command = _command(config.battery, Path(folder))
        begin = time.monotonic()
        output, errors, finished = _feed(command, pieces, config.seconds)
    values = _dieharder(output) if config.battery == "dieharder" else _testu01(output)
    suspect = [v for v in values if not SUSPECT < v["p"] < 1 - SUSPECT]
    counts = re.findall(r"^(\d+)$", errors, re.M)
    return {
        **{k: str(v) for k, v in asdict(config).items() if k != "report"},
        "command": f"python -m experiments.randomness --battery {config.battery} --source {config.source} "
        f"--layout {config.layout} --seconds {config.seconds:g}",
        "finished": finished,
        "wall_seconds": round(time.monotonic() - begin, 1),
        "words_used_at_least": int(counts[-1]) if counts else None,
        "tests": len({v["test"] for v in values}),
        "statistics": len(values),
        "suspect_below_or_above": SUSPECT,
        "suspect": suspect,
        "p_values": values,
    }


def _command(battery: str, folder: Path) -> list[str]:
    if battery == "dieharder":
        if shutil.which("dieharder") is None:
            raise SystemExit("dieharder is not installed: apt-get install dieharder")
        return ["dieharder", "-g", "200", "-a", "-k", "2", "-c", ","]
    source, binary = folder / "battery.c", folder / "battery"
    source.write_text(SOURCE)
    libraries = ["-ltestu01", "-ltestu01probdist", "-ltestu01mylib", "-lm"]
    subprocess.run(["gcc", "-O2", str(source), "-o", str(binary), *libraries], check=True)
    return [str(binary), battery]


def _feed(command: list[str], pieces: Iterator[bytes], seconds: float) -> tuple[str, str, bool]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    texts: dict[str, bytes] = {}
    readers = []
    for name, stream in (("out", process.stdout), ("err", process.stderr)):
        reader = threading.Thread(target=lambda n=name, s=stream: texts.__setitem__(n, s.read()))
        reader.start()
        readers.append(reader)
    limit = time.monotonic() + seconds
    try:
        for piece in pieces:
            if process.poll() is not None or time.monotonic() > limit:
                break
            process.stdin.write(piece)
    except BrokenPipeError:
        pass
    finished = time.monotonic() <= limit
    if finished:
        process.wait()
    else:
        process.terminate()
    for reader in readers:
        reader.join()
    return texts["out"].decode(errors="replace"), texts["err"].decode(errors="replace"), finished


def _testu01(output: str) -> list[dict]:
    values, test = [], ""
    for line in output.splitlines():
        named = re.match(r"^(\w+_\w+) test:", line)
        test = named.group(1) if named else test
        found = re.search(r"p-value of test\s*:\s*(eps|1 - eps\d*|1 - [\d.e+-]+|[\d.e+-]+)", line)
        if found:
            text = found.group(1)
            p = (
                0.0
                if text == "eps"
                else 1.0
                if "eps" in text
                else 1 - float(text[4:])
                if text[0:3] == "1 -"
                else float(text)
            )
            values.append({"test": f"{len(values) + 1} {test}", "p": p})
    return values


def _dieharder(output: str) -> list[dict]:
    rows = [[cell.strip() for cell in line.split(",")] for line in output.splitlines()]
    return [
        {"test": f"{r[0]} {r[1]}", "p": float(r[4]), "verdict": r[5]} for r in rows if len(r) == 6 and r[1].isdigit()
    ]


def main() -> None:
    """Command line."""
    config = tyro.cli(Config)
    result = run(config)
    print(
        f"{config.battery} on {config.source} ({config.layout}): {result['statistics']} statistics, "
        f"{'finished' if result['finished'] else 'stopped'} after {result['wall_seconds']} s, "
        f"suspect: {result['suspect']}"
    )
    if config.report:
        config.report.parent.mkdir(parents=True, exist_ok=True)
        config.report.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(0)


if __name__ == "__main__":
    main()
