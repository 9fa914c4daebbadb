"""The same jitted training step on one device and on eight, in a process that has eight."""

import os
import subprocess
import sys

import numpy as np
import pytest

from jcbir.models import split_batch

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from jcbir import models

assert len(jax.devices()) == 8
module = models.small(stages=(1, 1), width=4, bits=8)
g = np.random.default_rng(0)
x = g.standard_normal((16, 8, 8, 3)).astype(np.float32)
y = g.integers(0, 2, (16, 8)).astype(np.float32)
variables = jax.jit(module.init)(jax.random.key(0), x[:1])


@jax.jit
def step(variables, x, y):
    def loss(params):
        outputs, updated = module.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
        return jnp.mean(jnp.square(outputs.hash_logits - y)), updated["batch_stats"]

    (value, statistics), gradients = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    params = jax.tree.map(lambda p, d: p - 0.1 * d, variables["params"], gradients)
    return {"params": params, "batch_stats": statistics}, value


one, value_one = step(variables, x, y)
split = models.split_batch((x, y))
assert len(split[0].sharding.device_set) == 8 and split[0].addressable_shards[0].data.shape[0] == 2
eight, value_eight = step(models.replicate(variables), *split)
assert len(jax.tree.leaves(eight)[0].sharding.device_set) == 8
np.testing.assert_allclose(value_one, value_eight, rtol=1e-5)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), one, eight)
print("same")
"""


@pytest.mark.slow
def test_eight_devices():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | flags, capture_output=True, text=True, check=False
    )
    assert answer.stdout.strip() == "same", answer.stderr[-3000:]


def test_indivisible_batch():
    import jax

    with pytest.raises(ValueError, match=r"multiple of 2 devices, got \['x'\] of shape \(3, 4\)"):
        split_batch({"x": np.zeros((3, 4), np.float32)}, devices=jax.devices() * 2)


def test_no_batch_axis():
    with pytest.raises(ValueError, match="multiple"):
        split_batch(np.float32(1))
