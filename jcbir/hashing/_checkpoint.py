"""A training state as safetensors bytes and back: every leaf bit for bit, no code in the file.

Only arrays are stored. What they mean (the trees of parameters and optimizer) comes from a state made by `init_state`
with the same network and optimizer, so a checkpoint of another run is refused by name, shape or type.
"""

import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from jcbir.errors import FormatError, KeyMismatchError
from jcbir.hashing._training import TrainState

_VERSION = "jcbir.train_state/1"


def state_to_bytes(state: TrainState, *, about: Mapping[str, Any] | None = None) -> bytes:
    """Serialize a training state.

    Args:
        state: the state.
        about: what must be the same on resuming (configuration, seed), anything JSON holds.

    Returns:
        The content of a safetensors file.

    Example:
        >>> import optax
        >>> state = TrainState(jnp.int32(3), {"w": jnp.ones(2)}, {}, optax.EmptyState(), jax.random.key(0))
        >>> safetensors.numpy.load(state_to_bytes(state))["params/w"]
        array([1., 1.], dtype=float32)
    """
    # One entry: safetensors writes several in an order that changes from process to process.
    return safetensors.numpy.save(_flatten(state), metadata={_VERSION: json.dumps(dict(about or {}), sort_keys=True)})


def state_from_bytes(content: bytes, *, like: TrainState, about: Mapping[str, Any] | None = None) -> TrainState:
    """Read a training state into the trees of another.

    Args:
        content: what `state_to_bytes` wrote.
        like: a state of the same network and optimizer; only its trees are used.
        about: what the checkpoint must have been written with.

    Returns:
        The state, exactly as it was.

    Raises:
        FormatError: the bytes are not such a file.
        KeyMismatchError: it belongs to another network, optimizer or configuration, naming the first difference.

    Example:
        >>> import optax
        >>> state = TrainState(jnp.int32(3), {"w": jnp.ones(2)}, {}, optax.EmptyState(), jax.random.key(0))
        >>> int(state_from_bytes(state_to_bytes(state), like=state).step)
        3
    """
    try:
        stored = safetensors.numpy.load(content)
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
    except (safetensors.SafetensorError, ValueError) as error:
        raise FormatError(f"content: must be a safetensors file of {len(content)} bytes: {error}") from error
    if _VERSION not in metadata:
        raise FormatError(f"content: must be a training state of version {_VERSION}, got metadata {sorted(metadata)}")
    wanted = json.dumps(dict(about or {}), sort_keys=True)
    if metadata[_VERSION] != wanted:
        raise KeyMismatchError(f"checkpoint: must be of the run {wanted}, got one of {metadata[_VERSION]}")
    expected = _flatten(like)
    for name in sorted(expected.keys() | stored.keys()):
        found, right = stored.get(name), expected.get(name)
        if found is None or right is None or found.shape != right.shape or found.dtype != right.dtype:
            raise KeyMismatchError(f"checkpoint: must hold {name} as {_kind(right)}, got {_kind(found)}")
    paths, tree = jax.tree_util.tree_flatten_with_path(like)
    leaves = [_restore(leaf, stored[_name(path)]) for path, leaf in paths]
    return jax.tree.unflatten(tree, leaves)


def _flatten(state: TrainState) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {_name(path): np.asarray(_plain(leaf), order="C") for path, leaf in leaves}


def _plain(leaf: Any) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf))
    return np.asarray(leaf)


def _restore(leaf: Any, stored: np.ndarray) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(stored), impl=jax.random.key_impl(leaf))
    return jnp.asarray(stored)


def _name(path: Any) -> str:
    return "/".join(str(getattr(e, "key", getattr(e, "name", getattr(e, "idx", e)))) for e in path)


def _kind(array: np.ndarray | None) -> str:
    return "nothing" if array is None else f"{array.dtype}{list(array.shape)}"
