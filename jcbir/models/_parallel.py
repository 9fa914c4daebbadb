"""Data parallel over all local devices by placement alone: the jitted function that ran on one device runs on eight.

Put the batch with `split_batch` and the state with `replicate`; XLA partitions the program and inserts the sums. A mean
over the batch stays the mean over the whole batch, BatchNorm's statistics included. On several hosts, call
`jax.distributed.initialize()` first and give each process its share with `jax.make_array_from_process_local_data`.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "batch"


def split_batch(tree: Any, *, devices: Sequence[Any] | None = None) -> Any:
    """Place arrays with their first axis divided over the devices.

    Args:
        tree: arrays whose first axis is the batch.
        devices: by default all local ones.

    Returns:
        The same tree on the devices.

    Raises:
        ValueError: a batch that the devices do not divide.

    Example:
        >>> split_batch(np.zeros((8, 2), np.float32), devices=jax.devices()[:1]).shape
        (8, 2)
    """
    mesh = _mesh(devices)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if np.ndim(leaf) == 0 or leaf.shape[0] % mesh.size:
            where = jax.tree_util.keystr(path) or "array"
            raise ValueError(f"batch: must be a multiple of {mesh.size} devices, got {where} of shape {np.shape(leaf)}")
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(AXIS)))


def replicate(tree: Any, *, devices: Sequence[Any] | None = None) -> Any:
    """Place a copy of every array on every device.

    Args:
        tree: parameters, statistics, optimizer state, PRNG keys.
        devices: by default all local ones.

    Returns:
        The same tree on the devices.

    Example:
        >>> replicate({"bias": np.zeros(3, np.float32)}, devices=jax.devices()[:1])["bias"].shape
        (3,)
    """
    return jax.device_put(tree, NamedSharding(_mesh(devices), PartitionSpec()))


def _mesh(devices: Sequence[Any] | None) -> Mesh:
    return Mesh(np.array(jax.local_devices() if devices is None else devices), (AXIS,))
