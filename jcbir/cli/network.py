"""The hashing network as a file that owner and users share, the owner's word for it, and codes of photographs."""

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import Bool, UInt8

from jcbir.codes import binarize
from jcbir.data import _bundled as photographs, decode_image, folder as class_folder
from jcbir.errors import FormatError, IntegrityError
from jcbir.hashing import Progress, crop_and_flip, encode, fit, hash_centers, init_state, linen_apply, train_step
from jcbir.hashing.losses import csq
from jcbir.models import Backbone, bundled, describe, parse, preprocess, run, shapes, widen
from jcbir.protocol._signatures import check_signature, sign
from jcbir.protocol.messages import Card
from jcbir.protocol.refusals import ForgedReplyError
from jcbir.storage.fetching import file_digest
from jcbir.storage.weights import read_weights, write_weights

BATCH = 100
RATE = 2e-3
LARGEST_BATCH = 64


@dataclasses.dataclass(frozen=True)
class NetworkRecord:
    """The owner's word for which network hashes a collection: SHA-256 of its file, signed for one epoch."""

    collection: str
    epoch: int
    sha256: str
    signature: bytes = b""


def fine_tune(
    key: jax.Array,
    images: UInt8[np.ndarray, "n h w 3"],
    targets: Bool[np.ndarray, "n k"],
    network: Backbone,
    *,
    epochs: int,
    progress: Callable[[Progress], None] | None = None,
) -> Backbone:
    """Train all layers to place each image's code at its class's hash center, by AdamW on L_C + 0.05 L_Q."""
    steps = epochs * max(1, len(images) // BATCH)
    rising = max(1, steps // 10)
    schedule = optax.warmup_cosine_decay_schedule(RATE / 10, RATE, rising, max(steps, rising + 1), RATE / 100)
    optimizer = optax.adamw(schedule, weight_decay=1e-4)
    logits = linen_apply(network.module, select=lambda outputs: outputs.hash_logits)

    def apply(variables: Any, images: Any, key: jax.Array) -> tuple[Any, Any]:
        return logits(variables, preprocess(images, network.preprocessing), key)

    step = partial(train_step, apply=apply, loss=csq, optimizer=optimizer, augment=crop_and_flip)
    state = init_state(key, network.variables, optimizer=optimizer)
    state, _ = fit(state, images, targets, step=step, epochs=epochs, batch=BATCH, progress=progress)
    return network._replace(variables={"params": state.params, "batch_stats": state.batch_stats})


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
        sample = photographs.load_sample()
        images, labels, names, skipped = sample.train.images, sample.train.labels, sample.names, ()
    else:
        album = class_folder(folder, size=photographs.SIDE)
        images, labels, names, skipped = album.images, album.labels, album.names, album.skipped
    targets = np.asarray(hash_centers(key, len(names), bits=bits))[labels]
    tuned = fine_tune(key, images, targets, bundled(bits=bits, key=key), epochs=epochs, progress=progress)
    about = {**describe(tuned.module, tuned.preprocessing), "classes": list(names), "epochs": epochs}
    digits = write_weights(path, jax.tree.map(np.asarray, tuned.variables), metadata=about)
    lines = [{"path": file.path, "reason": file.reason} for file in skipped]
    return {"sha256": digits, "bits": bits, "photographs": len(images), "classes": len(names), "skipped": lines}


def load_network(path: str | os.PathLike, *, sha256: str | None = None) -> Backbone:
    """Read a hashing network from its file."""
    variables, about = read_weights(path, sha256=sha256)
    if "network" not in about:
        raise FormatError(f"{path}: does not say which network it holds")
    module, preprocessing = parse(about)
    if not module.bits:
        raise FormatError(f"{path}: the network has no hash head; `jcbir owner train` gives it one")
    if jax.tree.map(np.shape, variables) != jax.tree.map(lambda leaf: leaf.shape, shapes(module)):
        raise FormatError(f"{path}: the weights are not those of the network it names")
    return Backbone(module, widen(variables), preprocessing)


def square(content: bytes, network: Backbone) -> UInt8[np.ndarray, "s s 3"]:
    """Decode a photograph as the network wants to see it: upright, the largest centered square, scaled."""
    return decode_image(content, size=network.preprocessing.resize or network.preprocessing.size)


def hash_squares(network: Backbone, squares: Sequence[UInt8[np.ndarray, "s s 3"]]) -> Bool[np.ndarray, "n k"]:
    """Codes of photographs of one size."""
    # Powers of two: few programs are compiled whatever the numbers.
    batch = min(LARGEST_BATCH, 1 << max(0, len(squares) - 1).bit_length())
    logits = encode(
        lambda variables, images: run(network._replace(variables=variables), images).hash_logits,
        network.variables,
        np.asarray(squares),
        batch=batch,
    )
    return np.asarray(binarize(logits))


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
