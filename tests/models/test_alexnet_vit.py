"""AlexNet and vision transformers on random weights: against NumPy written apart, and against PyTorch where it is."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jcbir import models
from jcbir.errors import FormatError

ERF = np.vectorize(math.erf)


def alexnet_tensors(widths=(4, 6, 5, 5, 3), hidden=8, classes=7):
    g = np.random.default_rng(0)
    sizes = {"features.0": (widths[0], 3, 11, 11), "features.3": (widths[1], widths[0], 5, 5)}
    sizes |= {"features.6": (widths[2], widths[1], 3, 3), "features.8": (widths[3], widths[2], 3, 3)}
    sizes |= {"features.10": (widths[4], widths[3], 3, 3), "classifier.1": (hidden, widths[4] * 36)}
    sizes |= {"classifier.4": (hidden, hidden), "classifier.6": (classes, hidden)}
    made = {}
    for name, shape in sizes.items():
        made[f"{name}.weight"] = (g.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
        made[f"{name}.bias"] = (g.normal(size=shape[0]) / 10).astype(np.float32)
    return made


def vit_tensors(width=8, depth=2, patch=4, places=10, hidden=12):
    g = np.random.default_rng(1)
    sizes = {"cls_token": (1, 1, width), "pos_embed": (1, places, width), "patch_embed.proj.bias": (width,)}
    sizes |= {"patch_embed.proj.weight": (width, 3, patch, patch), "norm.weight": (width,), "norm.bias": (width,)}
    for i in range(depth):
        layers = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
        layers |= {"mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}
        sizes |= {f"blocks.{i}.{name}.weight": shape for name, shape in layers.items()}
        sizes |= {f"blocks.{i}.{name}.bias": shape[:1] for name, shape in layers.items()}
        sizes |= {f"blocks.{i}.{norm}.{leaf}": (width,) for norm in ("norm1", "norm2") for leaf in ("weight", "bias")}
    return {name: (g.normal(size=shape) / 2).astype(np.float32) for name, shape in sizes.items()}


def convolved(x, weight, bias, stride, padding):
    """Cross-correlation of x [c, h, w], window by window."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    k = weight.shape[-1]
    rows = range(0, x.shape[1] - k + 1, stride)
    columns = range(0, x.shape[2] - k + 1, stride)
    found = np.array([[np.tensordot(weight, x[:, i : i + k, j : j + k], 3) for j in columns] for i in rows])
    return found.transpose(2, 0, 1) + bias[:, None, None]


def pooled(x):
    last = x.shape[-1] - 2
    return np.array(
        [[x[:, i : i + 3, j : j + 3].max((1, 2)) for j in range(0, last, 2)] for i in range(0, last, 2)]
    ).transpose(2, 0, 1)


def alexnet_numpy(t, image, *, classes):
    x = image.transpose(2, 0, 1).astype(np.float64)
    plan = [(0, 4, 2, True), (3, 1, 2, True), (6, 1, 1, False), (8, 1, 1, False), (10, 1, 1, True)]
    for name, stride, padding, pooling in plan:
        x = convolved(x, t[f"features.{name}.weight"], t[f"features.{name}.bias"], stride, padding)
        x = np.maximum(x, 0)
        x = pooled(x) if pooling else x
    x = x.ravel()
    for name in (1, 4):
        x = np.maximum(t[f"classifier.{name}.weight"] @ x + t[f"classifier.{name}.bias"], 0)
    return t["classifier.6.weight"] @ x + t["classifier.6.bias"] if classes else x


def vit_numpy(t, image, *, heads):
    t = {name: value.astype(np.float64) for name, value in t.items()}

    def norm(x, name):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / np.sqrt(variance + 1e-6) * t[f"{name}.weight"] + t[f"{name}.bias"]

    def dense(x, name):
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    weight = t["patch_embed.proj.weight"]
    maps = convolved(image.transpose(2, 0, 1), weight, t["patch_embed.proj.bias"], weight.shape[-1], 0)
    x = np.concatenate([t["cls_token"][0], maps.reshape(len(maps), -1).T]) + t["pos_embed"][0]
    size = x.shape[1] // heads
    for i in range(sum(name.endswith("qkv.bias") for name in t)):
        block = f"blocks.{i}"
        mixed = dense(norm(x, f"{block}.norm1"), f"{block}.attn.qkv")
        parts = np.split(mixed, 3, axis=1)
        read = []
        for h in range(heads):
            q, k, v = (part[:, h * size : (h + 1) * size] for part in parts)
            scores = np.exp(q @ k.T / np.sqrt(size))
            read.append(scores / scores.sum(1, keepdims=True) @ v)
        x = x + dense(np.concatenate(read, 1), f"{block}.attn.proj")
        hidden = dense(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")
        x = x + dense(hidden * 0.5 * (1 + ERF(hidden / np.sqrt(2))), f"{block}.mlp.fc2")
    return norm(x, "norm")[0]


@pytest.mark.parametrize("classes", [False, True])
def test_alexnet_is_the_second_implementation(classes):
    tensors = alexnet_tensors()
    image = np.random.default_rng(2).normal(size=(224, 224, 3)).astype(np.float32)
    backbone = models.alexnet_backbone(tensors, classes=classes)
    (found,) = jax.jit(backbone.apply)(backbone.variables, image[None])
    wanted = alexnet_numpy(tensors, image, classes=classes)
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("heads", [1, 2])
def test_vit_is_the_second_implementation(heads):
    tensors = vit_tensors() | {"head.weight": np.zeros((3, 8), np.float32)}
    image = np.random.default_rng(3).normal(size=(12, 12, 3)).astype(np.float32)
    backbone = models.vit_backbone(tensors, head_width=8 // heads)
    (found,) = jax.jit(backbone.apply)(backbone.variables, image[None])
    np.testing.assert_allclose(found, vit_numpy(tensors, image, heads=heads), atol=1e-5)


def test_they_are_backbones_as_others_are():
    square = models.Preprocessing(size=12)
    backbone = models.vit_backbone(vit_tensors(), head_width=4, preprocessing=square)
    assert models.output_width(backbone) == 8
    assert models.run(backbone, np.zeros((2, 12, 12, 3), np.uint8)).shape == (2, 8)
    head = models.Head(np.ones((8, 16), np.float32), np.zeros(16, np.float32))
    assert models.output_width(models.attach_head(backbone, head)) == 16


@pytest.mark.parametrize(
    ("make", "tensors"), [(models.alexnet_backbone, alexnet_tensors), (models.vit_backbone, vit_tensors)]
)
def test_tensors_that_do_not_fit_are_named(make, tensors):
    options = {"head_width": 4} if make is models.vit_backbone else {}
    for name in list(tensors()):
        if name.startswith("classifier.6"):
            continue
        whole = tensors()
        whole[name] = np.zeros((2, *whole[name].shape), np.float32)
        with pytest.raises((FormatError, ValueError), match=r"tensors: must|head_width: must"):
            make(whole, **options)
        del whole[name]
        with pytest.raises(FormatError, match="tensors: must hold"):
            make(whole, **options)
    with pytest.raises(FormatError, match="got more besides"):
        make(tensors() | {"more": np.zeros(1, np.float32)}, **options)


def test_photographs_of_another_size_are_named():
    alexnet, vit = models.alexnet_backbone(alexnet_tensors()), models.vit_backbone(vit_tensors(), head_width=4)
    with pytest.raises(ValueError, match=r"inputs: must leave a map of 6 x 6, .*, got \[7, 7\]"):
        alexnet.apply(alexnet.variables, jnp.zeros((1, 256, 256, 3)))
    with pytest.raises(ValueError, match="inputs: must be of 9 patches, as many as positions, got 16"):
        vit.apply(vit.variables, jnp.zeros((1, 16, 16, 3)))


@pytest.mark.torch
def test_alexnet_is_torch_s():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    layers = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()]
    layers += [nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1)]
    layers += [nn.ReLU(), nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)]
    classifier = [nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()]
    torch.manual_seed(0)
    network = nn.ModuleDict({"features": nn.Sequential(*layers), "classifier": nn.Sequential(*classifier)}).eval()
    image = np.random.default_rng(4).normal(size=(2, 224, 224, 3)).astype(np.float32)
    with torch.no_grad():
        maps = network["features"](torch.from_numpy(image.transpose(0, 3, 1, 2)))
        wanted = network["classifier"](maps.flatten(1)).numpy()
    tensors = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    backbone = models.alexnet_backbone(tensors)
    found = jax.jit(backbone.apply)(backbone.variables, image)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize(("width", "depth"), [(384, 12), (768, 2)])
def test_vit_is_torch_s(width, depth):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    tensors = vit_tensors(width=width, depth=depth, patch=16, places=197, hidden=4 * width)
    tensors = {name: value * (0.1 if name.endswith("weight") and "norm" not in name else 1)
               for name, value in tensors.items()}  # fmt: skip
    t = {name: torch.from_numpy(value) for name, value in tensors.items()}
    image = np.random.default_rng(5).normal(size=(2, 224, 224, 3)).astype(np.float32)

    def dense(x, name):
        return nn.functional.linear(x, t[f"{name}.weight"], t[f"{name}.bias"])

    def norm(x, name):
        return nn.functional.layer_norm(x, (width,), t[f"{name}.weight"], t[f"{name}.bias"], 1e-6)

    x = nn.functional.conv2d(
        torch.from_numpy(image.transpose(0, 3, 1, 2)), t["patch_embed.proj.weight"], t["patch_embed.proj.bias"], 16
    )
    x = torch.cat([t["cls_token"].expand(2, -1, -1), x.flatten(2).transpose(1, 2)], 1) + t["pos_embed"]
    for i in range(depth):
        q, k, v = (
            part.reshape(2, 197, width // 64, 64).transpose(1, 2)
            for part in dense(norm(x, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv").chunk(3, -1)
        )
        read = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 197, width)
        x = x + dense(read, f"blocks.{i}.attn.proj")
        hidden = nn.functional.gelu(dense(norm(x, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1"))
        x = x + dense(hidden, f"blocks.{i}.mlp.fc2")
    backbone = models.vit_backbone(tensors)
    found = jax.jit(backbone.apply)(backbone.variables, image)
    np.testing.assert_allclose(found, norm(x, "norm")[:, 0].numpy(), atol=1e-4)
