"""Table 4: how long a training step of each deep method takes on one network, batch and device, measured in turn.

Command: python -m experiments.table4_training_time --scale cpu
    --report experiments/results/table4_training_time_cpu.json
Hardware: smoke and cpu: two cores; full: one GPU of 24 GB.
Time: smoke: half a minute; cpu: ten minutes, most of it compiling; full: not measured.
Expected: on a small network losses over centers within 5 % of one another, losses over pairs and triplets up to a
    tenth above; less on a large one, where the loss is a smaller part of a step. Read
    the ratios: the seconds are those of the machine.
Paper: shortest training of all on all sets, "at least 9.7 %". The abstract calls the same figure retrieval time, which
    Table 4 does not measure. Its cells could not be found.
Status: smoke: run by the tests. cpu: run at 64 bits. full: not run.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from experiments import learning, methods
from experiments.learning import FULL, SMOKE, Bench, Learn, Learning
from experiments.running import PLACES, At, Scale, begin, command_line, finish
from jcbir.hashing import Batch, TrainState, init_state


@dataclass(frozen=True)
class Timing:
    """What is timed.

    Attributes:
        where: scale and places.
        learn: network, batch and code lengths.
        methods: deep methods, in lower case.
        rounds: turns; each times every method once.
        steps: steps a turn.
    """

    where: At = PLACES
    learn: Learn = SMOKE
    methods: tuple[str, ...] = ("csq", "dpsh")
    rounds: int = 2
    steps: int = 2


SCALES: dict[Scale, Timing] = {
    "smoke": Timing(),
    "cpu": Timing(learn=Learning(tune="all", bits=(16, 32, 64)), methods=methods.DEEP, rounds=5, steps=4),
    "full": Timing(learn=FULL, methods=methods.DEEP, rounds=9, steps=20),
}


def main(config: Timing) -> dict[str, Any]:
    """Time every method at every length."""
    run = begin("table4_training_time", config)
    prepared = learning.bench(config.learn, folder=run.folder, cache=config.where.runs)
    lengths = {str(bits): times(prepared, config, bits) for bits in config.learn.bits}
    for bits, rows in lengths.items():
        for method, row in rows.items():
            print(
                f"{bits:>3} bits {methods.title(method):10} {row['seconds_per_step'] * 1e3:9.2f} ms a step, "
                f"{row['ratio_to_csq']:.3f} of CSQ, prepared in {row['prepare_seconds']:.2f} s",
                flush=True,
            )
    return finish(run, {"protocol": prepared.task.protocol, "batch": config.learn.batch, "bits": lengths})


def times(prepared: Bench, config: Timing, bits: int) -> dict[str, dict[str, Any]]:
    """Least seconds a step over the turns: what other work on the machine adds is never negative."""
    runners, spent = {}, {}
    for method in config.methods:
        runners[method], spent[method] = stepper(prepared, method, bits)
        # Compiles.
        runners[method](1)
    turns: dict[str, list[float]] = {method: [] for method in config.methods}
    for turn in range(config.rounds):
        # No method always follows the same one, or comes last.
        order = config.methods[turn % len(config.methods) :] + config.methods[: turn % len(config.methods)]
        for method in order:
            advance = runners[method]
            begun = time.perf_counter()
            advance(config.steps)
            turns[method].append((time.perf_counter() - begun) / config.steps)
    first = "csq" if "csq" in turns else config.methods[0]
    return {
        method: {
            "seconds_per_step": min(values),
            "ratio_to_csq": min(values) / min(turns[first]),
            "prepare_seconds": spent[method],
        }
        for method, values in turns.items()
    }


def stepper(prepared: Bench, method: str, bits: int) -> tuple[Callable[[int], None], float]:
    """A function that takes so many training steps and waits for them, and the seconds its targets took."""
    net = learning.network(prepared, bits)
    labels = prepared.task.labels[prepared.task.rows["train"]]
    key, init_key, target_key, class_key = jax.random.split(jax.random.key(0), 4)
    optimizer, _, augment = learning.recipe(prepared)
    step = methods.step_of(
        method,
        apply=net.train,
        optimizer=optimizer,
        classes=labels.shape[1],
        bits=bits,
        steps=1000,
        augment=augment,
    )
    begun = time.perf_counter()
    targets = methods.targets_of(method, target_key, labels, bits=bits)
    spent = time.perf_counter() - begun
    variables = net.init(init_key)
    params = variables["params"] | methods.classifier(method, class_key, classes=labels.shape[1], bits=bits)
    fresh = init_state(key, {**variables, "params": params}, optimizer=optimizer)
    state: list[TrainState] = [jax.tree.map(jnp.asarray, fresh)]
    first = slice(prepared.learn.batch)
    batch = Batch(jnp.asarray(net.inputs["train"][first]), jnp.asarray(targets[first]))

    def advance(count: int) -> None:
        for _ in range(count):
            state[0], _ = step(state[0], batch)
        jax.block_until_ready(state[0].params)

    return advance, spent


if __name__ == "__main__":
    main(command_line(SCALES))
