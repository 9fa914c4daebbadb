"""The file of the ImageNet ResNet50 inside the package, apart from the network: a kept program of it needs no Flax."""

import hashlib
import json
from importlib import resources
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float32

from jcbir.errors import FormatError, IntegrityError


def imagenet_record() -> dict[str, Any]:
    """The JSON record beside the weights.

    Returns:
        Source, license, hashes, network, preprocessing and measured figures, as plain Python values.

    Example:
        >>> imagenet_record()["script"]
        'experiments/assets/build_resnet50.py'
    """
    return json.loads(_asset("resnet50.json"))


def imagenet_weights() -> dict[str, Float32[np.ndarray, "..."]]:
    r"""The weights by flat names, multiplied out: $W_{hwio} = s_o\, q_{hwio}$, $q$ int8.

    Returns:
        Name like `params/conv1/kernel` to float32 array.

    Raises:
        IntegrityError: the weights of the package are not those of their record.
        FormatError: the file is not what the script writes.

    Example:
        >>> imagenet_weights()["params/conv1/kernel"].shape
        (7, 7, 3, 64)
    """
    about = imagenet_record()
    tensors = asset_tensors(_asset(about["file"]), about)
    factors = {name.removesuffix("/factor"): tensors.pop(name) for name in list(tensors) if name.endswith("/factor")}
    if set(factors) != {name for name, tensor in tensors.items() if tensor.dtype == np.int8}:
        raise FormatError(f"{about['file']}: must hold a factor for each int8 kernel, got {len(factors)} factors")
    return {name: tensor * factors[name] if name in factors else tensor for name, tensor in tensors.items()}


def asset_tensors(encoded: bytes, about: dict[str, Any]) -> dict[str, np.ndarray]:
    """The tensors of a file inside the package, if it is the one that its record speaks of."""
    digest = hashlib.sha256(encoded).hexdigest()
    if digest != about["sha256"]:
        raise IntegrityError(f"{about['file']}: must have SHA-256 {about['sha256']}, got {digest}")
    try:
        return safetensors.numpy.load(encoded)
    except safetensors.SafetensorError as error:
        raise FormatError(f"{about['file']}: must be a safetensors file, got {error}") from error


def _asset(name: str) -> bytes:
    return (resources.files("jcbir.models") / "assets" / name).read_bytes()
