"""`jcbir owner train`: a hashing network from the owner's photographs, and what it finds among those kept out."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Bool, Float, UInt8

from jcbir.cli.console import Advance
from jcbir.cli.network import LARGEST_BATCH, open_features, whitening_of, write_network
from jcbir.cli.reading import decoding_processes
from jcbir.codes import binarize, pack, pairwise
from jcbir.data import (
    Skipped,
    Source,
    chunks,
    label_file,
    load,
    pictures_below,
    read_encoded,
    subset,
)
from jcbir.hashing import encode_images, fine_tune, linen_apply, resized_crop_and_flip
from jcbir.hashing.centers import hash_centers, one_hot, semantic
from jcbir.hashing.heads import FEWEST, fit_csq_head, fit_label_free, general_head
from jcbir.metrics import mean_average_precision, precision_at, tally
from jcbir.models import (
    Backbone,
    Head,
    attach,
    attach_head,
    halve,
    preprocess,
    project_head,
    resnet_backbone,
    resnet_module,
    trainable,
    widen,
)

KEPT_OUT = 5
"""One photograph in so many is kept out of training."""

ENOUGH = 6
"""Photographs of a class that are kept out, where it has twice as many: five to find for each."""

TUNING_RATE = 1e-4
"""Highest learning rate of weights that are trained already."""

Labels = Bool[np.ndarray, "n c"]


def train_network(
    key: jax.Array,
    path: str | os.PathLike[str],
    *,
    folder: Path,
    labels: Path | None,
    label_free: bool,
    tune: Literal["none", "last", "all"],
    epochs: int,
    bits: int,
    backbone: str | None,
    size: int,
    advance: Advance,
) -> dict[str, Any]:
    """Fit a hash head, and the network below it if asked to, write both, and measure them."""
    if not 8 <= bits <= 512:
        raise ValueError(f"bits: must be 8 to 512, got {bits}")
    if epochs < 1:
        raise ValueError(f"epochs: must be at least 1, got {epochs}")
    if label_free and tune != "none":
        raise ValueError(f"tune: must be none without labels, got {tune!r}")
    split_key, tune_key, csq_key, free_key = jax.random.split(key, 4)
    network = open_features(backbone, size=size)
    source, skipped = _photographs(folder, labels, classes=not label_free)
    if tune == "none":
        features, rows, unread = extract(source, network, size=size, advance=advance)
        learned, kept_out = keep_out(split_key, rows)
    else:
        split, unread = load(source, size=size, processes=decoding_processes(len(source.ids)))
        rows = label_rows(split.labels, classes=len(source.names))
        learned, kept_out = keep_out(split_key, rows)
        network = tune_features(
            tune_key, split.images[learned], rows[learned], network, part=tune, bits=bits, epochs=epochs,
            advance=advance,
        )  # fmt: skip
        features = encode_images(network, split.images, batch=LARGEST_BATCH, progress=advance)
    heads: dict[str, Head] = {}
    # Of features that training has moved, research photographs say nothing.
    whitening = whitening_of(network)
    if not label_free:
        heads["trained"] = csq_head(csq_key, features[learned], rows[learned], bits=bits)
    if len(learned) >= FEWEST:
        heads["label-free"] = fit_label_free(free_key, features[learned], bits=bits, whitening=whitening)
    elif label_free:
        raise ValueError(f"folder: must hold at least {FEWEST} photographs to learn from, got {len(learned)}")
    elif backbone is None and bits in (16, 32, 48, 64, 128):
        heads["label-free"] = general_head(bits=bits)
    kind, head = next(iter(heads.items()))
    about = {"head": kind, "photographs": len(learned), "classes": list(source.names)}
    digits = write_network(path, attach_head(network, head), about)
    found = {
        name: measure(np.asarray(binarize(project_head(each, features[kept_out]))), rows[kept_out])
        for name, each in heads.items()
        if (rows[kept_out].sum(0) > 1).any() and len(source.names) > 1
    }
    return {
        "sha256": digits,
        "bits": bits,
        "photographs": len(learned),
        "kept_out": len(kept_out),
        "classes": len(source.names),
        "figures": found,
        "warnings": worse(found),
        "skipped": [entry._asdict() for entry in (*skipped, *unread)],
    }


def csq_head(
    key: jax.Array,
    features: Float[np.ndarray, "n d"],
    rows: Bool[np.ndarray, "n c"],
    *,
    bits: int,
) -> Head:
    """`fit_csq_head`, whatever the number of photographs: too few for label-free bits get none."""
    label_free_bits = None if len(features) >= FEWEST else 0
    return fit_csq_head(key, features, rows, bits=bits, label_free_bits=label_free_bits)


def extract(
    source: Source, network: Backbone, *, size: int, advance: Advance
) -> tuple[Float[np.ndarray, "n d"], Labels, tuple[Skipped, ...]]:
    """Features and label rows of a source, a few photographs in memory at a time, and what could not be read."""
    parts, labels, skipped = [], [], []
    processes = decoding_processes(len(source.ids))
    for chunk in chunks(source, size=size, count=LARGEST_BATCH, processes=processes):
        if len(chunk.split.images):
            parts.append(encode_images(network, chunk.split.images, batch=LARGEST_BATCH))
            labels.append(chunk.split.labels)
        skipped += chunk.skipped
        advance(chunk.stop, len(source.ids))
    if not parts:
        raise ValueError(f"folder: must hold a readable photograph, got {len(skipped)} that are not: {skipped[0]}")
    return np.concatenate(parts), label_rows(np.concatenate(labels), classes=len(source.names)), tuple(skipped)


def label_rows(labels: np.ndarray, *, classes: int) -> Labels:
    """A row of 0/1 a photograph."""
    return labels if labels.ndim == 2 else np.asarray(one_hot(labels, classes=classes)).astype(bool)


def keep_out(key: jax.Array, rows: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Positions to train on and positions to measure with: of each class a fifth, six where it has twelve, half of it
    where it has fewer, none of a class of three or fewer.
    """
    order = np.asarray(jax.random.permutation(key, len(rows)))
    first = rows[order].argmax(axis=1)
    kept: list[np.ndarray] = []
    for label in np.unique(first):
        members = order[first == label]
        count = min(max(ENOUGH, len(members) // KEPT_OUT), len(members) // 2)
        kept.append(members[: count if count > 1 else 0])
    kept_out = np.sort(np.concatenate(kept))
    return np.setdiff1d(np.arange(len(rows)), kept_out), kept_out


def measure(codes: Bool[np.ndarray, "n k"], rows: Labels) -> dict[str, float | int]:
    """Each photograph asked for among the others: mean average precision, right ones among the first five and at the
    first place, and how many codes there are. A photograph without another of its kind is not asked for.
    """
    words, numbers = pack(codes), rows.astype(np.int32)
    relevant = numbers @ numbers.T > 0
    distances = np.asarray(pairwise(words, words)).astype(np.int32)
    # Itself comes last, and is not relevant.
    np.fill_diagonal(distances, codes.shape[1] + 1)
    np.fill_diagonal(relevant, False)
    asked = relevant.any(axis=1)
    counts = tally(distances[asked], relevant[asked])
    five = min(5, int(relevant[asked].sum(axis=1).min()))
    return {
        "map": round(mean_average_precision(distances[asked], relevant[asked], denominator="relevant").value, 4),
        f"p@{five}": round(float(precision_at(counts, top=five).mean()), 4),
        "top-1": round(float(precision_at(counts, top=1).mean()), 4),
        "distinct codes": len(np.unique(codes, axis=0)),
        "photographs": len(codes),
    }


def worse(found: dict[str, dict[str, float | int]]) -> list[str]:
    """What the trained head has lost against the label-free one, in words."""
    if set(found) != {"trained", "label-free"}:
        return []
    trained, plain = found["trained"], found["label-free"]
    lines = [
        f"training made {name} worse on photographs that it had not seen: {trained[name]:.3f}, label-free {value:.3f}"
        for name, value in plain.items()
        if isinstance(value, float) and trained[name] < value - 0.02
    ]
    if 2 * trained["distinct codes"] < plain["distinct codes"]:
        lines.append(
            f"training left {trained['distinct codes']} distinct codes of {plain['distinct codes']}: photographs of a "
            "kind are no longer told apart"
        )
    return [f"{line}; --label-free leaves training out, more photographs of each kind help" for line in lines]


def tune_features(
    key: jax.Array,
    images: UInt8[np.ndarray, "n h w 3"],
    rows: Labels,
    network: Backbone,
    *,
    part: Literal["last", "all"],
    bits: int,
    epochs: int,
    advance: Advance,
) -> Backbone:
    """Fine-tune a ResNet by central similarity quantization, and leave away the hash head that it was tuned with."""
    bare = resnet_module(network.description)
    frozen = len(bare.stages) if part == "last" else 0
    module = bare.clone(bits=bits, frozen=frozen)
    variables = attach(key, network.variables, module)
    logits = linen_apply(module, select=lambda outputs: outputs.hash_logits)

    def apply(variables: Any, images: Any, key: jax.Array) -> tuple[Any, Any]:
        return logits(variables, preprocess(images, network.preprocessing), key)

    tuned = fine_tune(
        key,
        images,
        np.asarray(semantic(rows, hash_centers(key, rows.shape[1], bits=bits))),
        apply=apply,
        variables=variables,
        epochs=epochs,
        batch=LARGEST_BATCH,
        rate=TUNING_RATE,
        trained=trainable(variables["params"], frozen=frozen),
        augment=resized_crop_and_flip,
        progress=lambda step: advance(step.step, step.steps),
    )
    params = {name: leaves for name, leaves in tuned["params"].items() if not name.startswith("hash")}
    # As the file holds them, so that what is measured is what is written.
    stored = halve({**tuned, "params": params})
    return resnet_backbone(bare, widen(stored), network.preprocessing)


def _photographs(folder: Path, labels: Path | None, *, classes: bool) -> tuple[Source, tuple[Skipped, ...]]:
    """What to learn from, copies left out, and the files that are not taken."""
    if labels is not None:
        return _without_copies(label_file(labels, root=folder), ())
    listing = pictures_below(folder)
    files = [file for file in listing.pictures if "/" in file.id or not classes]
    beside = [file for file in listing.pictures if "/" not in file.id and classes]
    names = sorted({_category(file.id) for file in files})
    if classes and len(names) < 2:
        raise ValueError(f"folder: must hold at least two class folders with photographs, got {names or 'none'}")
    numbers = np.array([names.index(_category(file.id)) for file in files], np.int32)
    source = Source(lambda i: read_encoded(files[i].path), numbers, tuple(file.id for file in files), tuple(names))
    skipped = [Skipped(file.id, "lies beside the class folders, not in one") for file in beside]
    return _without_copies(source, (*skipped, *listing.left_out, *listing.unreadable))


def _category(identity: str) -> str:
    return identity.rpartition("/")[0].partition("/")[0]


def _without_copies(source: Source, skipped: Sequence[Skipped]) -> tuple[Source, tuple[Skipped, ...]]:
    """A copy in training of what is kept out would make the figures better than they are."""
    earlier: dict[bytes, str] = {}
    kept, copies = [], []
    for place, identity in enumerate(source.ids):
        try:
            digest = hashlib.sha256(source.read(place)).digest()
        except (OSError, ValueError):
            # Named with its reason when it is decoded.
            digest = identity.encode(errors="surrogateescape")
        if digest in earlier:
            copies.append(Skipped(identity, f"is a copy of {earlier[digest]}"))
        else:
            earlier[digest] = identity
            kept.append(place)
    return subset(source, kept), (*skipped, *copies)
