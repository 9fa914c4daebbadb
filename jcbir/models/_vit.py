"""Vision transformers under the names of timm and DINO: ViT-S/16, ViT-B/16, features of the class token."""

import functools
import re
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
from jcbir.typing import Array, check_whole

_EPSILON = 1e-6
_BLOCK = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


def vit_backbone(
    tensors: Mapping[str, np.ndarray], *, head_width: int = 64, preprocessing: Preprocessing = IMAGENET_TORCH
) -> Backbone:
    """A vision transformer as a backbone, from a timm or DINO state dictionary; its sizes are read off the tensors.

    Patches, a class token and positions; in each block attention and a GELU layer, each behind a LayerNorm and beside
    an identity; the class token behind a last LayerNorm.

    Args:
        tensors: name to array, such as `read_torch` gives: `cls_token`, `pos_embed`, `patch_embed.proj.*`,
            `blocks.N.*`, `norm.*`; a classifier (`head.*`) is left out.
        head_width: features of an attention head, 64 in ViT-S and ViT-B.
        preprocessing: of the photographs, at the size that the positions are for; timm's ViTs that are not DINO's have
            mean and deviation 0.5.

    Returns:
        The network: 384 features of ViT-S, 768 of ViT-B.

    Raises:
        FormatError: tensors missing, left over or of a shape that does not fit, each by name.
        ValueError: photographs of another size than the positions', or heads that do not divide the features.

    Example:
        >>> vit_backbone({})
        Traceback (most recent call last):
        jcbir.errors.FormatError: tensors: must hold patch_embed.proj.weight, got none of that name

    References:
        Dosovitskiy et al., An image is worth 16x16 words, ICLR 2021. Caron et al., Emerging properties in
        self-supervised vision transformers, ICCV 2021.
    """
    left = {name: np.asarray(array, np.float32) for name, array in tensors.items() if not name.startswith("head.")}
    width, patch = _take(left, "patch_embed.proj.weight", peek=True).shape[::3]
    if width % check_whole("head_width", head_width, low=1):
        raise ValueError(f"head_width: must divide the {width} features, got {head_width}")
    depth = 1 + max((int(found[1]) for name in left if (found := re.match(r"blocks\.(\d+)\.", name))), default=-1)
    hidden = _take(left, "blocks.0.mlp.fc1.weight", peek=True).shape[0] if depth else 0
    places = _take(left, "pos_embed", peek=True).shape[-2]
    sides = {"norm1": (width,), "norm2": (width,), "attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    sides |= {"mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}
    params = {
        "cls_token": _take(left, "cls_token", (1, 1, width)),
        "pos_embed": _take(left, "pos_embed", (1, places, width)),
        # Kernels as this library has them: inputs before outputs.
        "patch": {
            "kernel": _take(left, "patch_embed.proj.weight", (width, 3, patch, patch)).transpose(2, 3, 1, 0),
            "bias": _take(left, "patch_embed.proj.bias", (width,)),
        },
        "blocks": [{part: _part(left, f"blocks.{i}.{part}", sides[part]) for part in _BLOCK} for i in range(depth)],
        "norm": _part(left, "norm", (width,)),
    }
    if left:
        raise FormatError(f"tensors: must be a vision transformer's, got {', '.join(sorted(left)[:4])} besides")
    return Backbone(functools.partial(_apply, heads=width // head_width), {"params": params}, preprocessing)


def _take(
    left: dict[str, np.ndarray], name: str, shape: tuple[int, ...] | None = None, *, peek: bool = False
) -> np.ndarray:
    if name not in left:
        raise FormatError(f"tensors: must hold {name}, got none of that name")
    array = left[name] if peek else left.pop(name)
    if shape is not None and array.shape != shape:
        raise FormatError(f"tensors: must have {name} of shape {list(shape)}, got {list(array.shape)}")
    return array


def _part(left: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    weight, bias = _take(left, f"{name}.weight", shape), _take(left, f"{name}.bias", shape[:1])
    return {"scale" if len(shape) == 1 else "kernel": weight.T, "bias": bias}


def _apply(variables: Any, inputs: Float[Array, "b s s 3"], *, heads: int) -> Float[jax.Array, "b d"]:
    params, inputs = variables["params"], jnp.asarray(inputs)
    kernel = jnp.asarray(params["patch"]["kernel"])
    stride = kernel.shape[:2]
    x = jax.lax.conv_general_dilated(inputs, kernel, stride, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    x = x.reshape(len(x), -1, x.shape[-1])
    x = x + jnp.broadcast_to(params["patch"]["bias"], x.shape)
    if x.shape[1] + 1 != params["pos_embed"].shape[1]:
        given = params["pos_embed"].shape[1] - 1
        raise ValueError(f"inputs: must be of {given} patches, as many as positions, got {x.shape[1]}")
    x = jnp.concatenate([jnp.broadcast_to(params["cls_token"], (len(x), 1, x.shape[-1])), x], axis=1)
    x = x + jnp.broadcast_to(params["pos_embed"], x.shape)
    for block in params["blocks"]:
        x = x + _attention(_normalize(x, block["norm1"]), block, heads=heads)
        hidden = jax.nn.gelu(_dense(_normalize(x, block["norm2"]), block["mlp.fc1"]), approximate=False)
        x = x + _dense(hidden, block["mlp.fc2"])
    return _normalize(x, params["norm"])[:, 0]


def _attention(x: jax.Array, block: Any, *, heads: int) -> jax.Array:
    mixed = _dense(x, block["attn.qkv"])
    count, places, width = x.shape
    query, key, value = jnp.moveaxis(mixed.reshape(count, places, 3, heads, width // heads), 2, 0)
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / float(np.sqrt(width // heads))
    read = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), value)
    return _dense(read.reshape(count, places, width), block["attn.proj"])


def _dense(x: jax.Array, layer: Any) -> jax.Array:
    y = x @ jnp.asarray(layer["kernel"])
    return y + jnp.broadcast_to(layer["bias"], y.shape)


def _normalize(x: jax.Array, layer: Any) -> jax.Array:
    centered = x - x.mean(axis=-1, keepdims=True)
    scaled = centered / jnp.sqrt(jnp.square(centered).mean(axis=-1, keepdims=True) + _EPSILON)
    return scaled * jnp.broadcast_to(layer["scale"], x.shape) + jnp.broadcast_to(layer["bias"], x.shape)
