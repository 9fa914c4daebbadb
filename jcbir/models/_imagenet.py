"""The ImageNet ResNet50 inside the package: what turns photographs into 2048 features unless told otherwise.

Kernels are int8 with one float32 factor an output channel, everything else is float32; the 1000-way layer is left out.
`experiments/assets/build_resnet50.py` makes the file from a published package; the record beside it holds source,
license, hashes, accuracy and retrieval against the float32 network.
"""

import hashlib
import json
from dataclasses import replace
from importlib import resources
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import unflatten_dict

from jcbir.errors import FormatError, IntegrityError
from jcbir.models._backbone import Backbone, _tuples, resnet_backbone, resnet_module
from jcbir.models._preprocessing import Preprocessing

SMALLEST = 64
"""Pixels a side below which the last map of the network would be a single pixel."""


def imagenet_resnet50(*, size: int = 160, dtype: str = "float32") -> Backbone:
    r"""The network, ready to `run`, or to fine-tune: it gives 2048 pooled features.

    $W_{hwio} = s_o\, q_{hwio}$, $q$ int8. Photographs of any size are taken: the shorter side is scaled to `size`, the
    center is cut out. The file is read and multiplied out here, at each call; keep what it returns.

    Args:
        size: pixels a side that the network receives, at least 64; the time grows with its square.
        dtype: compute type, `"float32"`, `"bfloat16"` or `"float16"`; variables are float32 in any case.

    Returns:
        The backbone. Its description names it by the SHA-256 of its weights, which a file need not hold.

    Raises:
        ValueError: `size` below 64, or an unknown `dtype`.
        IntegrityError: the weights of the package are not those of their record.
        FormatError: the file is not what the script writes.

    Example:
        >>> network = imagenet_resnet50(size=64)
        >>> network.variables["params"]["conv1"]["kernel"].shape, network.preprocessing.size
        ((7, 7, 3, 64), 64)

    References:
        He, Zhang, Ren and Sun, 2015, Deep residual learning for image recognition, Table 1.
    """
    if size < SMALLEST:
        raise ValueError(f"size: must be at least {SMALLEST} pixels, got {size!r}")
    if dtype not in ("float32", "bfloat16", "float16"):
        raise ValueError(f"dtype: must be float32, bfloat16 or float16, got {dtype!r}")
    about = imagenet_record()
    preprocessing = replace(Preprocessing(**_tuples(about["preprocessing"])), size=size, resize=size)
    found = resnet_backbone(resnet_module(about, dtype=dtype), _variables(about), preprocessing)
    description = {**found.description, "architecture": "imagenet_resnet50", "sha256": about["sha256"]}
    return found._replace(description=description)


def imagenet_record() -> dict[str, Any]:
    """The JSON record beside the weights.

    Returns:
        Source, license, hashes, network, preprocessing and measured figures, as plain Python values.

    Example:
        >>> imagenet_record()["script"]
        'experiments/assets/build_resnet50.py'
    """
    return json.loads(_asset("resnet50.json"))


def asset_tensors(encoded: bytes, about: dict[str, Any]) -> dict[str, np.ndarray]:
    """The tensors of a file inside the package, if it is the one that its record speaks of."""
    digest = hashlib.sha256(encoded).hexdigest()
    if digest != about["sha256"]:
        raise IntegrityError(f"{about['file']}: must have SHA-256 {about['sha256']}, got {digest}")
    try:
        return safetensors.numpy.load(encoded)
    except safetensors.SafetensorError as error:
        raise FormatError(f"{about['file']}: must be a safetensors file, got {error}") from error


def _variables(about: dict[str, Any]) -> dict[str, Any]:
    tensors = asset_tensors(_asset(about["file"]), about)
    factors = {name.removesuffix("/factor"): tensors.pop(name) for name in list(tensors) if name.endswith("/factor")}
    if set(factors) != {name for name, tensor in tensors.items() if tensor.dtype == np.int8}:
        raise FormatError(f"{about['file']}: must hold a factor for each int8 kernel, got {len(factors)} factors")
    leaves = {name: tensor * factors[name] if name in factors else tensor for name, tensor in tensors.items()}
    return unflatten_dict(leaves, sep="/")


def _asset(name: str) -> bytes:
    return (resources.files("jcbir.models") / "assets" / name).read_bytes()
