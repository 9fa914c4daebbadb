"""The hashing network as a file that owner and users share, the owner's word for it, and codes of photographs."""

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, UInt8

from jcbir.data import SAMPLE_SIDE, decode_image, folder as class_folder, load_sample
from jcbir.errors import FormatError, IntegrityError
from jcbir.hashing import TrainApply, fine_tune, hash_images, linen_apply
from jcbir.hashing.centers import class_targets, hash_centers
from jcbir.models import Backbone, bundled, preprocess, resnet_module, restore, widen
from jcbir.protocol._signatures import check_signature, sign
from jcbir.protocol.messages import Card
from jcbir.protocol.refusals import ForgedReplyError
from jcbir.storage.fetching import file_digest
from jcbir.storage.weights import read_weights, write_weights

LARGEST_BATCH = 64


@dataclasses.dataclass(frozen=True)
class NetworkRecord:
    """The owner's word for which network hashes a collection.

    Attributes:
        collection: name of the collection.
        epoch: epoch of the collection.
        sha256: of the network's file, hexadecimal.
        signature: the owner's Ed25519 signature over the rest.
    """

    collection: str
    epoch: int
    sha256: str
    signature: bytes = b""


def train_network(
    key: jax.Array,
    path: str | os.PathLike,
    *,
    folder: Path | None,
    bits: int,
    epochs: int,
    progress: Callable[[Any], None] | None = None,
) -> dict[str, Any]:
    """Fine-tune the bundled network to hash, and write it.

    Args:
        key: PRNG key of the initial head, the order and the augmentation.
        path: where.
        folder: class folders to learn from; None for the sample inside the package.
        bits: length of the codes.
        epochs: passes over the photographs.
        progress: called after each step.

    Returns:
        `sha256`, `bits`, `photographs`, `classes` and `skipped` (path and reason each).

    Raises:
        ValueError: options out of range, or a folder that holds no classes.

    Example:
        >>> train_network(jax.random.key(0), "n.safetensors", folder=Path("no/such"), bits=16, epochs=1)
        Traceback (most recent call last):
        ...
        ValueError: root: must be a folder, got 'no/such'
    """
    if epochs < 1 or not 8 <= bits <= 512:
        raise ValueError(f"epochs and bits: at least 1, and 8 to 512; got {epochs} and {bits}")
    if folder is None:
        sample = load_sample()
        images, labels, names, skipped = sample.train.images, sample.train.labels, sample.names, ()
    else:
        album = class_folder(folder, size=SAMPLE_SIDE)
        images, labels, names, skipped = album.images, album.labels, album.names, album.skipped
    backbone = bundled(bits=bits, key=key)
    targets = class_targets(labels, hash_centers(key, len(names), bits=bits))
    tuned = fine_tune(
        key, images, targets, apply=training_apply(backbone), variables=backbone.variables, epochs=epochs,
        progress=progress,
    )  # fmt: skip
    about = {**backbone.description, "classes": list(names), "epochs": epochs}
    digits = write_weights(path, jax.tree.map(np.asarray, tuned), metadata=about)
    lines = [{"path": file.path, "reason": file.reason} for file in skipped]
    return {"sha256": digits, "bits": bits, "photographs": len(images), "classes": len(names), "skipped": lines}


def load_network(path: str | os.PathLike, *, sha256: str | None = None) -> Backbone:
    """Read a hashing network from its file.

    Args:
        path: written by `train_network`, or by `jcbir.storage.weights.write_weights` with `describe` as metadata.
        sha256: hash the file must have.

    Returns:
        Network, weights, preprocessing.

    Raises:
        FormatError: no description inside, no hash head, or weights of another network.
        IntegrityError: the file has another hash.

    Example:
        >>> load_network("no/such.safetensors")
        Traceback (most recent call last):
        ...
        FileNotFoundError: [Errno 2] No such file or directory: 'no/such.safetensors'
    """
    variables, about = read_weights(path, sha256=sha256)
    if "network" not in about:
        raise FormatError(f"{path}: does not say which network it holds")
    try:
        backbone = restore(about, widen(variables))
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
    if not resnet_module(about).bits:
        raise FormatError(f"{path}: the network has no hash head; `jcbir owner train` gives it one")
    return backbone


def training_apply(backbone: Backbone) -> TrainApply:
    """Training-mode `apply` of a ResNet with a hash head, its preprocessing included.

    Args:
        backbone: the network.

    Returns:
        A function (variables, photographs, key) -> (hash logits, new batch statistics).

    Example:
        >>> training_apply(bundled(bits=8, key=jax.random.key(0))).__name__
        'apply'
    """
    inner = linen_apply(resnet_module(backbone.description), select=lambda outputs: outputs.hash_logits)

    def apply(variables: Any, images: Any, key: jax.Array) -> tuple[Any, Any]:
        return inner(variables, preprocess(images, backbone.preprocessing), key)

    return apply


def network_side(network: Backbone) -> int:
    """Pixels a side of the squares that `hash_squares` takes.

    Args:
        network: the network.

    Returns:
        Pixels.

    Example:
        >>> from jcbir.models import Preprocessing
        >>> network_side(Backbone(lambda variables, inputs: inputs, {}, Preprocessing(size=32)))
        32
    """
    return network.preprocessing.resize or network.preprocessing.size


def square(content: bytes, network: Backbone) -> UInt8[np.ndarray, "s s 3"]:
    """Decode a photograph as the network wants to see it: upright, the largest centered square, scaled.

    Args:
        content: bytes of the file.
        network: the network.

    Returns:
        uint8[s, s, 3].

    Raises:
        ValueError: not a picture.

    Example:
        >>> from jcbir.models import Preprocessing
        >>> square(b"not a picture", Backbone(lambda variables, inputs: inputs, {}, Preprocessing(size=32)))
        Traceback (most recent call last):
        ...
        jcbir.errors.FormatError: encoded: must be a picture, got 13 bytes: of no known format
    """
    return decode_image(content, size=network_side(network))


def hash_squares(network: Backbone, squares: Sequence[UInt8[np.ndarray, "s s 3"]]) -> Bool[np.ndarray, "n k"]:
    """Codes of photographs.

    Args:
        network: a network with a hash head.
        squares: from `square`.

    Returns:
        One k-bit code a photograph.

    Raises:
        ValueError: no photograph, or logits that are not finite.

    Example:
        >>> from jcbir.models import Preprocessing
        >>> hash_squares(Backbone(lambda variables, inputs: inputs, {}, Preprocessing(size=32)), [])
        Traceback (most recent call last):
        ...
        ValueError: squares: need at least one photograph
    """
    if not squares:
        raise ValueError("squares: need at least one photograph")
    return hash_images(network, np.stack(list(squares)), batch=LARGEST_BATCH)


def vouch(card: Card, path: str | os.PathLike, *, secret: bytes) -> str:
    """Sign which network hashes a collection, for users to check.

    Args:
        card: the collection.
        path: the network's file.
        secret: the owner's Ed25519 private key.

    Returns:
        A line of JSON.

    Example:
        >>> import tempfile
        >>> from jcbir.protocol.session import small_system
        >>> owner = small_system().owner
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "network").write_bytes(b"weights")
        ...     vouch(owner.card, Path(folder, "network"), secret=owner.signing_secret)
        '{"collection": "photos", "epoch": 0, "sha256": "9a129038d9a0...", "signature": "..."}\\n'
    """
    signed = sign(NetworkRecord(card.collection, card.epoch, file_digest(path)), secret=secret)
    return json.dumps({**dataclasses.asdict(signed), "signature": signed.signature.hex()}) + "\n"


def check_network(card: Card, path: str | os.PathLike, record: str) -> str:
    """Check that the owner vouched for a network's file.

    Args:
        card: the collection.
        path: the network's file.
        record: from `vouch`.

    Returns:
        SHA-256 of the file.

    Raises:
        FormatError: the record is not one.
        ForgedReplyError: the owner did not sign it for this collection and epoch.
        IntegrityError: the file is another one.

    Example:
        >>> import tempfile
        >>> from jcbir.protocol.session import small_system
        >>> owner = small_system().owner
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "network")
        ...     _ = path.write_bytes(b"weights")
        ...     check_network(owner.card, path, vouch(owner.card, path, secret=owner.signing_secret))
        '9a129038d9a0...'
    """
    try:
        plain = json.loads(record)
        signed = NetworkRecord(
            str(plain["collection"]), int(plain["epoch"]), str(plain["sha256"]), bytes.fromhex(plain["signature"])
        )
    except (ValueError, KeyError, TypeError):
        raise FormatError("network record: not one that `jcbir owner grant` writes") from None
    check_signature(signed, public=card.owner_key, refusal=ForgedReplyError)
    if (signed.collection, signed.epoch) != (card.collection, card.epoch):
        raise ForgedReplyError("network record: signed for another collection or epoch")
    found = file_digest(path)
    if found != signed.sha256:
        raise IntegrityError(f"{path}: SHA-256 is {found}, the owner vouched for {signed.sha256}")
    return found


def keep_programs() -> None:
    """Keep compiled programs on disk, unless the caller's JAX does already: a command would compile them each time.

    Returns:
        Nothing.

    Example:
        >>> callable(keep_programs)
        True
    """
    if jax.config.values.get("jax_compilation_cache_dir") is None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "jcbir" / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


__all__ = [
    "NetworkRecord",
    "check_network",
    "hash_squares",
    "keep_programs",
    "load_network",
    "network_side",
    "square",
    "train_network",
    "vouch",
]
