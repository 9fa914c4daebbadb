"""The module description: shapes, heads, compute types, remat, frozen parts, train and eval."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jcbir.models import _resnet as resnet, shapes
from jcbir.models._backbone import trainable

X = np.random.default_rng(0).standard_normal((2, 16, 16, 3)).astype(np.float32)
TINY = {"stages": (1, 1), "width": 4, "bits": 8}


def count(module):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes(module)["params"]))


def ready(**options):
    module = resnet.small(**{**TINY, **options})
    return module, jax.jit(module.init)(jax.random.key(0), X)


@pytest.mark.parametrize(
    ("make", "parameters", "features"),
    [
        (resnet.resnet18, 11_689_512, 512),
        (resnet.resnet34, 21_797_672, 512),
        (resnet.resnet50, 25_557_032, 2048),
        (resnet.resnet101, 44_549_160, 2048),
    ],
)
def test_published_sizes(make, parameters, features):
    """torchvision's counts for 1000 classes."""
    module = make(classes=1000)
    assert count(module) == parameters
    got = jax.eval_shape(lambda v, x: module.apply(v, x), shapes(module), jnp.zeros((2, 224, 224, 3)))
    assert got.features.shape == (2, 7, 7, features)
    assert got.pooled.shape == (2, features)
    assert got.logits.shape == (2, 1000)
    assert got.hash_logits is None


def test_keras_size():
    assert count(resnet.resnet50(classes=1000, bias=True)) == 25_636_712 - 53_120


def test_heads():
    module, variables = ready(classes=3, hash_hidden=(6,))
    outputs = module.apply(variables, X)
    assert outputs.logits.shape == (2, 3)
    assert outputs.hash_logits.shape == (2, 8)
    assert variables["params"]["hash_hidden0"]["kernel"].shape == (8, 6)
    np.testing.assert_allclose(outputs.pooled, outputs.features.mean((1, 2)), rtol=1e-5)


@pytest.mark.parametrize(("stride", "side"), [(1, 8), (2, 4)])
def test_stem_stride(stride, side):
    module, variables = ready(stem_stride=stride)
    assert module.apply(variables, X).features.shape == (2, side, side, 8)


def gradient(module, variables):
    def loss(params):
        outputs, updated = module.apply({**variables, "params": params}, X, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.square(outputs.hash_logits)), updated["batch_stats"]

    return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])


def test_remat_changes_nothing():
    module, variables = ready()
    plain, again = gradient(module, variables), gradient(module.clone(remat=True), variables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), plain, again)


def test_bfloat16_keeps_float32_parameters_and_statistics():
    module, variables = ready(dtype=jnp.bfloat16)
    half = module.apply(variables, X)
    assert half.features.dtype == jnp.bfloat16
    assert half.hash_logits.dtype == jnp.float32
    gradients, statistics = gradient(module, variables)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((gradients, statistics, variables)))
    full = module.clone(dtype=jnp.float32).apply(variables, X)
    scale = float(jnp.abs(full.pooled).max())
    assert 0 < float(jnp.abs(full.pooled - half.pooled).max()) < 0.05 * scale


def test_train_is_explicit():
    module, variables = ready()
    before = module.apply(variables, X)
    _, updated = module.apply(variables, X, train=True, mutable=["batch_stats"])
    assert not np.allclose(updated["batch_stats"]["bn1"]["mean"], variables["batch_stats"]["bn1"]["mean"])
    np.testing.assert_array_equal(before.hash_logits, module.apply(variables, X).hash_logits)


@pytest.mark.parametrize("frozen", [0, 1, 2, 3])
def test_frozen_parts(frozen):
    """What the mask calls frozen has no gradient and keeps its statistics, and nothing else."""
    module, variables = ready(frozen=frozen)
    gradients, statistics = gradient(module, variables)
    mask = trainable(variables["params"], frozen=frozen)
    for name, leaves in gradients.items():
        moves = any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(leaves))
        assert moves == all(jax.tree.leaves(mask[name])), name
        if name in statistics:
            old, new = jax.tree.leaves(variables["batch_stats"][name]), jax.tree.leaves(statistics[name])
            assert moves == any(not np.array_equal(a, b) for a, b in zip(old, new, strict=True)), name


def test_too_many_frozen():
    _, variables = ready()
    with pytest.raises(ValueError, match="0 to 3"):
        trainable(variables["params"], frozen=4)
