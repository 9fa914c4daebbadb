"""The hashing network as a file that owner and users share, the owner's word for it, and codes of photographs."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Integer, UInt8

from jcbir.data import SAMPLE_SIDE, decode_image, folder as class_folder, load_sample
from jcbir.errors import FormatError, IntegrityError
from jcbir.hashing import Progress, fine_tune, linen_apply
from jcbir.hashing.centers import class_targets, hash_centers
from jcbir.models import Backbone, bundled, preprocess, resnet_module, restore, widen
from jcbir.protocol._signatures import check_signature, sign
from jcbir.protocol.messages import Card
from jcbir.protocol.refusals import ForgedReplyError
from jcbir.storage.fetching import file_digest
from jcbir.storage.weights import read_weights, write_weights


@dataclasses.dataclass(frozen=True)
class NetworkRecord:
    """The owner's word for which network hashes a collection: SHA-256 of its file, signed for one epoch."""

    collection: str
    epoch: int
    sha256: str
    signature: bytes = b""


def tune(
    key: jax.Array,
    images: UInt8[np.ndarray, "n h w 3"],
    labels: Integer[np.ndarray, " n"],
    network: Backbone,
    *,
    classes: int,
    epochs: int,
    progress: Callable[[Progress], None] | None = None,
) -> Backbone:
    """Fine-tune a ResNet with a hash head by central similarity quantization: each code at its class's hash center."""
    module = resnet_module(network.description)
    logits = linen_apply(module, select=lambda outputs: outputs.hash_logits)

    def apply(variables: Any, images: Any, key: jax.Array) -> tuple[Any, Any]:
        return logits(variables, preprocess(images, network.preprocessing), key)

    targets = class_targets(labels, hash_centers(key, classes, bits=module.bits))
    return network._replace(
        variables=fine_tune(
            key, images, targets, apply=apply, variables=network.variables, epochs=epochs, progress=progress
        )
    )


def train_network(
    key: jax.Array,
    path: str | os.PathLike,
    *,
    folder: Path | None,
    bits: int,
    epochs: int,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Fine-tune the bundled network on class folders, or on the sample inside the package, and write it."""
    if epochs < 1:
        raise ValueError(f"epochs: must be at least 1, got {epochs}")
    if not 8 <= bits <= 512:
        raise ValueError(f"bits: must be 8 to 512, got {bits}")
    if folder is None:
        sample = load_sample()
        images, labels, names, skipped = sample.train.images, sample.train.labels, sample.names, ()
    else:
        album = class_folder(folder, size=SAMPLE_SIDE)
        images, labels, names, skipped = album.images, album.labels, album.names, album.skipped
    tuned = tune(key, images, labels, bundled(bits=bits, key=key), classes=len(names), epochs=epochs, progress=progress)
    about = {**tuned.description, "classes": list(names), "epochs": epochs}
    digits = write_weights(path, jax.tree.map(np.asarray, tuned.variables), metadata=about)
    lines = [{"path": file.path, "reason": file.reason} for file in skipped]
    return {"sha256": digits, "bits": bits, "photographs": len(images), "classes": len(names), "skipped": lines}


def load_network(path: str | os.PathLike, *, sha256: str | None = None) -> Backbone:
    """Read a hashing network from its file."""
    variables, about = read_weights(path, sha256=sha256)
    if "network" not in about:
        raise FormatError(f"{path}: does not say which network it holds")
    try:
        network = restore(about, widen(variables))
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
    if not resnet_module(about).bits:
        raise FormatError(f"{path}: the network has no hash head; `jcbir owner train` gives it one")
    return network


def square(content: bytes, network: Backbone) -> UInt8[np.ndarray, "s s 3"]:
    """Decode a photograph as the network wants to see it: upright, the largest centered square, scaled."""
    return decode_image(content, size=network.preprocessing.resize or network.preprocessing.size)


def vouch(card: Card, path: str | os.PathLike, *, secret: bytes) -> str:
    """Sign which network hashes a collection, for users to check: a line of JSON."""
    signed = sign(NetworkRecord(card.collection, card.epoch, file_digest(path)), secret=secret)
    return json.dumps({**dataclasses.asdict(signed), "signature": signed.signature.hex()}) + "\n"


def check_network(card: Card, path: str | os.PathLike, record: str) -> str:
    """Check that the owner vouched for a network's file; its SHA-256."""
    try:
        plain = json.loads(record)
        signed = NetworkRecord(
            str(plain["collection"]), int(plain["epoch"]), str(plain["sha256"]), bytes.fromhex(plain["signature"])
        )
    except (ValueError, KeyError, TypeError):
        raise FormatError("network record: must be one that `jcbir owner grant` writes, got something else") from None
    check_signature(signed, public=card.owner_key, refusal=ForgedReplyError)
    if (signed.collection, signed.epoch) != (card.collection, card.epoch):
        raise ForgedReplyError("network record: signed for another collection or epoch")
    found = file_digest(path)
    if found != signed.sha256:
        raise IntegrityError(f"{path}: SHA-256 is {found}, the owner vouched for {signed.sha256}")
    return found


def keep_programs() -> None:
    """Keep compiled programs on disk, unless the caller's JAX does already: a command would compile them each time."""
    if jax.config.values.get("jax_compilation_cache_dir") is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(cache / "jcbir" / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
