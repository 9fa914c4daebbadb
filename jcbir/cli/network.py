"""The hashing network as a file that owner and users share, the owner's word for it, and codes of photographs."""

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, UInt8

import jcbir

# The faces load what is asked of them: a query needs neither Flax nor an optimizer.
from jcbir import data, hashing, models, storage
from jcbir.errors import FormatError, IntegrityError
from jcbir.protocol._signatures import check_signature, sign
from jcbir.protocol.messages import Card
from jcbir.protocol.refusals import ForgedReplyError
from jcbir.storage import read_weights, write_file, write_weights
from jcbir.storage._files import cache_folder, file_digest
from jcbir.storage._weights import flatten, unflatten

LARGEST_BATCH = 32
"""Photographs that the network sees at once: more are no faster, and take more memory."""

NETWORK, VOUCHER = "network.safetensors", "network.json"
"""The file of a network, and the owner's word for it beside it."""

SMALL_NETWORK = 4 << 20
"""Bytes of a network that goes into every grant; a larger one is handed over once, and found by its SHA-256."""

GENERAL = "general"
"""What a file says of a head that has not seen the owner's photographs."""


@dataclasses.dataclass(frozen=True)
class NetworkRecord:
    """The owner's word for which network hashes a collection: SHA-256 of its file, signed for one epoch."""

    collection: str
    epoch: int
    sha256: str
    signature: bytes = b""


def open_features(place: str | None, *, size: int) -> "models.Backbone":
    """The network below a hash head: the ImageNet ResNet50 of the package, or another one without its classes."""
    if place is None:
        return models.imagenet_resnet50(size=size)
    found = storage.load_backbone(place)
    if found.description["output"] != "features":
        raise ValueError(f"backbone: must give features, got the hashing network {place!r}")
    if found.description["architecture"] == "imagenet_resnet50":
        return models.imagenet_resnet50(size=size)
    if size < 1:
        raise ValueError(f"size: must be at least 1 pixel, got {size!r}")
    params = {name: leaves for name, leaves in found.variables["params"].items() if name != "fc"}
    seen = dataclasses.replace(found.preprocessing, size=size, resize=size)
    module = models.resnet_module(found.description).clone(classes=0)
    # As a file holds them: who writes and who reads compute the same.
    return models.resnet_backbone(module, models.widen(models.halve({**found.variables, "params": params})), seen)


def whitening_of(features: "models.Backbone") -> "hashing.heads.Whitening | None":
    """What research photographs say of the features of the packaged network; None of others."""
    packaged = features.description.get("architecture") == "imagenet_resnet50"
    return hashing.heads.research_whitening() if packaged else None


def found_network(path: str | os.PathLike[str], *, place: str | None, size: int, bits: int) -> None:
    """Write a hashing network for a collection that is still empty: its head knows research photographs only."""
    network = open_features(place, size=size)
    if place is None:
        head = hashing.heads.general_head(bits=bits)
    else:
        features = hashing.encode_images(network, data.load_sample().train.images, batch=LARGEST_BATCH)
        head = hashing.heads.fit_label_free(jax.random.key(0), features, bits=bits)
    write_network(path, models.attach_head(network, head), {"head": GENERAL})


def write_network(path: str | os.PathLike[str], network: "models.Backbone", about: Mapping[str, Any]) -> str:
    """Write a hashing network and what is to be said of it; its SHA-256."""
    variables = jax.tree.map(np.asarray, models.stored_variables(network))
    if "backbone" in variables:
        variables["backbone"] = models.halve(variables["backbone"])
    return write_weights(path, variables, metadata={**network.description, **about})


class Parts(NamedTuple):
    """A hashing network as what it sees of a photograph, and what its head makes of that.

    Attributes:
        features: the network below the head.
        head: linear, on its features.
        fitted: whether the head has seen other than research photographs.
        identity: SHA-256 of the network below the head.
    """

    features: "models.Backbone"
    head: "models.Head"
    fitted: bool
    identity: str


def load_parts(path: str | os.PathLike[str], *, sha256: str | None = None) -> Parts | None:
    """Read a network whose head stands apart; None of any other."""
    variables, about = read_weights(path, sha256=sha256)
    if about.get("architecture") != "linear_head":
        return None
    below = variables.get("backbone", {})
    digest = hashlib.sha256(json.dumps(about["backbone"], sort_keys=True).encode())
    for name, leaf in flatten(below).items():
        digest.update(name.encode() + b"\0" + np.ascontiguousarray(leaf).tobytes())
    features = models.restore(about["backbone"], models.widen(below))
    head = models.Head(**models.widen(variables["head"]))
    return Parts(features, head, about.get("head") != GENERAL, digest.hexdigest())


def load_network(path: str | os.PathLike[str], *, sha256: str | None = None) -> "models.Backbone":
    """Read a hashing network from its file."""
    variables, about = read_weights(path, sha256=sha256)
    if not about:
        raise FormatError(f"{path}: does not say which network it holds")
    try:
        network = models.restore(about, models.widen(variables))
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
    if about.get("output") != "hash_logits":
        raise FormatError(f"{path}: the network has no hash head; `jcbir owner train` gives it one")
    return network


def pixels_seen(network: "models.Backbone") -> int:
    """Pixels a side of the squares that a photograph is decoded to."""
    return network.preprocessing.resize or network.preprocessing.size


class Hasher(NamedTuple):
    """A hashing network as a compiled program.

    Attributes:
        size: photographs are squares of so many pixels.
        hash: photographs to codes, one row each.
    """

    size: int
    hash: Callable[[UInt8[np.ndarray, "n s s 3"]], Bool[np.ndarray, "n k"]]


def open_hasher(path: str | os.PathLike[str], *, sha256: str) -> Hasher:
    """Open a hashing network by the program that is kept of it; without one, build the network and keep its program."""
    keep_programs()
    file = _program_file(sha256)
    program = _read_program(file)
    leaves = _leaves(path, sha256=sha256)
    if program is None:
        program = _export(load_network(path, sha256=sha256))
        content = bytes(program.serialize())
        # Who cannot keep it builds it again.
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_file(file, hashlib.sha256(content).digest() + content)
    run = jax.jit(program.call)

    def hash_squares(images: UInt8[np.ndarray, "n s s 3"]) -> Bool[np.ndarray, "n k"]:
        # Few sizes: each is compiled once.
        starts = range(0, len(images), LARGEST_BATCH)
        return np.concatenate([_hash_padded(run, leaves, images[at : at + LARGEST_BATCH]) for at in starts])

    return Hasher(program.in_avals[-1].shape[1], hash_squares)


def _hash_padded(run: Callable[..., Any], leaves: Mapping[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    room = (1 << (len(images) - 1).bit_length()) - len(images)
    logits = np.asarray(run(leaves, np.concatenate([images, np.repeat(images[-1:], room, axis=0)])))[: len(images)]
    if not np.isfinite(logits).all():
        raise ValueError("logits: must be finite, got NaN or infinity: the weights are damaged")
    return logits >= 0


def _leaves(path: str | os.PathLike[str], *, sha256: str) -> dict[str, np.ndarray]:
    """All variables of a network's file by flat names, those inside the package included."""
    variables, about = read_weights(path, sha256=sha256)
    leaves = flatten(models.widen(variables))
    if about.get("architecture") == "linear_head" and about["backbone"]["architecture"] == "imagenet_resnet50":
        leaves |= {f"backbone/{name}": leaf for name, leaf in models.imagenet_weights().items()}
    return leaves


def _export(network: "models.Backbone") -> Any:
    """The program of a network for any number of photographs, its variables an argument."""
    from jax import export

    size = network.preprocessing.resize or network.preprocessing.size
    count = export.symbolic_shape("count")[0]
    leaves = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in flatten(network.variables).items()}

    def logits(flat: Mapping[str, Any], images: Any) -> Any:
        return network.apply(unflatten(flat), models.preprocess(images, network.preprocessing))

    return export.export(jax.jit(logits))(leaves, jax.ShapeDtypeStruct((count, size, size, 3), np.uint8))


def _program_file(sha256: str) -> Path:
    """Where the program of a network is kept: one for each release and kind of device."""
    about = [sha256, jcbir.__version__, jax.__version__, jax.default_backend()]
    return cache_folder() / "programs" / hashlib.sha256(json.dumps(about).encode()).hexdigest()


def _read_program(file: Path) -> Any:
    """A kept program; None where there is none, or half of one."""
    from jax import export

    try:
        content = file.read_bytes()
    except OSError:
        return None
    return (
        export.deserialize(bytearray(content[32:])) if hashlib.sha256(content[32:]).digest() == content[:32] else None
    )


def vouch(card: Card, path: str | os.PathLike[str], *, secret: bytes) -> str:
    """Sign which network hashes a collection, for users to check: a line of JSON."""
    signed = sign(NetworkRecord(card.collection, card.epoch, file_digest(path)), secret=secret)
    return json.dumps({**dataclasses.asdict(signed), "signature": signed.signature.hex()}) + "\n"


def check_network(card: Card, path: str | os.PathLike[str], record: str) -> str:
    """Check that the owner vouched for a network's file; its SHA-256."""
    digits = read_voucher(card, record)
    found = file_digest(path)
    if found != digits:
        raise IntegrityError(f"{path}: SHA-256 is {found}, the owner vouched for {digits}")
    return found


def read_voucher(card: Card, record: str) -> str:
    """Check that the owner vouched for a network; the SHA-256 of its file."""
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
    return signed.sha256


def find_network(card: Card, record: str, places: Sequence[Path]) -> tuple[Path, str]:
    """The file of the network that the owner vouched for, in one of these places or in the cache; its SHA-256."""
    digits = read_voucher(card, record)
    for path in places:
        if path.is_file():
            return path, check_network(card, path, record)
    path = _kept_network(digits)
    if not path.is_file():
        raise FileNotFoundError(
            f"network: must be given as --network, the file with SHA-256 {digits} of the owner's, got none"
        )
    return path, check_network(card, path, record)


def keep_network(path: Path, home: Path, *, sha256: str) -> None:
    """Put a network into a user's folder; users of one network on a machine share one file of it, in the cache."""
    kept = _kept_network(sha256)
    try:
        if not kept.exists() or file_digest(kept) != sha256:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_file(kept, path.read_bytes())
        share_file(kept, home / NETWORK)
    except OSError:
        # No cache is to be had.
        write_file(home / NETWORK, path.read_bytes())


def share_file(source: Path, target: Path) -> None:
    """Give a file another name; files of this program are replaced, never changed. On another disk it is copied."""
    beside = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        os.link(source, beside)
        os.replace(beside, target)
        # Of two names of one file `replace` leaves both.
        beside.unlink(missing_ok=True)
    except OSError:
        write_file(target, source.read_bytes())


def _kept_network(sha256: str) -> Path:
    return cache_folder() / "networks" / f"{sha256}.safetensors"


def keep_programs() -> None:
    """Keep compiled programs on disk, unless the caller's JAX does already: a command would compile them each time."""
    if jax.config.values.get("jax_compilation_cache_dir") is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
