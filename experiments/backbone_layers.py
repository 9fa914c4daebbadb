"""Where a ResNet50's time goes: each of its convolutions, forward and gradient, ours and PyTorch's in turns.

    python -m experiments.backbone_layers --report experiments/results/backbone_layers.json

Every distinct convolution of the network is timed alone, medians of `repeats` turns, and counted as often as the
network has it. What the network takes beyond the sum of its convolutions is normalization, activations, pooling and,
in training, the optimizer.
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from rich.progress import track

from experiments import torch_resnet
from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir.models import convolve


@dataclass(frozen=True)
class Sizes:
    """What to time.

    Attributes:
        where: places.
        batch: images.
        size: pixels a side.
        repeats: turns.
    """

    where: At = PLACES
    batch: int = 16
    size: int = 128
    repeats: int = 5


SCALES: dict[Scale, Sizes] = {"cpu": Sizes()}


class Layer(NamedTuple):
    """One shape of convolution."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    size: int


def layers(size: int) -> Counter[Layer]:
    """The convolutions of ResNet50 and how often each occurs."""
    found: Counter[Layer] = Counter()

    def note(module: torch.nn.Conv2d, inputs: tuple[torch.Tensor], _: Any) -> None:
        shape = module.in_channels, module.out_channels, module.kernel_size[0], module.stride[0]
        found[Layer(*shape, inputs[0].shape[-1])] += 1

    network = torch_resnet.ResNet(50).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(note)
    with torch.no_grad():
        network(torch.zeros(1, 3, size, size))
    return found


def ours(layer: Layer, x: np.ndarray, w: np.ndarray) -> dict[str, Callable[[], Any]]:
    pad = layer.kernel // 2

    def forward(x: jax.Array, w: jax.Array) -> jax.Array:
        return convolve(x, w, (layer.stride, layer.stride), ((pad, pad), (pad, pad)))

    def gradient(x: jax.Array, w: jax.Array, g: jax.Array) -> tuple[jax.Array, ...]:
        return jax.vjp(forward, x, w)[1](g)

    images, kernel = jnp.asarray(x), jnp.asarray(w)
    cotangent = jnp.ones_like(jax.jit(forward)(images, kernel))
    run, back = jax.jit(forward), jax.jit(gradient)
    return {
        "forward": lambda: jax.block_until_ready(run(images, kernel)),
        "gradient": lambda: jax.block_until_ready(back(images, kernel, cotangent)),
    }


def theirs(layer: Layer, x: np.ndarray, w: np.ndarray) -> dict[str, Callable[[], Any]]:
    images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).to(memory_format=torch.channels_last)
    kernel = torch.from_numpy(w.transpose(3, 2, 0, 1).copy()).to(memory_format=torch.channels_last)
    images.requires_grad_(True)
    kernel.requires_grad_(True)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return torch.nn.functional.conv2d(images, kernel, None, layer.stride, layer.kernel // 2)

    result = torch.nn.functional.conv2d(images, kernel, None, layer.stride, layer.kernel // 2)
    cotangent = torch.ones_like(result)

    def gradient() -> Any:
        return torch.autograd.grad(result, (images, kernel), cotangent, retain_graph=True)

    return {"forward": forward, "gradient": gradient}


def measure(layer: Layer, config: Sizes) -> dict[str, dict[str, float]]:
    g = np.random.default_rng(0)
    x = g.standard_normal((config.batch, layer.size, layer.size, layer.inputs)).astype(np.float32)
    w = g.standard_normal((layer.kernel, layer.kernel, layer.inputs, layer.outputs)).astype(np.float32)
    runs = {"jcbir": ours(layer, x, w), "torch": theirs(layer, x, w)}
    seconds: dict[str, dict[str, list[float]]] = {name: {"forward": [], "gradient": []} for name in runs}
    for turn in range(config.repeats + 1):
        for name, jobs in runs.items():
            for job, run in jobs.items():
                start = time.perf_counter()
                run()
                if turn:
                    seconds[name][job].append(time.perf_counter() - start)
    return {name: {job: statistics.median(each) for job, each in jobs.items()} for name, jobs in seconds.items()}


def main(config: Sizes) -> dict[str, Any]:
    """Time every convolution."""
    run = begin("backbone_layers", config, packages=("torch",))
    rows = []
    for layer, count in track(sorted(layers(config.size).items()), "convolutions"):
        found = measure(layer, config)
        rows.append({**layer._asdict(), "count": count, **found})
        jax.clear_caches()
    for kernel in sorted({row["kernel"] for row in rows}):
        for job in ("forward", "gradient"):
            spent = {
                name: sum(row["count"] * row[name][job] for row in rows if row["kernel"] == kernel)
                for name in ("jcbir", "torch")
            }
            print(f"{kernel}x{kernel} {job}: " + ", ".join(f"{name} {1e3 * s:.0f} ms" for name, s in spent.items()))
    return finish(run, {"batch": config.batch, "size": config.size, "rows": rows})


if __name__ == "__main__":
    main(command_line(SCALES))
