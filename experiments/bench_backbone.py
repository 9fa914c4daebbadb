"""ResNet50 against PyTorch, in turns on the same machine: inference and a full CSQ fine-tuning step with Adam.

    python -m experiments.bench_backbone --report experiments/results/bench_backbone.json

Each figure is the median of `repeats`, the two libraries taking turns, so that a neighbor's load meets both; PyTorch
runs channels_last, and compiled too where its compiler works; the ratio is to the faster of the two. Ratios above 1
mean that ours is faster. Besides seconds on the clock the report holds processor seconds, which a busy machine disturbs
less. `peak_mb` is of a process of its own that runs the largest training step. `kernels` has the milliseconds of one
more run of each library by what it ran, from the library's own profiler, the longest first. On a GPU, where both
libraries must allocate as they go and the share of the peak needs the card's:

    XLA_PYTHON_CLIENT_PREALLOCATE=false python -m experiments.bench_backbone --dtype bfloat16 --batches 256 \
        --sizes 224 --repeats 20 --peak-tflops 989 --report experiments/results/bench_backbone_gpu.json
"""

import gc
import json
import multiprocessing
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir import models

GFLOP_AT_224 = 8.178
"""Of one ResNet50 forward pass at 224 px, a multiply and an add counted as two."""

KERNELS = 20
"""Kinds of kernels of a profile that the report names."""


@dataclass(frozen=True)
class Steps:
    """What to measure.

    Attributes:
        where: places.
        batches: images per step.
        sizes: pixels a side.
        bits: of the hash head.
        repeats: of each measurement.
        dtype: compute type.
        routes: also measure XLA's own convolutions.
        compiled: also try `torch.compile`; where it fails, the report says why.
        peak_tflops: of the card, for the share of its peak.
    """

    where: At = PLACES
    batches: tuple[int, ...] = (16, 32)
    sizes: tuple[int, ...] = (128, 224)
    bits: int = 64
    repeats: int = 5
    dtype: Literal["float32", "bfloat16"] = "float32"
    routes: bool = True
    compiled: bool = True
    peak_tflops: float | None = None


SCALES: dict[Scale, Steps] = {"cpu": Steps()}


def ours(config: Steps, x: np.ndarray, y: np.ndarray, train: bool, convolution: Any) -> Callable[[], None]:
    dtype = jnp.dtype(config.dtype)
    module = models.resnet50(bits=config.bits, dtype=dtype, convolution=convolution)
    variables = jax.jit(module.init)(jax.random.key(0), x[:1])
    images, targets = jnp.asarray(x), jnp.asarray(y)
    if not train:
        apply = jax.jit(lambda v, x: module.apply(v, x).hash_logits)
        return lambda: jax.block_until_ready(apply(variables, images))
    optimizer = optax.adam(1e-4)
    state = [variables, optimizer.init(variables["params"])]

    def step(variables, moments, x, y):
        def loss(params):
            outputs, updated = module.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
            u = outputs.hash_logits
            center = jnp.mean(optax.sigmoid_binary_cross_entropy(2 * u, y))
            return center + 1e-4 * jnp.mean(jnp.square(jnp.abs(jnp.tanh(u)) - 1)), updated["batch_stats"]

        gradients, moving = jax.grad(loss, has_aux=True)(variables["params"])
        updates, moments = optimizer.update(gradients, moments)
        return {"params": optax.apply_updates(variables["params"], updates), "batch_stats": moving}, moments

    compiled = jax.jit(step, donate_argnums=(0, 1))

    def run() -> None:
        state[:] = jax.block_until_ready(compiled(*state, images, targets))

    return run


def theirs(config: Steps, x: np.ndarray, y: np.ndarray, train: bool, compiled: bool) -> Callable[[], None]:
    import torch

    from experiments import torch_resnet

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    network = torch_resnet.ResNet(50, config.bits).to(device, memory_format=torch.channels_last)
    images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).to(device, memory_format=torch.channels_last)
    targets = torch.from_numpy(y).to(device)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    call = torch.compile(network) if compiled else network
    half = torch.autocast(device, torch.bfloat16, enabled=config.dtype == "bfloat16")

    def infer() -> None:
        with torch.no_grad(), half:
            call(images)
        if device == "cuda":
            torch.cuda.synchronize()

    def step() -> None:
        optimizer.zero_grad()
        with half:
            u = call(images)
        u = u.float()
        center = torch.nn.functional.binary_cross_entropy_with_logits(2 * u, targets)
        (center + 1e-4 * (torch.tanh(u).abs() - 1).square().mean()).backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    network.train(train)
    return step if train else infer


def photographs(config: Steps, batch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    g = np.random.default_rng(0)
    x = g.standard_normal((batch, size, size, 3)).astype(np.float32)
    return x, g.integers(0, 2, (batch, config.bits)).astype(np.float32)


def kernels(run: Callable[[], None], name: str) -> dict[str, float]:
    """Milliseconds of one run by kernel, the longest first."""
    spent = torch_kernels(run) if name.startswith("torch") else jax_kernels(run)
    return {kernel: round(seconds * 1e3, 3) for kernel, seconds in spent.most_common(KERNELS)}


def jax_kernels(run: Callable[[], None]) -> Counter[str]:
    """Seconds by XLA instruction without its number, on a card by kernel."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        (trace,) = Path(folder).rglob("*.xplane.pb")
        planes = list(jax.profiler.ProfileData.from_file(str(trace)).planes)
    card = [line for plane in planes if plane.name.startswith("/device:GPU") for line in plane.lines]
    host = [line for plane in planes for line in plane.lines if line.name.startswith("tf_XLA")]
    spent: Counter[str] = Counter()
    for event in (event for line in card or host for event in line.events):
        # On a host the executor's own marks stand between the instructions.
        if "::" not in event.name and not event.name.startswith("end: "):
            spent[re.sub(r"[.\d]+$", "", event.name)] += event.duration_ns / 1e9
    return spent


def torch_kernels(run: Callable[[], None]) -> Counter[str]:
    """Seconds by PyTorch operation without those it calls, on a card by kernel."""
    import torch

    card = torch.cuda.is_available()
    with torch.profiler.profile() as profile:
        run()
    return Counter(
        {e.key: (e.self_device_time_total if card else e.self_cpu_time_total) / 1e6 for e in profile.key_averages()}
    )


def peak(config: Steps, name: Literal["jcbir", "torch"]) -> float:
    x, y = photographs(config, max(config.batches), max(config.sizes))
    run = ours(config, x, y, True, models.convolve) if name == "jcbir" else theirs(config, x, y, True, False)
    for _ in range(2):
        run()
    if jax.default_backend() != "cpu":
        return device_peak(name) / 1e6
    # Not getrusage: its maximum counts the parent that this process was forked from.
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def device_peak(name: Literal["jcbir", "torch"]) -> int:
    """Bytes of the accelerator's memory that were in use at most."""
    if name == "jcbir":
        return jax.devices()[0].memory_stats()["peak_bytes_in_use"]
    import torch

    return torch.cuda.max_memory_allocated()


def peaks(config: Steps) -> dict[str, float]:
    found = {}
    for name in ("jcbir", "torch"):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found[name] = pool.submit(peak, config, name).result()
    return found


def measure(config: Steps, train: bool, batch: int, size: int) -> dict[str, Any]:
    x, y = photographs(config, batch, size)
    runs = {"jcbir": ours(config, x, y, train, models.convolve), "torch": theirs(config, x, y, train, False)}
    if config.routes:
        runs["xla_convolutions"] = ours(config, x, y, train, None)
    if config.compiled:
        runs["torch_compiled"] = theirs(config, x, y, train, True)
    found: dict[str, dict[str, Any]] = {}
    failed = {}
    for name, run in list(runs.items()):
        started = time.perf_counter()
        try:
            run()
        except RuntimeError as error:
            # Of torch.compile, which needs a C++ compiler and more; ours has no business failing.
            if name != "torch_compiled":
                raise
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            del runs[name]
            continue
        found[name] = {"first_s": time.perf_counter() - started, "s": [], "cpu_s": []}
    for _ in range(config.repeats):
        for name, run in runs.items():
            clock, processor = time.perf_counter(), time.process_time()
            run()
            found[name]["s"].append(time.perf_counter() - clock)
            found[name]["cpu_s"].append(time.process_time() - processor)
    for name in found:
        found[name] |= {key: statistics.median(found[name][key]) for key in ("s", "cpu_s")}
    for name in found:
        found[name]["images_per_s"] = batch / found[name]["s"]
        found[name]["kernels"] = kernels(runs[name], name)
    rivals = [name for name in found if name.startswith("torch")]
    entry = {
        "job": "train" if train else "infer",
        "batch": batch,
        "size": size,
        "ratio_vs_torch": min(found[name]["s"] for name in rivals) / found["jcbir"]["s"],
        "cpu_ratio_vs_torch": min(found[name]["cpu_s"] for name in rivals) / found["jcbir"]["cpu_s"],
        **found,
        **failed,
    }
    if config.peak_tflops is not None:
        # Multiplications go with the pixels, and a training step is about three forward passes.
        flop = GFLOP_AT_224 * 1e9 * (size / 224) ** 2 * (3 if train else 1)
        entry["share_of_peak"] = found["jcbir"]["images_per_s"] * flop / (config.peak_tflops * 1e12)
    return entry


def main(config: Steps) -> dict[str, Any]:
    """Measure every job, batch and size."""
    run = begin("bench_backbone", config, packages=("torch",))
    rows = []
    for train in (False, True):
        for size in config.sizes:
            for batch in config.batches:
                rows.append(measure(config, train, batch, size))
                print(json.dumps(rows[-1]), flush=True)
                jax.clear_caches()
                gc.collect()

    def worst(job: str, key: str) -> float:
        return min(row[key] for row in rows if row["job"] == job)

    report = {
        "infer_ratio_vs_torch": worst("infer", "ratio_vs_torch"),
        "train_ratio_vs_torch": worst("train", "ratio_vs_torch"),
        "infer_cpu_ratio_vs_torch": worst("infer", "cpu_ratio_vs_torch"),
        "train_cpu_ratio_vs_torch": worst("train", "cpu_ratio_vs_torch"),
        "rows": rows,
        "peak_mb": peaks(config),
    }
    return finish(run, report)


if __name__ == "__main__":
    main(command_line(SCALES))
