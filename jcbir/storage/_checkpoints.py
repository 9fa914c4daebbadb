"""Other libraries' weight files as name-to-array dictionaries, chosen by what the file is; none executes code."""

import importlib.util
import io
import json
import os
import pathlib
import tarfile

import numpy as np
import safetensors
import safetensors.numpy

from jcbir.errors import FormatError
from jcbir.models import read_tfjs, read_torch

LARGEST = 2 << 30
"""Bytes beyond which a file is no ResNet and is not read into memory."""


def read_checkpoint(path: str | os.PathLike[str], *, folder: str = "package/ResNet50") -> dict[str, np.ndarray]:
    """Name to array of a `.safetensors`, `.pth`, `.bin`, `.h5`, TensorFlow.js `model.json` or npm `.tgz` file."""
    path = pathlib.Path(path)
    readers = {
        ".safetensors": _read_safetensors,
        ".pth": _read_torch,
        ".bin": _read_torch,
        ".h5": read_keras,
        ".json": _read_tfjs,
        ".tgz": lambda file: _read_npm(file, folder),
    }
    if path.suffix not in readers:
        raise FormatError(f"path: must end in one of {', '.join(readers)}, got {path}")
    if path.stat().st_size > LARGEST:
        raise FormatError(f"{path}: must be at most {LARGEST} bytes, got {path.stat().st_size}")
    return readers[path.suffix](path)


def read_keras(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Keras weights in HDF5, named `layer/variable`; needs `h5py`."""
    if importlib.util.find_spec("h5py") is None:
        raise FormatError(f"{path} needs h5py (`pip install jcbir[weights]`), or weights in safetensors")
    import h5py

    tensors: dict[str, np.ndarray] = {}

    def visit(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset) and "/" in name and not name.startswith("optimizer_weights"):
            # Keras writes model_weights/layer/layer/kernel:0: the last two parts say everything.
            layer, variable = name.split("/")[-2:]
            tensors[f"{layer}/{variable.removesuffix(':0')}"] = np.asarray(node)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except OSError as error:
        raise FormatError(f"{path} is not an HDF5 file: {error}") from error
    return tensors


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load(path.read_bytes())
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path} is not a safetensors file: {error}") from error


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    return read_torch(path.read_bytes())


def _read_tfjs(path: pathlib.Path) -> dict[str, np.ndarray]:
    def shard(name: str) -> bytes:
        inside = (path.parent / name).resolve()
        if inside.parent != path.parent.resolve():
            raise FormatError(f"{path} names a shard outside its folder: {name}")
        return inside.read_bytes()

    return read_tfjs(_json(path.read_bytes(), path), shard)


def _read_npm(path: pathlib.Path, folder: str) -> dict[str, np.ndarray]:
    try:
        # One pass: gzip has no index, and going back would inflate the whole again.
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes()), mode="r:gz") as archive:
            files = {
                member.name.removeprefix(f"{folder}/"): file.read()
                for member in archive
                if member.isfile() and member.name.startswith(f"{folder}/") and (file := archive.extractfile(member))
            }
        return read_tfjs(_json(files["model.json"], path), files.__getitem__)
    except (tarfile.TarError, EOFError, KeyError, OSError) as error:
        raise FormatError(f"{path}: must be an npm package with a model in {folder}; {error}") from error


def _json(content: bytes, path: pathlib.Path) -> dict:
    try:
        return json.loads(content)
    except ValueError as error:
        raise FormatError(f"{path} does not hold a JSON model: {error}") from error
