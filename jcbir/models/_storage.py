"""Half-size weights: kernels in float16, everything that normalizes in float32."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def halve(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Kernels to float16, half the size at rest; vectors (BatchNorm, biases) stay float32.

    A variance may exceed float16's range (one of Keras' ResNet50 is 83,614), and vectors are a thousandth of the size.

    Args:
        variables: float32 `{"params": ..., "batch_stats": ...}`.

    Returns:
        The same tree of NumPy arrays.

    Raises:
        ValueError: a kernel is not finite in float16.

    Example:
        >>> halve({"params": {"fc": {"kernel": np.ones((2, 2), np.float32)}}})["params"]["fc"]["kernel"].dtype
        dtype('float16')
    """
    return jax.tree_util.tree_map_with_path(_halve_leaf, dict(variables))


def widen(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Every array to float32, to compute with.

    Args:
        variables: as `halve` gives them, or any tree of float arrays.

    Returns:
        The same tree, float32 NumPy arrays.

    Example:
        >>> widen({"kernel": np.ones((2, 2), np.float16)})["kernel"].dtype
        dtype('float32')
    """
    return jax.tree.map(lambda a: np.asarray(a).astype(np.float32), dict(variables))


def _halve_leaf(path: Any, leaf: Any) -> np.ndarray:
    array = np.asarray(leaf)
    if array.ndim < 2:
        return array.astype(np.float32)
    limit = float(np.finfo(np.float16).max)
    if not np.all(np.abs(array) <= limit):
        largest = np.abs(array).max()
        raise ValueError(f"{jax.tree_util.keystr(path)}: must be finite and within {limit} for float16, got {largest}")
    return array.astype(np.float16)
