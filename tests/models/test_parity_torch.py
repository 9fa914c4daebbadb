"""Logits and gradients against a PyTorch network with the same random weights and statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jcbir.models import _pretrained as pretrained, _resnet as resnet

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
MODULES = {18: resnet.resnet18, 34: resnet.resnet34, 50: resnet.resnet50, 101: resnet.resnet101}


@pytest.fixture
def torch_resnet():
    pytest.importorskip("torch")
    from experiments import torch_resnet

    return torch_resnet


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
@pytest.mark.parametrize("convolution", [resnet.convolve, None], ids=["routes", "xla"])
def test_logits(torch_resnet, depth, convolution):
    import torch

    network = torch_resnet.random_resnet(depth)
    module = MODULES[depth](classes=1000, convolution=convolution)
    variables = pretrained.from_torch(torch_resnet.tensors(network), module)
    for count, size in ((8, 64), (1, 97)):
        x = torch_resnet.images(count, size)
        with torch.no_grad():
            wanted = network(torch.from_numpy(x.transpose(0, 3, 1, 2))).numpy()
        got = jax.jit(module.apply)(variables, jnp.asarray(x)).logits
        assert np.abs(wanted).max() > 0.1
        assert np.abs(np.asarray(got) - wanted).max() <= 1e-4


@pytest.mark.parametrize(("depth", "train"), [(18, False), (18, True), (50, False), (50, True)])
def test_gradients_and_statistics(torch_resnet, depth, train):
    """In float64: in float32 one ReLU at its kink decides the third digit of a gradient."""
    import torch

    network = torch_resnet.random_resnet(depth, classes=10).double().train(train)
    x, y = torch_resnet.images(8, 64).astype(np.float64), np.arange(8) % 10
    # flax initializes its normalization in float32 whatever the compute type, so `init` mixes the two here.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        module = MODULES[depth](classes=10, dtype=jnp.float64)
        variables = jax.tree.map(np.float64, pretrained.from_torch(torch_resnet.tensors(network), module))

        def objective(params):
            outputs, updated = module.apply(
                {**variables, "params": params}, jnp.asarray(x), train=train, mutable=["batch_stats"]
            )
            return -jnp.mean(jax.nn.log_softmax(outputs.logits)[jnp.arange(8), y]), updated["batch_stats"]

        (value, statistics), gradients = jax.jit(jax.value_and_grad(objective, has_aux=True))(variables["params"])
        ours = pretrained.to_torch({"params": gradients, "batch_stats": statistics})
    # The variables are float32 values, so that the two networks start from the same numbers only after this.
    for parameter in [*network.parameters(), *network.buffers()]:
        parameter.data = parameter.data.float().to(parameter.dtype)
    loss = torch.nn.functional.cross_entropy(network(torch.from_numpy(x.transpose(0, 3, 1, 2))), torch.from_numpy(y))
    loss.backward()
    assert abs(float(value) - loss.item()) < 1e-9
    for name, parameter in network.named_parameters():
        wanted = parameter.grad.numpy()
        assert np.linalg.norm(ours[name] - wanted) <= 1e-7 * np.linalg.norm(wanted) + 1e-10, name
    for name, wanted in network.named_buffers():
        if name.endswith("running_mean"):
            assert np.abs(ours[name] - wanted.numpy()).max() <= 1e-9, name


def test_round_trip(torch_resnet):
    tensors = torch_resnet.tensors(torch_resnet.random_resnet(50, classes=10))
    back = pretrained.to_torch(pretrained.from_torch(tensors, resnet.resnet50(classes=10)))
    assert set(back) == {name for name in tensors if not name.endswith("num_batches_tracked")}
    for name, array in back.items():
        assert np.array_equal(array, tensors[name]), name
