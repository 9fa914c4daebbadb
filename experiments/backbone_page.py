"""Writes docs/backbones.md from the reports of `experiments.{check_backbone,bench_backbone,backbone_layers}`.

python -m experiments.backbone_page
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

JOBS = {"infer": "inference", "train": "training step"}


@dataclass(frozen=True)
class Config:
    """Where the figures are and where the page goes."""

    check: Path = Path("experiments/results/check_backbone.json")
    """Report of `experiments.check_backbone`."""
    bench: Path = Path("experiments/results/bench_backbone.json")
    """Report of `experiments.bench_backbone`."""
    layers: Path = Path("experiments/results/backbone_layers.json")
    """Report of `experiments.backbone_layers`."""
    gpu: Path = Path("experiments/results/bench_backbone_gpu.json")
    """Report of `experiments.bench_backbone` on a GPU; the page does without it where there is none."""
    page: Path = Path("docs/backbones.md")
    """The page to write."""


def page(
    check: dict[str, Any], bench: dict[str, Any], layers: dict[str, Any], gpu: dict[str, Any] | None = None
) -> str:
    """The page, from three reports and perhaps a fourth."""
    return f"""# The ImageNet ResNet50, measured

Written by `python -m experiments.backbone_page` from the reports of its commands; do not edit the figures by hand.

## On photographs

`python -m experiments.check_backbone --imagenette FILE.npz --report experiments/results/check_backbone.json`, weights
`{check["weights"]}`, 1000-way classification of imagenette at 160 px (enlarged to what the network expects):

| photographs | number | top-1 | top-5 |
|---|---|---|---|
| official ILSVRC2012 validation images: no ImageNet network was trained on them | {check["photographs"]} | \
{check["top1"]:.3f} | {check["top5"]:.3f} |
| imagenette's own validation split: mostly ImageNet *training* images | {check["photographs_val"]:,} | \
{check["top1_val"]:.3f} | {check["top5_val"]:.3f} |

The second row is the flattered one: the network has seen those photographs. Pooled features, cosine ranking, 150
queries on 1,000 photographs: {check["feature_map_convention"]} {check["feature_map"]:.3f}.

| agreement | largest absolute difference of logits |
|---|---|
| with PyTorch, the same weights, 8 photographs | {number(check["parity_torch_max_abs"])} |
| with `hk.nets.ResNet50`, random weights and statistics, 64 and 224 px | {number(check["parity_haiku_max_abs"])} |
| float16 kernels against float32, logits up to {check["logit_max_abs"]:.0f} | \
{number(check["half_logit_max_abs_difference"])}; same top-1 class in {100 * check["half_same_top1"]:.1f} % |

## Speed

`python -m experiments.bench_backbone --report experiments/results/bench_backbone.json`: {bench["machine"]["device"]},
{bench["machine"]["cores"]} cores, {bench["machine"]["architecture"]}; jax {bench["versions"]["jax"]}, PyTorch \
{bench["versions"]["torch"]}. Images a second, medians of turns taken in one run;
the ratio is to the faster PyTorch. A training step is forward, backward and Adam on the CSQ loss.

{speeds(bench)}

Worst ratio: inference {bench["infer_ratio_vs_torch"]:.2f} ({bench["infer_cpu_ratio_vs_torch"]:.2f} in processor time),
training {bench["train_ratio_vs_torch"]:.2f} ({bench["train_cpu_ratio_vs_torch"]:.2f}).
Peak memory of the largest training step: jcbir {bench["peak_mb"]["jcbir"]:,.0f} MB, PyTorch \
{bench["peak_mb"]["torch"]:,.0f} MB.

### What remains

`python -m experiments.backbone_layers --size {layers["size"]} --batch {layers["batch"]} --report
experiments/results/backbone_layers.json` times every convolution of the network alone, milliseconds for all of a kind:

{shares(layers)}

Where the ratio is below 1, XLA's CPU kernels (Eigen's contractions) are behind oneDNN's, and nothing above the kernel
makes up for it. Batch normalization, activations and pooling come on top of these sums in both libraries.

### On a GPU

{on_gpu(gpu)}
"""


def on_gpu(gpu: dict[str, Any] | None) -> str:
    """The same on a GPU, where wall time is the only clock."""
    if gpu is None:
        return "Not measured."
    lines = [
        f"""`python -m experiments.bench_backbone --dtype bfloat16 --batches 256 --sizes 224` on one
{gpu["machine"]["device"]}, jax {gpu["versions"]["jax"]}, PyTorch {gpu["versions"]["torch"]} (autocast, channels_last,
cuDNN's search on). Images a second, photographs on the card.
""",
        "| job | batch | px | jcbir | PyTorch | compiled | ratio | share of the card's peak |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in gpu["rows"]:
        rates = [rate(row.get(name)) for name in ("jcbir", "torch", "torch_compiled")]
        ends = [f"{row['ratio_vs_torch']:.2f}", f"{100 * row['share_of_peak']:.0f} %"]
        lines.append(f"| {' | '.join([JOBS[row['job']], str(row['batch']), str(row['size']), *rates, *ends])} |")
    # The ratio is to the faster of the two; the other one tells what compiling is worth.
    eager = ", ".join(f"{JOBS[r['job']]} {r['torch']['s'] / r['jcbir']['s']:.2f}" for r in gpu["rows"])
    peak = gpu["peak_mb"] or {}
    ours, theirs = (f"{peak[name]:,.0f} MB" if name in peak else "not measured" for name in ("jcbir", "torch"))
    memory = f"Peak of the card's memory, training step: jcbir {ours}, PyTorch {theirs}."
    eager = (
        f"Against PyTorch that is not compiled: {eager}. Where the ratio is below 1, no profile was taken of the rest."
    )
    return "\n".join([*lines, "", eager, memory])


def speeds(bench: dict[str, Any]) -> str:
    """One line for each job, batch and size."""
    lines = [
        "| job | batch | px | jcbir | XLA's convolutions | PyTorch | compiled | ratio | ratio, processor time |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in bench["rows"]:
        rates = [rate(row.get(name)) for name in ("jcbir", "xla_convolutions", "torch", "torch_compiled")]
        ratios = [f"{row[name]:.2f}" for name in ("ratio_vs_torch", "cpu_ratio_vs_torch")]
        lines.append(f"| {' | '.join([JOBS[row['job']], str(row['batch']), str(row['size']), *rates, *ratios])} |")
    return "\n".join(lines)


def shares(layers: dict[str, Any]) -> str:
    """The convolutions by kernel and job."""
    lines = ["| kernel | job | jcbir | PyTorch | ratio |", "|---|---|---|---|---|"]
    totals = {"jcbir": 0.0, "torch": 0.0}
    for kernel in sorted({row["kernel"] for row in layers["rows"]}):
        chosen = [row for row in layers["rows"] if row["kernel"] == kernel]
        for job in ("forward", "gradient"):
            spent = {name: 1e3 * sum(row["count"] * row[name][job] for row in chosen) for name in totals}
            totals = {name: totals[name] + spent[name] for name in totals}
            lines.append(share(f"{kernel}x{kernel}", job, spent))
    return "\n".join([*lines, share("all", "both", totals)])


def share(kernel: str, job: str, spent: dict[str, float]) -> str:
    """One line of `shares`."""
    return f"| {kernel} | {job} | {spent['jcbir']:.0f} | {spent['torch']:.0f} | {spent['torch'] / spent['jcbir']:.2f} |"


def rate(run: dict[str, Any] | str | None) -> str:
    """Images a second, or why there is none."""
    return f"{run['images_per_s']:.1f}" if isinstance(run, dict) else (run or "not measured")


def number(value: float | None) -> str:
    """Two digits, or that nobody measured."""
    return "not measured" if value is None else f"{value:.2g}"


def main(config: Config) -> None:
    config.page.write_text(page(*reports(config)))


def reports(config: Config) -> list[dict[str, Any]]:
    """What `page` takes."""
    paths = (config.check, config.bench, config.layers, config.gpu)
    return [json.loads(path.read_text()) for path in paths if path.exists() or path != config.gpu]


if __name__ == "__main__":
    main(tyro.cli(Config))
