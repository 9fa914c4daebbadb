"""Checkpoints restore bit for bit; a run that is killed and started again ends with the weights of one that was not."""

import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jcbir import hashing
from jcbir.errors import FormatError, KeyMismatchError
from jcbir.hashing._checkpoint import _plain
from jcbir.storage import _runs as runs

SCRIPT = pathlib.Path(__file__).with_name("interrupted_run.py")
ROOT = SCRIPT.parents[2]


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("interrupted_run", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def whole(program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    state, lines = program.run(folder)
    return folder, state, lines


def assert_same(one, other):
    one, other = (jax.tree.map(_plain, state) for state in (one, other))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_number_is_a_leaf_as_an_array_is():
    states = [
        hashing.init_state(
            jax.random.key(0), {"params": {"w": wrap(0.5)}, "batch_stats": {"n": wrap(3)}},
            optimizer=optax.adam(0.1), memory=wrap(2.0),
        )
        for wrap in (lambda number: number, jnp.asarray)
    ]  # fmt: skip
    plain, arrays = (hashing.state_to_bytes(state) for state in states)
    assert plain == arrays
    assert_same(hashing.state_from_bytes(plain, like=states[0]), states[1])
    with pytest.raises(ValueError, match=r"params\['w'\]: must be finite, got 1 of 1"):
        hashing.init_state(jax.random.key(0), {"params": {"w": float("nan")}}, optimizer=optax.adam(0.1))


def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(program, whole, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if jax.config.values["jax_disable_most_optimizations"]:
        # To the last bit only programs agree that are compiled alike.
        flags = f"--xla_cpu_use_fusion_emitters=false {os.environ.get('XLA_FLAGS', '')}"
        environment |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "true", "XLA_FLAGS": flags}
    for attempt, lines in enumerate((1, 3)):
        process = subprocess.Popen([sys.executable, SCRIPT, tmp_path, "0.15"], env=environment)
        try:
            deadline = time.monotonic() + 300
            while time.monotonic() < deadline and process.poll() is None:
                metrics = tmp_path / "metrics.jsonl"
                if metrics.exists() and len(metrics.read_text().splitlines()) >= lines:
                    break
                time.sleep(0.02)
            # Into the middle of an epoch, not of the file just written.
            time.sleep(0.2 + 0.1 * attempt)
            assert process.poll() is None, "the run ended before it could be killed"
            process.send_signal(signal.SIGKILL)
        finally:
            process.kill()
            process.wait()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) < program.EPOCHS
    state, lines = program.run(tmp_path)
    assert_same(state, whole[1])
    keys = ("epoch", "step", "loss", "val")
    assert [[line[key] for key in keys] for line in lines] == [[line[key] for key in keys] for line in whole[2]]
    assert (tmp_path / "best.safetensors").read_bytes() == (whole[0] / "best.safetensors").read_bytes()


def test_a_line_without_its_checkpoint_is_written_again(program, whole, tmp_path):
    program.run(tmp_path, epochs=2)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "loss"')
    state, _ = program.run(tmp_path)
    assert_same(state, whole[1])
    written = [json.loads(line)["epoch"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert written == list(range(program.EPOCHS))


def test_a_finished_run_is_not_trained_further(program, whole):
    state, lines = program.run(whole[0])
    assert_same(state, whole[1])
    assert len(lines) == program.EPOCHS


def test_the_best_epoch_is_the_one_of_the_highest_validation_metric_also_after_a_resume(program, tmp_path):
    fresh, images, targets, step = program.problem()
    values = [0.1, 0.5, 0.3, 0.4, 0.6, 0.2]

    def train(epochs):
        runs.train_run(
            tmp_path, fresh, images, targets, step=step, epochs=epochs, batch=8, monitor="val",
            validate=lambda state: {"val": values[int(state.step) // 5 - 1]},
        )  # fmt: skip
        return int(runs.best_state(tmp_path, fresh).step) // 5 - 1

    assert [train(epochs) for epochs in (3, 4, 6)] == [1, 1, 4]


def test_another_configuration_is_refused(program, whole):
    with pytest.raises(KeyMismatchError, match=r'must be of the run {"seed": 1}, got one of {"seed": 0}'):
        program.run(whole[0], about={"seed": 1})


def test_bytes_restore_every_leaf(whole):
    again = hashing.state_from_bytes(hashing.state_to_bytes(whole[1]), like=whole[1])
    assert_same(again, whole[1])
    assert jax.tree.structure(again) == jax.tree.structure(whole[1])


def test_a_checkpoint_of_another_network_names_the_first_difference(whole):
    other = whole[1]._replace(params={**whole[1].params, "hash": {"kernel": jnp.ones((4, 9)), "bias": jnp.ones(9)}})
    with pytest.raises(KeyMismatchError, match=r"params/hash/bias as float32\[9\], got float32\[8\]"):
        hashing.state_from_bytes(hashing.state_to_bytes(whole[1]), like=other)


@pytest.mark.parametrize("damage", [lambda c: c[:100], lambda c: b"", lambda c: b"not a safetensors file at all"])
def test_damaged_bytes_are_refused(whole, damage):
    with pytest.raises(FormatError, match="content: must be"):
        hashing.state_from_bytes(damage(hashing.state_to_bytes(whole[1])), like=whole[1])
