"""Batches from elsewhere, parts of a batch, half precision, memories, hooks and several devices."""

import io
import itertools
import json
import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jcbir import hashing

G = np.random.default_rng(0)
ROWS = G.normal(size=(12, 1, 1, 3)).astype(np.float32)
TARGETS = (ROWS[:, 0, 0] @ G.normal(size=(3, 2))).astype(np.float32)
WEIGHTS = G.normal(size=(3, 2)).astype(np.float32)
OPTIMIZER = optax.adam(0.05)


def apply(variables, images, key):
    return images[:, 0, 0] @ variables["params"]["w"], {}


def square(outputs, targets):
    return jnp.square(outputs - targets).sum(-1)


def fresh(**more):
    return hashing.init_state(jax.random.key(0), {"params": {"w": WEIGHTS}}, optimizer=OPTIMIZER, **more)


def step_of(**more):
    return partial(hashing.train_step, **({"apply": apply, "loss": square, "optimizer": OPTIMIZER} | more))


def of_epoch(epoch):
    order = np.roll(np.arange(12), epoch)
    for at in order.reshape(3, 4):
        yield ROWS[at], TARGETS[at]


class Loader:
    """What a DataLoader is: iterated anew each epoch, with tensors that only NumPy can read."""

    class Tensor:
        def __init__(self, array):
            self._array = array

        def __array__(self, dtype=None, copy=None):
            return self._array

    def __iter__(self):
        return ([self.Tensor(a), self.Tensor(b)] for a, b in of_epoch(0))


def test_batches_of_a_function_a_loader_and_an_endless_iterator():
    once = [*of_epoch(0)]
    forms = {"function": lambda epoch: of_epoch(0), "loader": Loader(), "endless": itertools.cycle(once), "list": once}
    ends = [hashing.fit_batches(fresh(), form, step=step_of(), epochs=2, per_epoch=3)[0] for form in forms.values()]
    for end in ends:
        assert int(end.step) == 6
        np.testing.assert_array_equal(end.params["w"], ends[0].params["w"])
    by_hand, jitted = fresh(), jax.jit(step_of())
    for images, targets in once * 2:
        by_hand, _ = jitted(by_hand, hashing.Batch(jnp.asarray(images), jnp.asarray(targets)))
    np.testing.assert_array_equal(ends[0].params["w"], by_hand.params["w"])


def test_a_resumed_run_of_batches_is_the_uninterrupted_one():
    whole, _ = hashing.fit_batches(fresh(), of_epoch, step=step_of(), epochs=3, per_epoch=3)
    state, jitted = fresh(), jax.jit(step_of())
    for images, targets in [*of_epoch(0), *of_epoch(1)][:4]:
        state, _ = jitted(state, hashing.Batch(jnp.asarray(images), jnp.asarray(targets)))
    kept, history = hashing.fit_batches(state, of_epoch, step=step_of(), epochs=3, per_epoch=3)
    assert [line["epoch"] for line in history] == [1, 2]
    np.testing.assert_array_equal(kept.params["w"], whole.params["w"])


def test_too_few_batches_and_no_pairs_are_named(unchecked):
    with pytest.raises(ValueError, match="batches: must be 4 an epoch, got 3 in epoch 0"):
        hashing.fit_batches(fresh(), of_epoch, step=step_of(), epochs=1, per_epoch=4)
    with pytest.raises(ValueError, match="batches: must be pairs of images and targets, got ndarray"):
        hashing.fit_batches(fresh(), [ROWS], step=step_of(), epochs=1, per_epoch=1)
    for targets in (TARGETS[:1], TARGETS[:-1], np.float32(1)):
        with pytest.raises(ValueError, match="batches: must have a target for each image, got arrays of shapes"):
            hashing.fit_batches(fresh(), [(ROWS, targets)], step=step_of(), epochs=1, per_epoch=1)
    with pytest.raises(ValueError, match="per_epoch: must be a whole number of at least 1, got 0"):
        hashing.fit_batches(fresh(), of_epoch, step=step_of(), epochs=1, per_epoch=0)


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_of_a_batch_have_the_gradient_of_the_whole(parts):
    batch = hashing.Batch(jnp.asarray(ROWS), jnp.asarray(TARGETS))
    whole, metrics = jax.jit(step_of())(fresh(), batch)
    split, summed = jax.jit(step_of(accumulate=parts))(fresh(), batch)
    np.testing.assert_allclose(split.params["w"], whole.params["w"], rtol=1e-6)
    for name in metrics:
        np.testing.assert_allclose(summed[name], metrics[name], rtol=1e-6)


def test_parts_that_do_not_divide_the_batch_are_named():
    batch = hashing.Batch(jnp.asarray(ROWS), jnp.asarray(TARGETS))
    with pytest.raises(ValueError, match="accumulate: must divide the batch of 12, got 5"):
        step_of(accumulate=5)(fresh(), batch)


def test_half_precision_is_inside_the_network_alone():
    seen = []

    def watched(variables, images, key):
        seen.append((variables["params"]["w"].dtype, images.dtype))
        return apply(variables, images, key)

    def checked(outputs, targets):
        assert outputs.dtype == jnp.float32
        return square(outputs, targets)

    batch = hashing.Batch(jnp.asarray(ROWS), jnp.asarray(TARGETS))
    state, metrics = step_of(apply=watched, loss=checked, compute_dtype=jnp.bfloat16)(fresh(), batch)
    _, exact = step_of()(fresh(), batch)
    assert seen == [(jnp.bfloat16, jnp.bfloat16)]
    assert state.params["w"].dtype == jnp.float32
    assert metrics["loss"] != exact["loss"]
    np.testing.assert_allclose(metrics["loss"], exact["loss"], rtol=0.02)


@pytest.mark.parametrize("parts", [1, 3])
def test_a_memory_is_filled_before_the_loss_and_saved_with_the_state(parts):
    def remember(memory, outputs, targets):
        return {"sum": memory["sum"] + outputs.sum(), "seen": memory["seen"] + len(outputs)}

    def loss(outputs, targets, memory):
        # The gradient of a memory is none: this adds to the value alone.
        return square(outputs, targets) + memory["sum"]

    batch = hashing.Batch(jnp.asarray(ROWS), jnp.asarray(TARGETS))
    state = fresh(memory={"sum": jnp.float32(0), "seen": jnp.int32(0)})
    after, metrics = jax.jit(step_of(loss=loss, remember=remember, accumulate=parts))(state, batch)
    plain, exact = jax.jit(step_of())(fresh(), batch)
    np.testing.assert_allclose(after.params["w"], plain.params["w"], rtol=1e-6)
    np.testing.assert_allclose(after.memory["sum"], (ROWS[:, 0, 0] @ WEIGHTS).sum(), rtol=1e-5)
    assert after.memory["seen"] == 12
    if parts == 1:
        np.testing.assert_allclose(metrics["loss"], exact["loss"] + after.memory["sum"], rtol=1e-5)
    again = hashing.state_from_bytes(hashing.state_to_bytes(after), like=state)
    jax.tree.map(np.testing.assert_array_equal, again.memory, after.memory)


def test_every_draw_of_a_run_has_a_key_of_its_own():
    """Augmentation and dropout, in every part of every step: no two draw the same."""

    def augment(key, images):
        return jnp.full(images.shape, jax.random.uniform(key))

    def drawing(variables, images, key):
        drawn = jnp.stack([images[:, 0, 0, 0], jnp.full(len(images), jax.random.uniform(key))], axis=1)
        return drawn + 0 * images[:, 0, 0] @ variables["params"]["w"], {}

    def note(memory, outputs, targets):
        seen, count = memory
        return seen.at[count].set(outputs[0]), count + 1

    def nothing(outputs, targets, memory):
        return outputs.sum(-1)

    state = fresh(memory=(jnp.zeros((6, 2)), jnp.int32(0)))
    step = step_of(apply=drawing, loss=nothing, augment=augment, remember=note, accumulate=2)
    for _ in range(3):
        state, _ = step(state, hashing.Batch(jnp.asarray(ROWS[:4]), jnp.asarray(TARGETS[:4])))
    assert len(np.unique(np.asarray(state.memory[0]))) == 12


def test_an_evaluation_joins_the_metrics_and_lines_are_json():
    seen, file = [], io.StringIO()
    _, history = hashing.fit(
        fresh(),
        ROWS,
        TARGETS,
        step=step_of(),
        epochs=2,
        batch=4,
        evaluate=lambda state: {"steps": jnp.float32(state.step)},
        checkpoint=lambda state, metrics: seen.append(metrics["steps"]),
        progress=hashing.log_lines(file, every=2),
    )
    assert [line["steps"] for line in history] == seen == [3.0, 6.0]
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert {*lines[0]} == {"step", "steps", "epoch", "loss", "gradient_norm"}


PROGRAM = """
import jax, jax.numpy as jnp, numpy as np, optax
from functools import partial
from jax.sharding import Mesh
from jcbir import hashing, models
from jcbir.hashing import losses

assert len(jax.devices()) == 8
module = models.small(stages=(1, 1), width=4, bits=8)
g = np.random.default_rng(0)
images = g.integers(0, 256, (32, 8, 8, 3), np.uint8)
labels = g.integers(0, 3, 32).astype(np.int32)
variables = jax.jit(module.init)(jax.random.key(0), images[:1].astype(np.float32))
optimizer = optax.sgd(0.05)
apply = hashing.linen_apply(module, select=lambda outputs: outputs.hash_logits)
step = jax.jit(
    partial(
        hashing.train_step,
        apply=lambda v, x, k: apply(v, x.astype(jnp.float32) / 255, k),
        loss=losses.dpsh,
        optimizer=optimizer,
        augment=hashing.crop_and_flip,
    )
)
ends = []
for mesh in (None, Mesh(np.array(jax.devices()), ("batch",))):
    state = hashing.init_state(jax.random.key(1), variables, optimizer=optimizer)
    ends.append(hashing.fit(state, images, labels, step=step, epochs=2, batch=16, mesh=mesh))
(one, first), (eight, second) = ends
assert len(jax.tree.leaves(eight.params)[0].sharding.device_set) == 8
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), one.params, eight.params)
np.testing.assert_allclose([line["loss"] for line in first], [line["loss"] for line in second], rtol=1e-6)
print("same")
"""


@pytest.mark.slow
def test_eight_devices_give_the_weights_of_one():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | flags, capture_output=True, text=True, check=False
    )
    assert answer.stdout.strip() == "same", answer.stderr[-3000:]
