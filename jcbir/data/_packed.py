"""Packed sets: one `.npz` that holds many encoded files end to end, without pickle.

Image i of a part is `blob[offsets[i]:offsets[i + 1]]`, one file that Pillow opens; `labels` holds class indices, or
rows of 0/1. Keys may carry the part's name in front: `train_blob`, `train_offsets`, `train_labels`, and optionally
`train_files` or `train_ids`; names of the classes are `names` or `words`.
"""

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from jcbir.data._sources import Source
from jcbir.errors import FormatError


def packed(path: str | os.PathLike[str], *, part: str = "") -> Source:
    """Open one part of a packed set; the encoded files stay in memory, nothing is decoded.

    Args:
        path: the `.npz` file.
        part: name in front of the keys, such as `train`; empty for a file of one part.

    Returns:
        The source. Ids are `part/` and the file name kept in the set or the position, `train/00042`; a set of one part
        has its own name in place of the part.

    Raises:
        ValueError: no such file.
        FormatError: another kind of file, or offsets and labels that do not fit.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     file = os.path.join(root, "two.npz")
        ...     blob, offsets = np.frombuffer(b"abc", np.uint8), np.array([0, 1, 3])
        ...     np.savez(file, blob=blob, offsets=offsets, labels=np.array([0, 1]), names=np.array(["x", "y"]))
        ...     source = packed(file)
        >>> source.read(1), source.ids[1], source.names
        (b'bc', 'two/00001', ('x', 'y'))
    """
    path, prefix = Path(path), f"{part}_" if part else ""
    arrays = _arrays(path)
    wanted = [f"{prefix}{name}" for name in ("blob", "offsets", "labels")]
    if missing := sorted(set(wanted) - set(arrays)):
        raise FormatError(f"{path.name}: must hold {missing}, got {sorted(arrays)}")
    blob, offsets, labels = (arrays[name] for name in wanted)
    titles = arrays.get("names", arrays.get("words"))
    files = arrays.get(f"{prefix}files", arrays.get(f"{prefix}ids"))
    _check(path, blob, offsets, labels)
    ids = [
        f"{part or path.stem}/{name}" for name in ([f"{i:05d}" for i in range(len(labels))] if files is None else files)
    ]
    if len(ids) != len(labels) or len(set(ids)) != len(ids):
        raise FormatError(f"{path.name}: must name each of its {len(labels)} images once, got {len(set(ids))} names")
    several = labels.ndim == 2
    classes = labels.shape[1] if several else int(labels.max(initial=0)) + 1 if len(labels) else 0
    names = tuple(str(name) for name in (range(classes) if titles is None else titles))
    if len(names) < classes:
        raise FormatError(f"{path.name}: must name all of its {classes} classes, got {len(names)}")
    return Source(
        lambda i: blob[offsets[i] : offsets[i + 1]].tobytes(),
        labels.astype(bool if several else np.int32),
        tuple(ids),
        names,
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as opened:
            return {name: opened[name] for name in opened.files}
    except FileNotFoundError as error:
        raise ValueError(f"path: must be a packed set of images, got {str(path)!r}, which is not there") from error
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        # AttributeError, TypeError: a bare `.npy` array is no archive.
        raise FormatError(f"{path.name}: must be a packed set of images (.npz without pickles): {error}") from error


def _check(path: Path, blob: np.ndarray, offsets: np.ndarray, labels: np.ndarray) -> None:
    if blob.dtype != np.uint8 or blob.ndim != 1 or offsets.ndim != 1 or not np.issubdtype(offsets.dtype, np.integer):
        raise FormatError(
            f"{path.name}: must hold a flat uint8 blob and integer offsets, got {blob.dtype}, {offsets.dtype}"
        )
    if labels.ndim not in (1, 2) or len(offsets) != len(labels) + 1:
        raise FormatError(f"{path.name}: must hold one offset more than labels, got {len(offsets)} and {labels.shape}")
    whole = offsets[0] >= 0 and offsets[-1] <= len(blob) and bool((np.diff(offsets.astype(np.int64)) >= 0).all())
    if not whole:
        raise FormatError(f"{path.name}: must have rising offsets within its {len(blob)} bytes")
    fitting = np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool
    if not fitting or labels.min(initial=0) < 0 or (labels.ndim == 2 and labels.max(initial=0) > 1):
        raise FormatError(f"{path.name}: must hold class indices from 0, or rows of 0 and 1, got {labels.dtype}")
