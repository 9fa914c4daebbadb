"""AlexNet, the baseline of the deep hashing papers: torchvision's weights under their own names, features of fc7."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jcbir.errors import FormatError
from jcbir.models._backbone import Backbone
from jcbir.models._preprocessing import Preprocessing
from jcbir.models._pretrained import IMAGENET_TORCH
from jcbir.typing import Array

_CONVOLUTIONS = (("0", 11, 4, 2, True), ("3", 5, 1, 2, True), ("6", 3, 1, 1, False), ("8", 3, 1, 1, False))
_CONVOLUTIONS += (("10", 3, 1, 1, True),)
"""Name, kernel, stride, padding, and whether a pooling follows."""
_GRID = 6


def alexnet_backbone(
    tensors: Mapping[str, np.ndarray], *, classes: bool = False, preprocessing: Preprocessing = IMAGENET_TORCH
) -> Backbone:
    """AlexNet as a backbone, from a torchvision state dictionary.

    Five convolutions, three poolings, two layers of 4,096 with ReLU, without dropout, which evaluation does not have.

    Args:
        tensors: name to array, such as `read_torch` gives: `features.0.weight` to `classifier.6.bias`.
        classes: whether the last layer's 1,000 class logits follow; otherwise `classifier.6` may be missing.
        preprocessing: of the photographs, at 224 pixels.

    Returns:
        The network: 4,096 non-negative features, or class logits.

    Raises:
        FormatError: tensors missing, left over, or of a shape that does not fit the one before, each by name.
        ValueError: photographs of a size whose last feature map is not 6 x 6.

    Example:
        >>> alexnet_backbone({})
        Traceback (most recent call last):
        jcbir.errors.FormatError: tensors: must hold features.0.weight, got none of that name

    References:
        Krizhevsky, One weird trick for parallelizing convolutional neural networks, arXiv:1404.5997.
    """
    left, params, width = dict(tensors), {}, 3
    for name, size, *_ in _CONVOLUTIONS:
        params[f"conv{name}"], width = _layer(left, f"features.{name}", (width, size, size))
    width *= _GRID**2
    for name in ("1", "4", "6"):
        if name == "6" and not classes:
            left = {key: value for key, value in left.items() if not key.startswith("classifier.6.")}
            continue
        params[f"fc{name}"], width = _layer(left, f"classifier.{name}", (width,))
    if left:
        raise FormatError(f"tensors: must be AlexNet's, got {', '.join(sorted(left)[:4])} besides")
    return Backbone(_apply, {"params": params}, preprocessing)


def _layer(left: dict[str, np.ndarray], name: str, inputs: tuple[int, ...]) -> tuple[dict[str, np.ndarray], int]:
    """Kernel and bias of a layer, inputs before outputs, and its width."""
    for leaf in ("weight", "bias"):
        if f"{name}.{leaf}" not in left:
            raise FormatError(f"tensors: must hold {name}.{leaf}, got none of that name")
    weight, bias = (np.asarray(left.pop(f"{name}.{leaf}"), np.float32) for leaf in ("weight", "bias"))
    if weight.shape[1:] != inputs or bias.shape != weight.shape[:1]:
        raise FormatError(f"tensors: must have {name} for inputs {list(inputs)}, got {list(weight.shape)}")
    return {"kernel": weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T, "bias": bias}, len(bias)


def _apply(variables: Any, inputs: Float[Array, "b s s 3"]) -> Float[jax.Array, "b d"]:
    params, x = variables["params"], jnp.asarray(inputs)
    for name, _, stride, padding, pooled in _CONVOLUTIONS:
        layer = params[f"conv{name}"]
        x = jax.lax.conv_general_dilated(
            x,
            jnp.asarray(layer["kernel"]),
            (stride, stride),
            [(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = jax.nn.relu(x + jnp.broadcast_to(layer["bias"], x.shape))
        if pooled:
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")
    if x.shape[1:3] != (_GRID, _GRID):
        raise ValueError(f"inputs: must leave a map of 6 x 6, as 224 pixels do, got {list(x.shape[1:3])}")
    # torch flattens channels first.
    x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    for name in ("fc1", "fc4", "fc6"):
        if name in params:
            x = x @ jnp.asarray(params[name]["kernel"])
            x = x + jnp.broadcast_to(params[name]["bias"], x.shape)
            x = x if name == "fc6" else jax.nn.relu(x)
    return x
