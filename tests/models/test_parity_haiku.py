"""`hk.nets.ResNet*` with our variables, and ours with Haiku's: same logits, same gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from jcbir import models
from jcbir.errors import FormatError
from jcbir.models import shapes

DEPTHS = {18: models.resnet18, 34: models.resnet34, 50: models.resnet50, 101: models.resnet101}


def random_variables(module, entropy=0):
    draw = np.random.default_rng(entropy)
    flat = {}
    for path, leaf in flatten_dict(shapes(module)).items():
        spread = {"var": (0.5, 1.5), "scale": (0.3, 0.9)}.get(path[-1], (-0.3, 0.3))
        flat[path] = draw.uniform(*spread, leaf.shape).astype(np.float32)
        if path[-1] == "kernel":
            flat[path] *= np.float32(5.0 / np.sqrt(np.prod(leaf.shape[:-1])))
    return unflatten_dict(flat)


def haiku_network(depth, classes):
    hk = pytest.importorskip("haiku")
    make = getattr(hk.nets, f"ResNet{depth}")
    config = {"decay_rate": 0.9, "eps": 1e-5, "create_scale": True, "create_offset": True}
    return hk.without_apply_rng(
        hk.transform_with_state(lambda x, train: make(classes, bn_config=config)(x, is_training=train))
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("depth", [18, pytest.param(50, marks=pytest.mark.slow)])
def test_both_directions(depth):
    network, module = haiku_network(depth, 10), DEPTHS[depth](classes=10, padding="same")
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 64, 64, 3)), jnp.float32)
    variables = random_variables(module)
    params, state = models.to_haiku(variables, name=f"res_net{depth}")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        wanted_params, wanted_state = jax.eval_shape(lambda: network.init(jax.random.key(0), x, True))
    assert jax.tree.structure(params) == jax.tree.structure(wanted_params)
    assert jax.tree.map(np.shape, params) == jax.tree.map(lambda a: a.shape, wanted_params)
    assert jax.tree.map(np.shape, state) == jax.tree.map(lambda a: a.shape, wanted_state)

    def theirs(params):
        logits, _ = network.apply(params, state, x, False)
        return jnp.sum(jnp.square(logits)), logits

    def ours(params):
        logits = module.apply({**variables, "params": params}, x).logits
        return jnp.sum(jnp.square(logits)), logits

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        their_gradient, their_logits = jax.jit(jax.grad(theirs, has_aux=True))(params)
    our_gradient, our_logits = jax.jit(jax.grad(ours, has_aux=True))(variables["params"])
    assert np.abs(their_logits).max() > 0.1
    assert np.abs(np.asarray(our_logits) - np.asarray(their_logits)).max() <= 1e-4
    back = models.from_haiku(their_gradient, state, module)["params"]
    for (path, a), b in zip(flatten_dict(our_gradient).items(), flatten_dict(back).values(), strict=True):
        assert np.abs(np.asarray(a) - b).max() <= 1e-3 * np.abs(b).max() + 1e-6, path


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_round_trip_of_names(depth):
    module = DEPTHS[depth](classes=1000)
    flat = flatten_dict(shapes(module))
    variables = unflatten_dict({path: np.zeros(leaf.shape, np.float32) for path, leaf in flat.items()})
    back = models.from_haiku(*models.to_haiku(variables, name="any"), module)
    assert jax.tree.map(np.shape, back) == jax.tree.map(np.shape, variables)


def test_leftovers_are_named():
    module = models.ResNet(stages=(1,), width=4, classes=2)
    params, state = models.to_haiku(random_variables(module))
    params["res_net50/~/stray"] = {"w": np.zeros(3, np.float32)}
    with pytest.raises(FormatError, match=r"1 left over .*stray"):
        models.from_haiku(params, state, module)
    del params["res_net50/~/stray"], params["res_net50/~/logits"]
    with pytest.raises(FormatError, match=r"2 missing .*logits"):
        models.from_haiku(params, state, module)


def test_no_place():
    with pytest.raises(FormatError, match="hash"):
        models.to_haiku({"params": {"hash": {"kernel": np.zeros((4, 2), np.float32)}}})
