"""Puts faults into the code, one at a time, and sees whether the tests notice.

    python -m experiments.mutants                            # all, going on where it stopped
    python -m experiments.mutants --only protocol storage
    python -m experiments.mutants --report experiments/results/mutants.json

Each fault is one that a programmer could make: a boundary off by one, a check that is gone, a nonce used twice. They
stand in `experiments/assets/mutants/`, a file a package, each with the texts that it replaces, what it breaks, and the
tests that should notice. The tree is copied; a fault is put into the copy; the tests named for it run in a process of
their own until the first one fails: at first without pytest's plugins and the checks of types at run time, which take
longer than most tests, and where nothing fails once more as the test command runs them. A test that failed must pass
in the copy as it is. What the test command leaves out (`slow`) does not count.

What was noticed is kept in the run folder, as long as the fault and the file it changes stay what they were; what was
not is tried again.
"""

import ast
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from experiments.running import PLACES, ROOT, At, Scale, begin, command_line, finish
from jcbir.storage import write_file

MUTANTS = ROOT / "experiments" / "assets" / "mutants"
COPIED = ("conftest.py", "jcbir", "tests", "docs", "experiments", "README.md", "CITATION.cff", "pyproject.toml")
"""What of the tree the tests need."""


@dataclass(frozen=True)
class Config:
    """Which faults, and how long their tests may take.

    Attributes:
        where: places.
        only: packages; all by default.
        seconds: after which tests that do not end have noticed.
    """

    where: At = PLACES
    only: tuple[str, ...] = ()
    seconds: int = 300


SCALES: dict[Scale, Config] = {"full": Config()}


class Mutant(NamedTuple):
    """A fault.

    Attributes:
        package: of `jcbir`, or a module of it.
        breaks: what is wrong with it in.
        file: that it changes, below the root.
        edits: each text of the file, which holds it once, and what takes its place.
        tests: that should notice, as pytest names them.
        unnoticed: why no test does; empty where one should.
        first_try: whether the tests as they were noticed it when it was first put in; None where that was not kept.
    """

    package: str
    breaks: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]
    unnoticed: str = ""
    first_try: bool | None = None


def main(config: Config) -> dict[str, Any]:
    """Put each fault in, run its tests, report by package."""
    run = begin("mutants", config, packages=("pytest", "hypothesis"))
    mutants = [mutant for mutant in read_mutants() if mutant.package in (config.only or (mutant.package,))]
    place = run.folder / "verdicts.json"
    verdicts: dict[str, str] = json.loads(place.read_text()) if place.exists() else {}

    def keep(key: str, verdict: str) -> None:
        verdicts[key] = verdict
        write_file(place, (json.dumps(verdicts, indent=0) + "\n").encode())

    # The copy, and the tests at work, go with the command however it ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with copied_tree() as tree:
        for package in dict.fromkeys(mutant.package for mutant in mutants):
            listed = [mutant for mutant in mutants if mutant.package == package]
            left = [mutant for mutant in listed if mutant_key(mutant) not in verdicts]
            for number, mutant in enumerate(left, 1):
                begun = time.monotonic()
                with mutated(tree, mutant):
                    runs = (run_tests(tree, mutant.tests, seconds=config.seconds, bare=bare) for bare in (True, False))
                    noticed = next(filter(None, runs), "")
                if noticed:
                    keep(mutant_key(mutant), noticed)
                shown = f"{package} {number}/{len(left)}, {time.monotonic() - begun:.0f} s: {mutant.breaks}"
                print(f"{shown}: {noticed or 'NOT NOTICED'}", flush=True)
            seen = {verdicts.get(mutant_key(mutant), "") for mutant in listed}
            failed = tuple(sorted(v for v in seen if v.startswith("tests/") and test_key(v) not in verdicts))
            if failed and (broken := run_tests(tree, failed, seconds=4 * config.seconds, bare=True)):
                raise SystemExit(f"{broken}: must pass without a fault, got a failure")
            for test in failed:
                keep(test_key(test), "")
    return finish(run, summary(mutants, [verdicts.get(mutant_key(mutant), "") for mutant in mutants]))


def read_mutants() -> list[Mutant]:
    """All faults, package by package."""
    found = []
    for path in sorted(MUTANTS.glob("*.toml")):
        for entry in tomllib.loads(path.read_text())["mutant"]:
            plain = {**entry, "edits": tuple(map(tuple, entry["edits"])), "tests": tuple(entry["tests"])}
            found.append(Mutant(path.stem, **plain))
    return found


def apply(mutant: Mutant, text: str) -> str:
    """The text of a file with the fault in it; an error where a text is not there once, or what results is no code."""
    for old, new in mutant.edits:
        if old == new or text.count(old) != 1:
            raise ValueError(f"{mutant.file}: must hold once, and otherwise than {new!r}, the text {old!r}")
        text = text.replace(old, new)
    ast.parse(text)
    return text


def summary(mutants: list[Mutant], verdicts: list[str]) -> dict[str, Any]:
    """What became of the faults, by package and one by one."""
    packages: dict[str, dict[str, int]] = {}
    for mutant, verdict in zip(mutants, verdicts, strict=True):
        line = packages.setdefault(mutant.package, {"faults": 0, "noticed": 0})
        line["faults"] += 1
        line["noticed"] += bool(verdict)
    faults = [
        {
            "package": m.package, "breaks": m.breaks, "noticed_by": verdict, "unnoticed": m.unnoticed,
            "first_try": m.first_try,
        }
        for m, verdict in zip(mutants, verdicts, strict=True)
    ]  # fmt: skip
    return {"packages": packages, "faults": faults}


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A copy of the tree, for the length of a block."""
    with TemporaryDirectory() as folder:
        for name in COPIED:
            source, target = ROOT / name, Path(folder, name)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            else:
                shutil.copy2(source, target)
        yield Path(folder)


@contextmanager
def mutated(tree: Path, mutant: Mutant) -> Iterator[None]:
    """Have a fault in a copy of the tree for the length of a block."""
    path = tree / mutant.file
    text, times = path.read_text(), path.stat()
    path.write_text(apply(mutant, text))
    try:
        yield
    finally:
        # With its old time it is again what its compiled file was made of.
        path.write_text(text)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def run_tests(tree: Path, tests: tuple[str, ...], *, seconds: int, bare: bool) -> str:
    """The first test that fails in a copy of the tree, or "" where all pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", *tests]
    cache = os.environ.get("JCBIR_TEST_CACHE", str(ROOT / ".jax_cache"))
    environment = {**os.environ, "CI": "true", "PYTHONPATH": str(tree), "JCBIR_TEST_CACHE": cache}
    if bare:
        command += ["-o", "addopts=-m 'not slow and not torch'"]
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    # A group of its own: tests start services, which would outlive them.
    with subprocess.Popen(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"{seconds} s without an end"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode == 0:
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", said, re.M)
    if failed is None:
        raise SystemExit(f"{' '.join(tests)}: must run, got status {process.returncode}: {said[-3000:]}")
    return failed[1].partition("[")[0]


def mutant_key(mutant: Mutant) -> str:
    """Names a fault and the file it changes as they are."""
    fault = repr((mutant.file, mutant.edits)).encode()
    return hashlib.sha256(fault + (ROOT / mutant.file).read_bytes()).hexdigest()[:16]


def test_key(test: str) -> str:
    """Names a test and its file as they are."""
    return hashlib.sha256(test.encode() + (ROOT / test.partition("::")[0]).read_bytes()).hexdigest()[:16]


if __name__ == "__main__":
    main(command_line(SCALES))
