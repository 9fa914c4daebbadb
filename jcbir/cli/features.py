"""What the network sees in each photograph: features, in hidden files of the owner's folder.

    32 bytes SHA-256 of the network below the hash head, then the features of length 1 as little-endian float16

They are kept as they are made, a file for each photograph under a name that says nothing of it, so that those of a few
are read or removed without the others. An interrupted run goes on with them, they say whether the hash head still fits
what is published, and another head hashes them without the photographs.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float16, UInt8

from jcbir.cli.hidden import Kind, hidden_name, read_hidden, write_hidden
from jcbir.cli.network import LARGEST_BATCH, Parts
from jcbir.cli.workspace import Workspace
from jcbir.codes import binarize
from jcbir.hashing import encode_images
from jcbir.models import Head, project_head

KIND = Kind(
    "features", b"JCBF", 2, "; it may be deleted: its photograph is looked at again the next time it is published"
)  # fmt: skip
FOLDER = "features"

NEAREST = 5
"""Neighbors of a photograph that a head is judged by."""

Rows = dict[str, Float16[np.ndarray, " d"]]
"""Features by SHA-256 of the photograph's file."""


def make_features(workspace: Workspace, parts: Parts, squares: Mapping[str, UInt8[np.ndarray, "s s 3"]]) -> Rows:
    """Look at a few photographs, given by SHA-256 of their file, and keep what was seen."""
    rows = encode_images(parts.features, np.stack(list(squares.values())), batch=LARGEST_BATCH)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units = (rows / np.maximum(lengths, np.finfo(np.float32).tiny)).astype("<f2")
    (workspace.path / FOLDER).mkdir(mode=0o700, exist_ok=True)
    for name, row in zip(squares, units, strict=True):
        content = bytes.fromhex(parts.identity) + row.tobytes()
        write_hidden(_file(workspace, name), content, kind=KIND, owner=workspace.owner)
    return dict(zip(squares, units, strict=True))


def kept_features(workspace: Workspace, parts: Parts, names: Iterable[str]) -> Rows:
    """What the network below this head saw of photographs, by SHA-256 of their file, as far as it was kept."""
    found = {}
    for name in names:
        file = _file(workspace, name)
        content = read_hidden(file, kind=KIND, owner=workspace.owner) if file.exists() else b""
        if content[:32].hex() == parts.identity:
            found[name] = np.frombuffer(content, "<f2", offset=32)
    return found


def forget_features(workspace: Workspace, names: Iterable[str]) -> None:
    """Remove what was seen of photographs."""
    for name in names:
        _file(workspace, name).unlink(missing_ok=True)


def _file(workspace: Workspace, name: str) -> Path:
    return workspace.path / FOLDER / hidden_name(name, kind=KIND, owner=workspace.owner)


def nearness(features: Float[np.ndarray, "n d"], codes: Bool[np.ndarray, "n k"]) -> Float[np.ndarray, "n 2"]:
    """For each photograph, how much nearer to it than the average one its five nearest are, by code and by features.

    Nearness is the cosine of features of length 1; where several codes are equally far, it is the expected one. Were
    all codes alike, the first number would be 0; where a head keeps who is near, it is the second.
    """
    signs = np.where(codes, np.float32(1), np.float32(-1))
    cosines, distances = features @ features.T, codes.shape[1] - signs @ signs.T
    # Itself is not among the others.
    np.fill_diagonal(cosines, 0)
    np.fill_diagonal(distances, np.inf)
    average = cosines.sum(1) / (len(cosines) - 1)
    last = np.partition(distances, NEAREST - 1, axis=1)[:, NEAREST - 1, None]
    inside, tied = distances < last, distances == last
    chance = (NEAREST - inside.sum(1)) / tied.sum(1)
    by_code = ((inside * cosines).sum(1) + chance * (tied * cosines).sum(1)) / NEAREST
    np.fill_diagonal(cosines, -np.inf)
    by_features = np.partition(cosines, -NEAREST, axis=1)[:, -NEAREST:].mean(1)
    return np.stack([by_code - average, by_features - average], axis=1)


def hash_rows(head: Head, rows: Mapping[str, Float16[np.ndarray, " d"]]) -> dict[str, Bool[np.ndarray, " k"]]:
    """Codes of features, by SHA-256 of the file."""
    if not rows:
        return {}
    logits = project_head(head, np.stack(list(rows.values())).astype(np.float32))
    return dict(zip(rows, np.asarray(binarize(logits)), strict=True))
