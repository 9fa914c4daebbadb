"""One anonymous body of lists of empty lists: one byte each on the way, sixty-four in memory.

    python -m experiments.attacks.parsing before|after MEBIBYTES

prints how many MiB a fresh process needs to read the body: before by msgpack, which builds every object before anybody
asks what it is; after along the schema.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

import msgpack

from jcbir.errors import FormatError
from jcbir.protocol import wire
from jcbir.protocol.messages import ScoreReport

MEBI = 1 << 20


def anonymous_post(*, mebibytes: int) -> dict[str, float]:
    """A report that no schema fits and nobody signed.

    Returns:
        MiB of memory that reading it takes, each rule in a process of its own.
    """
    return {f"read_mebibytes_{rule}": _measured(rule, mebibytes) for rule in ("before", "after")}


def _measured(rule: str, mebibytes: int) -> float:
    command = [sys.executable, "-m", "experiments.attacks.parsing", rule, str(mebibytes)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _framed(size: int) -> bytes:
    """A report whose length and checksum are right."""
    inner = b"\xdc\xff\xff" + b"\x90" * 0xFFFF
    count = size // len(inner)
    body = b"\xdc" + count.to_bytes(2) + inner * count
    head = wire.HEADER.pack(wire.MAGIC, wire.VERSION, wire.MESSAGES[ScoreReport][0], 0, len(body))
    return head + body + hashlib.sha256(head + body).digest()[: wire.CHECK_BYTES]


def _read(rule: str, content: bytes) -> None:
    if rule == "before":
        msgpack.unpackb(memoryview(content)[wire.HEADER.size : -wire.CHECK_BYTES])
        return
    try:
        wire.from_bytes(content, expect=ScoreReport)
    except FormatError:
        return
    raise RuntimeError("the body was read as a report")


def _kibibytes(field: str) -> int:
    """A line of what Linux says of this process: VmRSS is what it holds, VmHWM the most it held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    posted = _framed(int(sys.argv[2]) * MEBI)
    # Loading the library held more than it holds now.
    Path("/proc/self/clear_refs").write_text("5")
    started = _kibibytes("VmRSS")
    _read(sys.argv[1], posted)
    print((_kibibytes("VmHWM") - started) / 1024)
