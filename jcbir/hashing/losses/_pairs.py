"""Pairs of images: who is similar, what a batch is compared with, and the mean over the pairs of an image."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Bool, Float, Integer

from jcbir.typing import Array, check_array, check_whole

Labels = Integer[Array, " b"] | Bool[Array, "b c"]
"""One class number an image, or one multi-hot row an image."""


class MemoryBank(NamedTuple):
    """What the network last said of every training image; belongs to the training state.

    Attributes:
        outputs: `Float[n k]`, outputs u of the hash head, 0 for an image not yet seen.
        labels: `Bool[n c]`, its labels, none for an image not yet seen.
    """

    outputs: Float[Array, "n k"]
    labels: Bool[Array, "n c"]


def empty_bank(images: int, *, bits: int, classes: int) -> MemoryBank:
    """A bank that has seen nothing.

    Args:
        images: number of training images n.
        bits: code length k.
        classes: number of classes c.

    Returns:
        Zeros and no labels, as public code starts.

    Raises:
        ValueError: a number that is no whole one of at least 1.

    Example:
        >>> empty_bank(3, bits=8, classes=2).outputs.shape
        (3, 8)
    """
    images, bits = check_whole("images", images, low=1), check_whole("bits", bits, low=1)
    classes = check_whole("classes", classes, low=1)
    return MemoryBank(jnp.zeros((images, bits), jnp.float32), jnp.zeros((images, classes), bool))


def remember(bank: MemoryBank, rows: Integer[Array, " b"], logits: Float[Array, "b k"], labels: Labels) -> MemoryBank:
    """The bank after a batch: `outputs[rows] = logits`, without a gradient, and `labels[rows] = labels`.

    Args:
        bank: what was remembered before.
        rows: the number of each image of the batch among the training images.
        logits: outputs u of the hash head.
        labels: class numbers or multi-hot rows.

    Returns:
        The bank that the loss of this batch compares with.

    Raises:
        ValueError: labels that are neither class numbers nor boolean rows, or of another number of classes; outside
            a compiled program, rows that the bank does not have.

    Example:
        >>> import numpy as np
        >>> bank = empty_bank(3, bits=2, classes=2)
        >>> remember(bank, np.array([2]), jnp.ones((1, 2)), np.array([1])).outputs.tolist()
        [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]
    """
    check_rows(rows, images=len(bank.outputs))
    check_batch(logits, labels)
    if len(rows) != len(logits) or logits.shape[1] != bank.outputs.shape[1]:
        raise ValueError(f"logits: must be {len(rows)} rows of {bank.outputs.shape[1]} bits, got {list(logits.shape)}")
    known = label_rows(labels, classes=bank.labels.shape[1]) > 0
    outputs, kept = jnp.asarray(bank.outputs), jnp.asarray(bank.labels)
    outputs = outputs.at[rows].set(jax.lax.stop_gradient(logits).astype(outputs.dtype))
    return MemoryBank(outputs, kept.at[rows].set(known))


def similar_pairs(labels: Labels) -> Bool[jax.Array, "b b"]:
    """Whether two images share a label: s_ij = [y_i . y_j > 0]; a row without labels is similar to nothing.

    Args:
        labels: class numbers, or multi-hot rows.

    Returns:
        A symmetric matrix; its diagonal says whether the image has a label.

    Raises:
        ValueError: labels that are neither class numbers nor boolean rows.

    Example:
        >>> import numpy as np
        >>> similar_pairs(np.array([1, 0, 1])).astype(int).tolist()
        [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
        >>> similar_pairs(np.array([[1, 1], [0, 1], [0, 0]], bool)).astype(int).tolist()
        [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    """
    check_labels(labels)
    labels = jnp.asarray(labels)
    if labels.ndim == 1:
        return labels[:, None] == labels[None, :]
    rows = labels.astype(jnp.float32)
    return rows @ rows.T > 0


class Pairs(NamedTuple):
    """What each image of a batch is compared with: m outputs, who is similar, which pairs count, and `check_batch`."""

    others: Float[jax.Array, "m k"]
    similar: Bool[jax.Array, "b m"]
    counted: Bool[jax.Array, "b m"]
    flaw: Float[jax.Array, "..."]


def pairs_of(logits: Float[Array, "b k"], labels: Labels, *, bank: MemoryBank | None, self_pairs: bool) -> Pairs:
    """The pairs of a batch with itself, or with all that a bank remembers."""
    flaw = check_batch(logits, labels, classes=None if bank is None else bank.labels.shape[1])
    logits = jnp.asarray(logits)
    if bank is not None:
        rows = label_rows(labels, classes=bank.labels.shape[1])
        similar = rows @ jnp.asarray(bank.labels).astype(jnp.float32).T > 0
        # Constants, also where the bank was made of this batch: the gradient is that of one side of a pair.
        others = jax.lax.stop_gradient(jnp.asarray(bank.outputs)).astype(logits.dtype)
        return Pairs(others, similar, jnp.ones_like(similar), flaw)
    similar = similar_pairs(labels)
    counted = jnp.ones_like(similar) if self_pairs else ~jnp.eye(len(logits), dtype=bool)
    return Pairs(logits, similar, counted, flaw)


def mean_over(values: Float[Array, "b m"], pairs: Pairs) -> Float[jax.Array, " b"]:
    """Mean over the counted pairs of each image; 0 where there is none, NaN where its class number is none."""
    count = pairs.counted.sum(axis=-1).astype(values.dtype)
    return jnp.where(pairs.counted, values, 0.0).sum(axis=-1) / jnp.maximum(count, 1) + pairs.flaw


def balance_weights(pairs: Pairs, *, dtype: jnp.dtype) -> Float[jax.Array, "b m"]:
    """Weights that give similar and dissimilar pairs of a batch the same say."""
    near = (pairs.similar & pairs.counted).sum().astype(dtype)
    far = (~pairs.similar & pairs.counted).sum().astype(dtype)
    whole = near + far
    return jnp.where(pairs.similar, whole / jnp.maximum(near, 1), whole / jnp.maximum(far, 1))


def pair_likelihood(products: Float[Array, "b m"], similar: Bool[Array, "b m"]) -> Float[jax.Array, "b m"]:
    """Negative log-likelihood of the similarity labels when P(similar) = sigmoid(product)."""
    return jax.nn.softplus(jnp.where(jnp.asarray(similar), -products, products))


def label_rows(labels: Labels, *, classes: int) -> Float[jax.Array, "b c"]:
    """Labels as rows of 0 and 1."""
    check_labels(labels, classes=classes)
    labels = jnp.asarray(labels)
    return jax.nn.one_hot(labels, classes, dtype=jnp.float32) if labels.ndim == 1 else labels.astype(jnp.float32)


def check_batch(logits: Float[Array, "b k"], labels: Labels, *, classes: int | None = None) -> Float[jax.Array, "..."]:
    """Refuse logits that are no rows of floats, and labels that are not one an image: a single one would go for all.

    Inside a compiled step nobody can look at a class number: there an image whose number is none gets NaN, by which a
    run stops. Returned is what to add to the losses, 0 or NaN.
    """
    check_logits(logits)
    check_labels(labels, classes=classes)
    if len(labels) != len(logits):
        raise ValueError(f"labels: must be of {len(logits)} images as logits are, got {len(labels)}")
    if labels.ndim == 2:
        return jnp.zeros((), logits.dtype)
    numbers = jnp.asarray(labels).astype(jnp.int32)
    known = (numbers >= 0) if classes is None else (numbers >= 0) & (numbers < classes)
    return jnp.where(known, 0.0, jnp.nan).astype(logits.dtype)


def check_logits(logits: Float[Array, "b k"], *, name: str = "logits") -> None:
    """Refuse what is no rows of floats, and rows of none."""
    check_array(name, logits, kind="floats", form="[b, k]", rank=2)
    if 0 in logits.shape:
        raise ValueError(f"{name}: must have at least one row and one bit, got shape {list(logits.shape)}")


def check_rows(rows: Integer[Array, " b"], *, images: int) -> None:
    """Refuse what is no positions among so many images, where they can be looked at."""
    check_array("rows", rows, kind="integers", form="[b]", rank=1)
    if not isinstance(rows, Tracer) and len(rows):
        least, most = int(np.asarray(rows).min()), int(np.asarray(rows).max())
        if least < 0 or most >= images:
            raise ValueError(f"rows: must be positions from 0 to {images - 1}, got {least} to {most}")


def check_labels(labels: Labels, *, classes: int | None = None) -> None:
    """Refuse what is neither class numbers nor boolean rows: floats, a column that could be either, a number below 0,
    and what is of more classes.
    """
    if getattr(labels, "ndim", 0) == 2:
        check_array("labels", labels, kind="booleans", form="[b, c], or class numbers [b]", rank=2)
        if classes is not None and labels.shape[-1] != classes:
            raise ValueError(f"labels: must have {classes} columns, got {labels.shape[-1]}")
        return
    check_array("labels", labels, kind="integers", form="[b], or boolean rows [b, c]", rank=1)
    if isinstance(labels, Tracer) or not len(labels):
        return
    known = np.asarray(labels)
    least, most = int(known.min()), int(known.max())
    if least < 0 or (classes is not None and most >= classes):
        above = "up" if classes is None else f"to {classes - 1}"
        raise ValueError(f"labels: must be class numbers from 0 {above}, got {least if least < 0 else most}")
