"""100 megapixels through a small memory: sealed and opened strip by strip, in a process of its own."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import hashlib, json, pathlib, re, sys, time
import numpy as np
from jcbir import sealing

height, width, channels = map(int, sys.argv[1:4])
rows = sealing.strip_rows((height, width, channels))

def strips():
    for top in range(0, height, rows):
        count = min(rows, height - top)
        line = np.arange(count * width * channels, dtype=np.uint32) * np.uint32(2654435761) >> np.uint32(24)
        yield line.astype(np.uint8).reshape(count, width, channels)

names = {"key": bytes(range(32)), "image_id": "large"}
shape = (height, width, channels)
plain, opened = hashlib.sha256(), hashlib.sha256()
for strip in strips():
    plain.update(strip)
clock = time.process_time()
pieces = sealing.seal_strips(strips(), shape=shape, nonce=bytes(16), **names)
# Sealed and opened in one pass: the sealed image never exists whole.
for strip in sealing.open_strips(pieces, **names):
    opened.update(strip)
seconds = time.process_time() - clock
# Not getrusage: its maximum counts the parent that this process was forked from.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps({"equal": plain.digest() == opened.digest(), "peak_rss_mb": peak, "cpu_seconds": seconds}))
"""


def run(height: int, width: int, channels: int) -> dict:
    command = [sys.executable, "-c", SCRIPT, str(height), str(width), str(channels)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_100_megapixels_stream_within_1500_megabytes():
    result = run(10_000, 10_000, 1)
    assert result["equal"]
    assert result["peak_rss_mb"] < 1500


if __name__ == "__main__":
    print(run(*map(int, sys.argv[1:4])))
