"""A small training run as a program, slow enough to be killed: `python interrupted_run.py FOLDER PAUSE`."""

import sys
import time
from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jcbir import hashing
from jcbir.hashing import centers, losses
from jcbir.storage import _runs as runs

EPOCHS = 6


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(4, (3, 3), name="conv")(x.astype(jnp.float32) / 255.0)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="bn")(x)).mean(axis=(1, 2))
        return nn.Dense(8, name="hash")(nn.Dropout(0.2, deterministic=not train)(x))


@cache
def problem():
    images = np.random.default_rng(1).integers(0, 256, (40, 6, 6, 3), np.uint8)
    targets = centers.hadamard(5, 8)[np.arange(40) % 5]
    optimizer = hashing.two_rates(steps_per_epoch=5, rate=0.01, backbone_scale=0.5, decay_epochs=2)
    step = partial(
        hashing.train_step,
        apply=hashing.linen_apply(Net()),
        loss=losses.csq,
        optimizer=optimizer,
        augment=partial(hashing.crop_and_flip, padding=1),
    )
    variables = jax.jit(Net().init)(jax.random.key(2), images[:1])
    return hashing.init_state(jax.random.key(0), variables, optimizer=optimizer), images, targets, jax.jit(step)


def run(folder, *, pause=0.0, epochs=EPOCHS, about=None):
    state, images, targets, step = problem()

    def validate(state):
        return {"val": float(jnp.abs(state.params["hash"]["bias"]).sum())}

    return runs.train_run(
        folder, state, images, targets, step=step, epochs=epochs, batch=8, about=about or {"seed": 0},
        validate=validate, monitor="val", progress=lambda *_: time.sleep(pause),
    )  # fmt: skip


if __name__ == "__main__":
    run(sys.argv[1], pause=float(sys.argv[2]))
