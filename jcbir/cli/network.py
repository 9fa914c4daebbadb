"""The hashing network as a file that owner and users share, the owner's word for it, and codes of photographs."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from jcbir.data import decode_image, load_sample
from jcbir.errors import FormatError, IntegrityError
from jcbir.hashing import encode_images
from jcbir.hashing.heads import fit_itq, general_head
from jcbir.models import (
    Backbone,
    attach_head,
    halve,
    imagenet_resnet50,
    resnet_backbone,
    resnet_module,
    restore,
    stored_variables,
    widen,
)
from jcbir.protocol._signatures import check_signature, sign
from jcbir.protocol.messages import Card
from jcbir.protocol.refusals import ForgedReplyError
from jcbir.storage import load_backbone, read_weights, write_weights
from jcbir.storage._files import file_digest

LARGEST_BATCH = 32
"""Photographs that the network sees at once: more are no faster, and take more memory."""

GENERAL = "general"
"""What a file says of a head that has not seen the owner's photographs."""


@dataclasses.dataclass(frozen=True)
class NetworkRecord:
    """The owner's word for which network hashes a collection: SHA-256 of its file, signed for one epoch."""

    collection: str
    epoch: int
    sha256: str
    signature: bytes = b""


def open_features(place: str | None, *, size: int) -> Backbone:
    """The network below a hash head: the ImageNet ResNet50 of the package, or another one without its classes."""
    if place is None:
        return imagenet_resnet50(size=size)
    found = load_backbone(place)
    if found.description["output"] != "features":
        raise ValueError(f"backbone: must give features, got the hashing network {place!r}")
    if found.description["architecture"] == "imagenet_resnet50":
        return imagenet_resnet50(size=size)
    if size < 1:
        raise ValueError(f"size: must be at least 1 pixel, got {size!r}")
    params = {name: leaves for name, leaves in found.variables["params"].items() if name != "fc"}
    seen = dataclasses.replace(found.preprocessing, size=size, resize=size)
    module = resnet_module(found.description).clone(classes=0)
    # As a file holds them: who writes and who reads compute the same.
    return resnet_backbone(module, widen(halve({**found.variables, "params": params})), seen)


def found_network(path: str | os.PathLike, *, place: str | None, size: int, bits: int) -> None:
    """Write a hashing network for a collection that is still empty: its head knows research photographs only."""
    network = open_features(place, size=size)
    if place is None:
        head = general_head(bits=bits)
    else:
        features = encode_images(network, load_sample().train.images, batch=LARGEST_BATCH)
        head = fit_itq(jax.random.key(0), features, bits=bits)
    write_network(path, attach_head(network, head), {"head": GENERAL})


def write_network(path: str | os.PathLike, network: Backbone, about: Mapping[str, Any]) -> str:
    """Write a hashing network and what is to be said of it; its SHA-256."""
    variables = jax.tree.map(np.asarray, stored_variables(network))
    if "backbone" in variables:
        variables["backbone"] = halve(variables["backbone"])
    return write_weights(path, variables, metadata={**network.description, **about})


def load_unfitted(path: str | os.PathLike, *, sha256: str) -> Backbone | None:
    """The features of a network whose head `found_network` made; None of any other."""
    variables, about = read_weights(path, sha256=sha256)
    if about.get("head") != GENERAL:
        return None
    return restore(about["backbone"], widen(variables.get("backbone", {})))


def load_network(path: str | os.PathLike, *, sha256: str | None = None) -> Backbone:
    """Read a hashing network from its file."""
    variables, about = read_weights(path, sha256=sha256)
    if not about:
        raise FormatError(f"{path}: does not say which network it holds")
    try:
        network = restore(about, widen(variables))
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
    if about.get("output") != "hash_logits":
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
