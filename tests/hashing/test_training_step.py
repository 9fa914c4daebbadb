"""The training step, the driver and the encoder, on a network small enough to compile in a second."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jcbir import hashing
from jcbir.hashing import centers, losses
from jcbir.hashing._training import _epoch_order
from jcbir.models import Backbone, Preprocessing


class Tiny(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = x.astype(jnp.float32) / 255.0
        x = nn.relu(
            nn.BatchNorm(use_running_average=not train, momentum=0.5, name="bn")(nn.Conv(4, (3, 3), name="conv")(x))
        )
        x = nn.Dropout(0.1, deterministic=not train)(x.mean(axis=(1, 2)))
        return nn.Dense(8, name="hash_head")(x)


OPTIMIZERS = {
    "two_rates": lambda: hashing.two_rates(steps_per_epoch=2, rate=0.05, backbone_scale=0.5, decay_epochs=5),
    "paper_adam": lambda: hashing.paper_adam(steps_per_epoch=2, rate=0.05),
}


@pytest.fixture(scope="module")
def problem():
    colors = np.eye(3, dtype=np.uint8)[np.arange(18) % 3] * 200
    images = (
        np.broadcast_to(colors[:, None, None, :], (18, 6, 6, 3)) + np.arange(18, dtype=np.uint8)[:, None, None, None]
    )
    targets = centers.hadamard(3, 8)[np.arange(18) % 3]
    variables = jax.jit(Tiny().init)(jax.random.key(0), images[:1])
    return images, targets, variables


@cache
def step_of(name, loss):
    optimizer = OPTIMIZERS[name]()
    step = partial(
        hashing.train_step,
        apply=hashing.linen_apply(Tiny()),
        loss=loss,
        optimizer=optimizer,
        augment=partial(hashing.crop_and_flip, padding=1),
    )
    return optimizer, jax.jit(step)


def make(variables, *, name="two_rates", loss=losses.csq):
    optimizer, step = step_of(name, loss)
    return hashing.init_state(jax.random.key(7), variables, optimizer=optimizer), step


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_loss_falls_and_the_codes_become_the_centers(problem, name):
    images, targets, variables = problem
    state, step = make(variables, name=name)
    state, history = hashing.fit(state, images, targets, step=step, epochs=30, batch=9)
    assert history[-1]["loss"] < 0.3 * history[0]["loss"]
    logits = hashing.encode(Tiny().apply, {"params": state.params, "batch_stats": state.batch_stats}, images, batch=5)
    assert ((logits >= 0) == targets).mean() > 0.95


def test_batch_statistics_follow_the_data_and_the_given_state_is_left_alone(problem):
    images, targets, variables = problem
    state, step = make(variables)
    before = jax.tree.map(np.array, state.batch_stats)
    after, metrics = step(jax.tree.map(jnp.asarray, state), hashing.Batch(images[:9], targets[:9]))
    assert int(after.step) == 1
    assert int(state.step) == 0
    assert np.isfinite(float(metrics["gradient_norm"]))
    assert np.abs(after.batch_stats["bn"]["mean"] - before["bn"]["mean"]).max() > 0
    np.testing.assert_array_equal(state.batch_stats["bn"]["mean"], before["bn"]["mean"])


def test_one_program_is_compiled_for_a_whole_run(problem):
    images, targets, variables = problem
    state, step = make(variables)
    traces = []

    def counted(state, batch):
        traces.append(batch.images.shape)
        return step(state, batch)

    hashing.fit(state, images, targets, step=counted, epochs=3, batch=4)
    assert traces == [(4, 6, 6, 3)]


def test_stopping_anywhere_and_continuing_gives_the_same_weights(problem):
    images, targets, variables = problem
    state, step = make(variables)
    whole, _ = hashing.fit(state, images, targets, step=step, epochs=4, batch=6)
    half = jax.tree.map(jnp.asarray, state)
    for index in range(5):
        order = _epoch_order(state.key, index // 3, count=18)
        at = order[(index % 3) * 6 : (index % 3 + 1) * 6]
        half, _ = step(half, hashing.Batch(jnp.asarray(images[at]), jnp.asarray(targets[at])))
    kept, history = hashing.fit(half, images, targets, step=step, epochs=4, batch=6)
    assert [record["epoch"] for record in history] == [1, 2, 3]
    jax.tree.map(np.testing.assert_array_equal, whole.params, kept.params)
    jax.tree.map(np.testing.assert_array_equal, whole.opt_state, kept.opt_state)


def test_every_epoch_has_an_order_of_its_own():
    orders = [_epoch_order(jax.random.key(seed), epoch, count=18).tolist() for seed in (0, 1) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 6
    assert all(sorted(order) == list(range(18)) for order in orders)


def test_progress_counts_steps_and_checkpoint_sees_every_epoch(problem):
    images, targets, variables = problem
    state, step = make(variables)
    reports, saved = [], []
    hashing.fit(
        state, images, targets, step=step, epochs=2, batch=8, progress=reports.append,
        checkpoint=lambda state, record: saved.append((int(state.step), record["epoch"])),
    )  # fmt: skip
    assert [(r.step, r.steps, r.epoch, r.images) for r in reports] == [
        (1, 4, 0, 8),
        (2, 4, 0, 8),
        (3, 4, 1, 8),
        (4, 4, 1, 8),
    ]
    assert saved == [(2, 0), (4, 1)]


def test_fewer_images_than_a_batch_are_one_batch(problem):
    images, targets, variables = problem
    state, step = make(variables)
    state, _ = hashing.fit(state, images[:3], targets[:3], step=step, epochs=2, batch=64)
    assert int(state.step) == 2


def test_a_nan_loss_stops_the_run_with_step_and_epoch(problem):
    images, targets, variables = problem
    state, step = make(variables, loss=lambda u, t: losses.csq(u, t) + jnp.where(u.sum() > -1e30, jnp.nan, 0.0))
    with pytest.raises(ValueError, match="loss: must stay finite, got nan at step 0 of epoch 0"):
        hashing.fit(state, images, targets, step=step, epochs=2, batch=9)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_damaged_weights_are_refused_before_training_and_by_the_encoder(problem, value):
    images, _, variables = problem
    damaged = jax.tree.map(lambda leaf: leaf, variables)
    damaged["params"]["hash_head"]["bias"] = jnp.asarray(np.array([0] * 7 + [value], np.float32))
    with pytest.raises(ValueError, match=r"params\['hash_head'\]\['bias'\]: must be finite, got 1 of 8"):
        hashing.init_state(jax.random.key(0), damaged, optimizer=optax.adam(1e-3))
    with pytest.raises(ValueError, match=r"logits: must be finite.*18 of 18 images, first image 0"):
        hashing.encode(Tiny().apply, damaged, images, batch=5)


@pytest.mark.parametrize(("count", "rows", "batch", "message"), [
    (0, 0, 4, "images: must hold at least one image"),
    (18, 17, 4, "targets: must have 18 rows"),
    (18, 18, 0, "batch: must be a whole number of at least 1, got 0"),
])  # fmt: skip
def test_fit_names_bad_input(problem, count, rows, batch, message):
    images, targets, variables = problem
    state, step = make(variables)
    with pytest.raises(ValueError, match=message):
        hashing.fit(state, images[:count], targets[:rows], step=step, epochs=1, batch=batch)


def test_two_rates_move_the_head_faster_and_zero_freezes_the_backbone(problem):
    _, _, variables = problem
    gradient = jax.tree.map(jnp.ones_like, variables["params"])
    for scale in (0.01, 0.0):
        optimizer = hashing.two_rates(steps_per_epoch=1, rate=1e-3, backbone_scale=scale)
        with jax.numpy_dtype_promotion("standard"):
            updates, _ = optimizer.update(gradient, optimizer.init(variables["params"]), variables["params"])
        np.testing.assert_allclose(updates["hash_head"]["bias"], -1e-3, rtol=1e-3)
        np.testing.assert_allclose(updates["conv"]["bias"], -1e-3 * scale, rtol=1e-3)


def test_the_rate_falls_by_its_factor_every_ten_epochs():
    schedule = hashing.step_decay(1e-3, factor=0.7, every=100)
    with jax.numpy_dtype_promotion("standard"):
        rates = [float(schedule(step)) for step in (0, 99, 100, 250)]
    np.testing.assert_allclose(rates, [1e-3, 1e-3, 0.7e-3, 0.49e-3], rtol=1e-5)


@pytest.mark.parametrize("count", [1, 4, 5, 11])
def test_encode_compiles_one_shape_and_drops_the_padding(count):
    shapes = []

    def apply(variables, images):
        shapes.append(images.shape)
        return images.mean(axis=(1, 2))

    images = np.arange(count * 12, dtype=np.float32).reshape(count, 2, 2, 3)
    done = []
    logits = hashing.encode(apply, None, images, batch=4, progress=lambda k, n: done.append((k, n)))
    np.testing.assert_allclose(logits, images.mean((1, 2)), rtol=1e-6)
    assert shapes == [(4, 2, 2, 3)]
    assert done[-1] == (count, count)


def test_encode_refuses_zero_images():
    with pytest.raises(ValueError, match="at least one image"):
        hashing.encode(lambda v, x: x, None, np.zeros((0, 2, 2, 3), np.float32))


def test_two_rates_say_when_a_group_is_empty(problem):
    _, _, variables = problem
    trunk = {"trunk": variables["params"]["conv"], "projection": variables["params"]["hash_head"]}
    with pytest.raises(ValueError, match="groups: must each have parameters, got none in head among projection, trunk"):
        hashing.two_rates(steps_per_epoch=1).init(trunk)
    with pytest.raises(ValueError, match="got none in backbone"):
        hashing.two_rates(steps_per_epoch=1, head=lambda names: True).init(trunk)
    chosen = hashing.two_rates(steps_per_epoch=1, backbone_scale=0.0, head=lambda names: "projection" in names)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = chosen.update(jax.tree.map(jnp.ones_like, trunk), chosen.init(trunk), trunk)
    assert float(jnp.abs(updates["projection"]["bias"]).min()) > 0 == float(jnp.abs(updates["trunk"]["bias"]).max())


PARTS = {"stem": {"kernel": jnp.ones(2)}, "block": {"kernel": jnp.ones(2)}, "hash_head": {"bias": jnp.ones(2)}}
GROUPS = {"stem": "stem", "head": lambda names: "hash_head" in names, "rest": None}


def test_each_group_moves_at_its_rate():
    """The first step of Adam is the rate; a schedule counts; 0 is no step."""
    rates = {"stem": 0.0, "head": 1e-2, "rest": lambda count: 1e-3 / (1 + count)}
    optimizer = hashing.learning_rates(rates, groups=GROUPS)
    with jax.numpy_dtype_promotion("standard"):
        state, slope = optimizer.init(PARTS), jax.tree.map(jnp.ones_like, PARTS)
        first, state = optimizer.update(slope, state, PARTS)
        second, _ = optimizer.update(slope, state, PARTS)
    for steps, rest in ((first, 1e-3), (second, 5e-4)):
        found = {name: -np.asarray(jax.tree.leaves(part)[0]) for name, part in steps.items()}
        np.testing.assert_allclose(found["stem"], 0)
        np.testing.assert_allclose(found["hash_head"], 1e-2, rtol=1e-4)
        np.testing.assert_allclose(found["block"], rest, rtol=1e-4)


@pytest.mark.parametrize(
    ("rates", "groups", "message"),
    [
        ({"head": 1.0, "trunk": 1.0}, None, "rates: must be of the groups backbone, head, got head, trunk"),
        ({"head": 1.0}, None, "rates: must be of the groups backbone, head, got head"),
        (
            {"head": -1.0, "backbone": 1.0},
            None,
            r"rates\['head'\]: must be a schedule or a number of at least 0, got -1.0",
        ),
        *(
            ({"head": rate, "backbone": 1.0}, None, r"rates\['head'\]: must be .*, got ")
            for rate in (float("nan"), "0.1", None, 1j, [0.1], True, np.True_)
        ),
        ({1: 1.0}, None, "rates: must be of the groups backbone, head, got 1"),
        ({"a": 1.0}, {"a": 3}, r"groups\['a'\]: must be the start of a name, a function or None, got 3"),
        ({"a": 1.0, "b": 1.0}, {"a": None, "b": None}, "groups: must leave the others to one group at most, got a, b"),
        ({"a": 1.0}, {"a": "stem"}, "groups: must have each parameter once, got block/kernel in none"),
        ({"a": 1.0, "b": 1.0}, {"a": "block", "b": "blo"}, "got block/kernel in a and b"),
        ({"a": 1.0, "b": 1.0}, {"a": "nothing", "b": None}, "got none in a among block, hash_head, stem"),
    ],
)
def test_groups_that_do_not_fit_are_named(unchecked, rates, groups, message):
    with pytest.raises(ValueError, match=message):
        hashing.learning_rates(rates, groups=groups).init(PARTS)


@pytest.mark.parametrize("rows", [[0, 3], [-1, 0]])
def test_a_bank_has_no_other_rows(rows):
    bank = losses.empty_bank(3, bits=2, classes=2)
    with pytest.raises(ValueError, match=f"rows: must be positions from 0 to 2, got {rows[0]} to {rows[1]}"):
        losses.remember(bank, np.array(rows), jnp.ones((2, 2)), np.array([0, 1]))


def test_rows_and_labels_that_a_compiled_program_knows_are_looked_at():
    bank, rows, labels = losses.empty_bank(3, bits=2, classes=2), jnp.array([2, 0]), jnp.array([0, 1])
    beyond = rows + 1
    after = jax.jit(lambda logits: losses.remember(bank, rows, logits, labels))(jnp.ones((2, 2)))
    np.testing.assert_array_equal(after.outputs, losses.remember(bank, rows, jnp.ones((2, 2)), labels).outputs)
    with pytest.raises(ValueError, match="rows: must be positions from 0 to 2, got 1 to 3"):
        jax.jit(lambda logits: losses.remember(bank, beyond, logits, labels))(jnp.ones((2, 2)))


def test_hashing_is_one_program_for_a_network_and_the_sign_of_its_logits():
    traced = []

    def apply(variables, inputs):
        traced.append(inputs.shape)
        return inputs.mean(axis=(1, 2)) - variables

    plain = Preprocessing(size=4, scale=1 / 255, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    backbone = Backbone(apply, np.float32(0.5), plain)
    images = np.stack([np.full((4, 4, 3), shade, np.uint8) for shade in (0, 127, 128, 255, 128)])
    for _ in range(2):
        codes = hashing.hash_images(backbone, images, batch=8)
    assert codes.dtype == bool and codes[:, 0].tolist() == [False, False, True, True, True]
    assert traced == [(8, 4, 4, 3)]
    with pytest.raises(ValueError, match="images"):
        hashing.hash_images(backbone, images[:0])
