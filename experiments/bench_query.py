"""CPU seconds of a command: `--help`, mistakes, and a query by phases, each in a fresh process.

Claim: none of the paper's. Expected: `--help` and a mistake that needs no key at most 0.4 s, a query at most 2.5 s.
Worth: what a person waits for at a shell, on a machine that does nothing else.

    python -m experiments.bench_query --report experiments/results/bench_query.json

Founds a collection in a temporary folder with the commands themselves, serves it by two processes on this machine, and
counts the CPU seconds (user and system) that the kernel counts of each command. The phases of a query are those of one
more process, which looks at its own clock between them.
"""

import contextlib
import itertools
import json
import os
import pathlib
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image

from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir.data import load_sample

PASSPHRASES = {
    "JCBIR_PASSPHRASE": "correct horse battery staple",
    "JCBIR_AUTHORITY_PASSPHRASE": "another horse altogether",
    "JCBIR_CLOUD_PASSPHRASE": "a horse in the clouds",
}
MISTAKES = {
    "no such photograph": ("user", "query", "nothing.png", "--out", "x"),
    "a text for a photograph": ("user", "query", "notes.txt", "--out", "x"),
    "`--top 0`": ("user", "query", "asked.png", "--out", "x", "--top", "0"),
    "`--days 0`": ("owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "x", "--days", "0"),
    "an address without scheme": ("owner", "publish", "album", "--cloud", "localhost:8470"),
    "a file for a folder": ("owner", "publish", "asked.png"),
    "another kind of message": ("owner", "grant", "admitted/admission.jcbir", "--out", "x"),
    "no such option": ("owner", "publish", "album", "--no-such-option"),
    "no such command": ("owner", "publsh", "album"),
}
PROBE = """
import time
marks = [("start", 0.0)]
def mark(name): marks.append((name, time.process_time()))
import gc, sys, json
# As the program does before it loads anything.
gc.disable()
from jcbir import __main__ as program
from jcbir.cli import checks
def after(module, name, phase):
    real = getattr(module, name)
    def timed(*arguments, **options):
        found = real(*arguments, **options)
        mark(phase)
        return found
    setattr(module, name, timed)
after(checks, "check_command", "parser and checks")
import jcbir.cli.user as user
import jcbir.service.client as client
mark("imports")
after(user, "read_secret", "scrypt")
after(user, "open_hasher", "network, read and multiplied out")
after(user, "_squares", "photographs, decoded")
real_open = user.open_hasher
def opened(*arguments, **options):
    hasher = real_open(*arguments, **options)
    def hashed(images):
        codes = hasher.hash(images)
        mark("program, loaded and run")
        return codes
    return hasher._replace(hash=hashed)
user.open_hasher = opened
after(user.protocol, "ask", "query, encrypted")
after(client, "search", "sent and received")
after(user.protocol, "receive", "results, opened")
try:
    program.main()
except SystemExit as ended:
    assert not ended.code
mark("results, written")
print(json.dumps(marks), file=sys.stderr)
"""


@dataclass(frozen=True)
class Config:
    """Values of an experiment.

    Attributes:
        where: places.
        photographs: those in the collection.
        repeats: processes for each figure; the median is reported.
    """

    where: At = PLACES
    photographs: int = 60
    repeats: int = 5


SCALES: dict[Scale, Config] = {"smoke": Config(photographs=24, repeats=1), "cpu": Config(), "full": Config(repeats=15)}


def main(config: Config) -> dict[str, Any]:
    """Found, serve, measure."""
    run = begin("bench_query", config)
    with tempfile.TemporaryDirectory() as place, served(pathlib.Path(place), config.photographs) as shell:
        seconds = {"--help": shell.median("--help"), "owner publish --help": shell.median("owner", "publish", "--help")}
        mistakes = {name: shell.median(*words, status=2) for name, words in MISTAKES.items()}
        first = shell.cpu("user", "query", "asked.png", "--out", "first")
        queries = [shell.cpu("user", "query", "asked.png", "--out", f"again{n}") for n in range(config.repeats)]
        several = shell.cpu("user", "query", "album/000.png", "album/001.png", "--out", "two")
        phases = [shell.phases(f"phases{n}") for n in range(config.repeats)]
    metrics = {
        "help_s": seconds,
        "mistakes_s": mistakes,
        "first_query_s": first,
        "query_s": statistics.median(queries),
        "query_most_s": max(queries),
        "two_photographs_first_s": several,
        "phases_s": {name: statistics.median(each[name] for each in phases) for name in phases[0]},
    }
    return finish(run, metrics)


class Shell:
    """Runs commands in a folder and says what each took of the processors."""

    def __init__(self, folder: pathlib.Path, repeats: int = 3) -> None:
        self.folder, self.repeats = folder, repeats
        self.environment = {
            **os.environ,
            **PASSPHRASES,
            "PYTHONPATH": os.getcwd(),
            "JCBIR_CACHE": str(folder / "cache"),
        }
        self.environment.pop("JAX_COMPILATION_CACHE_DIR", None)

    def call(self, *words: str, status: int = 0) -> str:
        """Run a command; its standard output."""
        command = [sys.executable, "-m", "jcbir", *words]
        ended = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        if ended.returncode != status:
            raise SystemExit(f"{' '.join(words)}: must end with {status}, got {ended.returncode}: {ended.stderr}")
        return ended.stdout

    def cpu(self, *words: str, status: int = 0) -> float:
        """CPU seconds of a command, user and system."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.call(*words, status=status)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return round(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, 3)

    def median(self, *words: str, status: int = 0) -> float:
        """CPU seconds of a command, the median of some."""
        return statistics.median(self.cpu(*words, status=status) for _ in range(self.repeats))

    def phases(self, out: str) -> dict[str, float]:
        """CPU seconds of a query by phase."""
        command = [sys.executable, "-c", PROBE, "user", "query", "asked.png", "--out", out]
        ended = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=True
        )
        marks = json.loads(ended.stderr.splitlines()[-1])
        return {name: round(at - before, 3) for (_, before), (name, at) in itertools.pairwise(marks)}


@contextlib.contextmanager
def served(folder: pathlib.Path, images: int) -> Iterator[Shell]:
    """A collection that is served, and a user of it, for the length of a block."""
    shell, sample = Shell(folder), load_sample()
    (folder / "album").mkdir()
    for number in range(images):
        Image.fromarray(sample.database.images[number]).save(folder / "album" / f"{number:03d}.png")
    Image.fromarray(sample.query.images[0]).save(folder / "asked.png")
    (folder / "notes.txt").write_text("a text")
    shell.call("cloud", "init")
    shell.call("authority", "init")
    identities = ("--cloud-identity", "jcbir-cloud/identity.public")
    identities += ("--authority-identity", "jcbir-authority/identity.public")
    shell.call("owner", "init", "holidays", "--modulus-bits", "2048", *identities)
    cloud, authority = free_port(), free_port()
    keys = "jcbir-owner"
    holder = ("serve", "authority", "--delegation", f"{keys}/authority.secret", "--journal", "journal")
    processes = [
        start(shell, *holder, at=authority),
        start(shell, "serve", "cloud", "--card", f"{keys}/collection.public", "--store", "store", "--authority",
              f"http://127.0.0.1:{authority}", at=cloud),
    ]  # fmt: skip
    url = f"http://127.0.0.1:{cloud}"
    try:
        for port in (authority, cloud):
            wait_for(port)
        shell.call("owner", "publish", "album", "--cloud", url, "--authority", f"http://127.0.0.1:{authority}")
        shell.call("user", "init")
        shell.call("owner", "grant", "jcbir-user/enrollment.jcbir", "--out", "admitted", "--cloud", url)
        fingerprint = json.loads(shell.call("owner", "info", "--json"))["fingerprint"]
        shell.call("user", "join", "admitted", "--fingerprint", fingerprint)
        yield shell
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def start(shell: Shell, *words: str, at: int) -> subprocess.Popen:
    """Start a service."""
    command = [sys.executable, "-m", "jcbir", *words, "--port", str(at)]
    return subprocess.Popen(
        command, cwd=shell.folder, env=shell.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def wait_for(port: int) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.2)
    raise SystemExit(f"port: must be listened at, got nobody at {port}")


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main(command_line(SCALES))
