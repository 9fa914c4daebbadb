"""How an experiment runs: values by scale, a folder a configuration, environment, reports from clean trees only.

An experiment is a module with `SCALES`, one whole configuration a scale (the first is the default), and `main(config)`:

    run = begin("table1_backbones", config)
    metrics = ...                 # checkpoints, codes and curves go into run.folder
    return finish(run, metrics)

`runs/<name>-<hash>/` holds `config.json`, `environment.json`, `metrics.json` and whatever the experiment keeps there;
the hash is that of the configuration without what cannot change the results: places, and how many work at a time. The
same command continues a run that was killed. A report is a copy of the metrics with configuration and environment, and
is refused unless the tree is clean at the start and at the end: its commit then names the code that made it.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import jax
import tyro

from jcbir.storage import write_file

Scale = Literal["smoke", "cpu", "full"]
Config = TypeVar("Config")

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
STAMP = "stamp.json"
"""Beside the modules of a copy: which commit it is of (`experiments.assets.stamp`)."""
_INDIFFERENT = (
    *("where", "source", "features", "images", "weights", "pictures", "published"),
    *("imagenette", "caltech", "driver", "workers", "only"),
)
"""Options that cannot change the results."""
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


@dataclass(frozen=True)
class Where:
    """Places, and the scale whose values the other options override.

    Attributes:
        scale: smoke: seconds on the bundled sample; cpu: what two cores do; full: the paper's scale, one GPU or more.
        runs: folder of the run folders.
        report: JSON file to write, beside the metrics in the run folder.
        allow_dirty: report from a tree with uncommitted changes; the report says so.
    """

    scale: Scale = "smoke"
    runs: Path = Path("runs")
    report: Path | None = None
    allow_dirty: bool = False


PLACES = Where()
At = Annotated[Where, tyro.conf.arg(name="")]
"""The field `where` of a configuration, its options without a prefix."""


class Run(NamedTuple):
    """A run that has begun.

    Attributes:
        name: of the experiment.
        folder: its own.
        config: what decides the results, as JSON.
        where: its places.
        source: commit and state of the tree.
        packages: those whose versions the report names besides the usual ones.
        load: load average at the start.
        begun: seconds of a monotonic clock.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    where: Where
    source: dict[str, Any]
    packages: tuple[str, ...]
    load: float
    begun: float


def command_line(scales: Mapping[Scale, Config], arguments: Sequence[str] | None = None) -> Config:
    """The configuration of `--scale`, with every other option laid over it."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--scale", choices=list(scales), default=next(iter(scales)))
    scale = first.parse_known_args(given)[0].scale
    preset = replace(scales[scale], where=replace(scales[scale].where, scale=scale))
    return tyro.cli(type(preset), args=given, default=preset)


def begin(name: str, config: Any, *, packages: tuple[str, ...] = ()) -> Run:
    """Make the run folder; refuse at once what `finish` would refuse after hours.

    Args:
        name: of the experiment.
        config: frozen dataclass with a field `where`.
        packages: those whose versions the report shall name besides the usual ones.

    Returns:
        The run.
    """
    where: Where = config.where
    source = tree_state()
    if where.report is not None:
        _check(source, where)
    decisive = decisive_fields(config)
    folder = where.runs / f"{name}-{digest(decisive)}"
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "config.json", decisive)
    about = environment(packages)
    _write(folder / "environment.json", about | source)
    print(f"{name}: {folder}", flush=True)
    return Run(name, folder, decisive, where, source, packages, about["load"], time.monotonic())


def finish(run: Run, metrics: dict[str, Any]) -> dict[str, Any]:
    """Write the metrics, and the report if one is asked for."""
    _write(run.folder / "metrics.json", metrics)
    report = {
        "experiment": run.name,
        "scale": run.where.scale,
        "config": run.config,
        "environment": environment(run.packages) | {"load_at_start": run.load} | run.source,
        "seconds": round(time.monotonic() - run.begun, 1),
        **metrics,
    }
    if run.where.report is not None:
        now = tree_state()
        if now["commit"] != run.source["commit"] and not run.where.allow_dirty:
            raise SystemExit(
                f"the tree must stay at {run.source['commit']} while a report is made; now {now['commit']}"
            )
        _check(now, run.where)
        run.where.report.parent.mkdir(parents=True, exist_ok=True)
        _write(run.where.report, report)
        print(f"report: {run.where.report}", flush=True)
    return report


def decisive_fields(config: Any) -> dict[str, Any]:
    """The configuration without what cannot change the results, as JSON.

    Args:
        config: frozen dataclass.

    Returns:
        What the results depend on.
    """

    def cleaned(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: cleaned(field) for name, field in value.items() if name not in _INDIFFERENT}
        return [cleaned(item) for item in value] if isinstance(value, tuple | list) else value

    return json.loads(json.dumps(cleaned(asdict(config))))


def digest(decisive: Mapping[str, Any]) -> str:
    """Ten hexadecimal digits of a configuration, from its SHA-256."""
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:10]


def environment(packages: Sequence[str] = ()) -> dict[str, Any]:
    """Versions, processor and device; no names of machines or places."""
    device = jax.devices()[0]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": device.device_kind if device.platform != "cpu" else f"{processor()}, {os.cpu_count()} cores",
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "architecture": platform.machine(),
        "avx512": any(line.startswith("flags") and "avx512f" in line.split() for line in _cpu_lines()),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in (*_PACKAGES, *packages)},
        "load": round(os.getloadavg()[0], 1),
    }


def tree_state() -> dict[str, Any]:
    """Commit of the tree, and whether it has changes that no commit holds; "copy" where a stamp vouches for it.

    A copy without the repository that knows its commit is vouched for by the stamp it came with
    (`experiments.assets.stamp`): clean while its modules are those of the stamped commit. Without either nothing
    vouches for the code: dirty.
    """
    commit, stamp = _git("rev-parse", "HEAD"), _stamp()
    # A copy may have a repository of its own, whose commits nobody else knows.
    if stamp is not None and (commit is None or _git("cat-file", "-e", stamp["commit"]) is None):
        return {"commit": stamp["commit"], "dirty": stamp["modules"] != modules_digest(), "copy": True}
    if commit is None:
        return {"commit": None, "dirty": True}
    # New files count: a module that is not committed may be the one that ran. Results are what a clean tree writes.
    changes = _git("status", "--porcelain", "--", ".", ":!experiments/results", ":!docs") or ""
    return {"commit": commit.strip()[:12], "dirty": bool(changes.strip())}


def modules_digest() -> str:
    """SHA-256 over the names and contents of all modules of the library and the experiments."""
    found = hashlib.sha256()
    for path in sorted(path for folder in ("jcbir", "experiments") for path in (ROOT / folder).rglob("*.py")):
        content = path.read_bytes()
        found.update(f"{path.relative_to(ROOT).as_posix()} {len(content)}\n".encode() + content)
    return found.hexdigest()


def _stamp() -> dict[str, str] | None:
    place = ROOT / STAMP
    return json.loads(place.read_text()) if place.exists() else None


def _check(source: Mapping[str, Any], where: Where) -> None:
    if source["dirty"] and not where.allow_dirty:
        raise SystemExit(
            f"the tree must be clean to write {where.report}: commit first, or leave --report out "
            "(--allow-dirty writes it all the same, and says so in it)"
        )


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpu_lines() -> list[str]:
    """What the system says of its processors, a line a fact; empty where it says nothing."""
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def processor() -> str:
    """Name of the processor, or of its kind."""
    names = (line.split(":", 1)[1].strip() for line in _cpu_lines() if line.startswith("model name"))
    return next(names, platform.machine())


def _write(path: Path, content: Any) -> None:
    write_file(path, (json.dumps(content, indent=1) + "\n").encode())
