"""Weights in safetensors files: variables by flat names; no code in the file, hash checked, finite or refused."""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from jcbir.errors import FormatError, IntegrityError, KeyMismatchError
from jcbir.storage._files import write_file

SEPARATOR = "/"
METADATA_KEY = "jcbir"


def flatten(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Turn a tree of variables into flat names: `{"params": {"stem": a}}` to `{"params/stem": a}`."""
    flat: dict[str, np.ndarray] = {}
    for name, value in variables.items():
        if not name or SEPARATOR in name:
            raise ValueError(f"variables: must have names that are not empty, without {SEPARATOR!r}, got {name!r}")
        if isinstance(value, Mapping):
            flat.update({f"{name}{SEPARATOR}{inner}": leaf for inner, leaf in flatten(value).items()})
        else:
            flat[name] = np.asarray(value)
    return dict(sorted(flat.items()))


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turn flat names back into a tree."""
    tree: dict[str, Any] = {}
    for name, leaf in flat.items():
        *branches, last = name.split(SEPARATOR)
        place = tree
        for branch in branches:
            place = place.setdefault(branch, {})
            if not isinstance(place, dict):
                raise FormatError(f"weights: {name!r} runs through an array")
        if last in place:
            raise FormatError(f"weights: {name!r} is both an array and a branch")
        place[last] = leaf
    return tree


def write_weights(
    path: str | os.PathLike[str], variables: Mapping[str, Any], *, metadata: Mapping[str, Any] | None = None
) -> str:
    """Write variables as safetensors, atomically.

    Args:
        path: where.
        variables: nested mappings of arrays.
        metadata: what JSON can say of them: architecture, preprocessing, data, accuracy.

    Returns:
        SHA-256 of the file in hexadecimal.

    Raises:
        ValueError: a weight is NaN or infinite.

    Example:
        >>> import tempfile
        >>> path = f"{tempfile.mkdtemp()}/a.safetensors"
        >>> digest = write_weights(path, {"params": {"bias": np.ones(3, np.float32)}}, metadata={"bits": 64})
        >>> variables, metadata = read_weights(path, sha256=digest)
        >>> variables["params"]["bias"].tolist(), metadata
        ([1.0, 1.0, 1.0], {'bits': 64})
    """
    flat = flatten(variables)
    _check_finite(flat)
    plain = {name: np.ascontiguousarray(leaf) for name, leaf in flat.items()}
    content = safetensors.numpy.save(plain, metadata={METADATA_KEY: json.dumps(dict(metadata or {}), sort_keys=True)})
    write_file(path, content)
    return hashlib.sha256(content).hexdigest()


def read_weights(
    path: str | os.PathLike[str], *, like: Mapping[str, Any] | None = None, sha256: str | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read variables and what was said of them.

    Args:
        path: the file.
        like: variables of the network they are for; names, shapes and types must be the same.
        sha256: hash the file must have.

    Returns:
        Nested dictionaries of NumPy arrays, and the metadata.

    Raises:
        IntegrityError: the file has another hash.
        FormatError: not a safetensors file, or a weight is NaN or infinite.
        KeyMismatchError: the weights are of another network.

    Example:
        >>> import tempfile
        >>> path = f"{tempfile.mkdtemp()}/a.safetensors"
        >>> _ = pathlib.Path(path).write_bytes(b"pickle?")
        >>> read_weights(path)
        Traceback (most recent call last):
        ...
        jcbir.errors.FormatError: ...a.safetensors: not a safetensors file
    """
    content = pathlib.Path(path).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise IntegrityError(f"{path}: SHA-256 is {found}, expected {sha256}")
    try:
        flat = safetensors.numpy.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        metadata = json.loads(header.get("__metadata__", {}).get(METADATA_KEY, "{}"))
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError):
        raise FormatError(f"{path}: not a safetensors file") from None
    try:
        _check_finite(flat)
    except ValueError as error:
        raise FormatError(f"{path}: {error}") from None
    if like is not None:
        _check_like(path, flat, flatten(like))
    return unflatten(dict(sorted(flat.items()))), metadata


def _check_finite(flat: Mapping[str, np.ndarray]) -> None:
    bad = [name for name, leaf in flat.items() if leaf.dtype.kind == "f" and not np.isfinite(leaf).all()]
    if bad:
        raise ValueError(f"weights: must be finite, got NaN or infinity in {len(bad)} arrays, the first is {bad[0]!r}")


def _check_like(path: str | os.PathLike[str], flat: Mapping[str, np.ndarray], like: Mapping[str, np.ndarray]) -> None:
    for name in sorted(flat.keys() | like.keys()):
        if name not in flat or name not in like:
            where = "only in the network" if name not in flat else "only in the file"
            raise KeyMismatchError(f"{path}: weights of another network: {name!r} is {where}")
        ours, theirs = like[name], flat[name]
        if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
            raise KeyMismatchError(
                f"{path}: {name!r} is {theirs.dtype}{theirs.shape}, the network has {ours.dtype}{ours.shape}"
            )
