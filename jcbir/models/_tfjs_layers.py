"""TensorFlow.js "layers" models: a JSON manifest and shards of little-endian floats."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jcbir.errors import FormatError


def read_tensors(model: Mapping[str, Any], shard: Callable[[str], bytes]) -> dict[str, np.ndarray]:
    """Name to array of a model, its shards concatenated in manifest order and cut by its shapes.

    Args:
        model: the parsed `model.json`.
        shard: bytes of a shard by its path in the manifest.

    Returns:
        float32 arrays named `layer/variable`.

    Raises:
        FormatError: the manifest is not one, a tensor is quantized or not float32, or the shards are too short or long.

    Example:
        >>> entry = {"name": "fc/bias", "shape": [2], "dtype": "float32"}
        >>> model = {"weightsManifest": [{"paths": ["a", "b"], "weights": [entry]}]}
        >>> shards = {"a": np.float32(1).tobytes(), "b": np.float32(2).tobytes()}
        >>> read_tensors(model, shards.__getitem__)["fc/bias"]
        array([1., 2.], dtype=float32)
    """
    tensors: dict[str, np.ndarray] = {}
    try:
        groups = [(g["weights"], list(g["paths"])) for g in model["weightsManifest"]]
        for weights, paths in groups:
            content, at = b"".join(shard(path) for path in paths), 0
            for entry in weights:
                name, shape = entry["name"], tuple(entry["shape"])
                if entry["dtype"] != "float32" or "quantization" in entry:
                    raise FormatError(f"{name} must be plain float32; got {entry['dtype']}, perhaps quantized")
                size = 4 * math.prod(shape)
                if name in tensors or at + size > len(content):
                    raise FormatError(f"{name} must come once and lie within its {len(content)} bytes of shards")
                tensors[name] = np.frombuffer(content, "<f4", size // 4, at).reshape(shape)
                at += size
            if at != len(content):
                raise FormatError(f"shards must hold {at} bytes as the manifest says; got {len(content)}")
    except (KeyError, TypeError) as error:
        raise FormatError(f"model must have a weightsManifest of paths and weights; {error!r}") from error
    return tensors
