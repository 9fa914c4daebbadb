"""Sets of the tensorflow-datasets catalog as lazy sources, without TensorFlow.

Needs the package `tensorflow-datasets` and a prepared set in a format with random access (`array_record` or `parquet`).
Encoded images pass through: `jcbir.data._decode` reads them, like those of every other source.
"""

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from jcbir.data._sources import Source


def tfds_source(
    name: str,
    *,
    split: str = "train",
    folder: str | os.PathLike[str] | None = None,
    image: str = "image",
    label: str = "label",
    identity: str | None = None,
    prepare: bool = False,
    rename: Callable[[str], str] = str,
) -> Source:
    """A set by its catalog name: `cifar10`, `imagenette`, `caltech101`, `imagenet2012`, `coco/2014` and so on.

    Labels are read when the source is opened, in a pass over the set; images are decoded when needed. A class feature
    gives class indices, a sequence of classes rows of 0/1;
    for detection sets name the path of the classes inside the objects, `label="objects/label"`.

    Args:
        name: catalog name, `set/config:version`.
        split: of the set, slices included: `train[10%:30%]`.
        folder: tensorflow-datasets' folder of prepared sets; None for its default.
        image: feature of the picture.
        label: feature of the class, with `/` between the levels.
        identity: feature of the id; None takes the first that there is of `id`, `image/id`, `image/filename`,
            `file_name` and `filename`, and otherwise `split/00042`.
        prepare: download and prepare the set if it is not there; the only case in which the network is used.
        rename: applied to each id: CIFAR-10's `train_00042` is `train/00042` in the named splits.

    Returns:
        The source, in the order of the prepared files.

    Raises:
        ValueError: tensorflow-datasets is missing, the set is not prepared, or it has no such feature.

    Example:
        >>> source = tfds_source("cifar10", folder="no/such/folder")  # doctest: +SKIP
    """
    tfds = _tensorflow_datasets()
    builder = tfds.builder(name, data_dir=folder)
    if prepare:
        builder.download_and_prepare(file_format="array_record")
    return builder_source(builder, split=split, image=image, label=label, identity=identity, rename=rename)


def builder_source(
    builder: Any,
    *,
    split: str = "train",
    image: str = "image",
    label: str = "label",
    identity: str | None = None,
    rename: Callable[[str], str] = str,
) -> Source:
    """A prepared `tfds.core.DatasetBuilder` as a lazy source.

    Args:
        builder: the builder; its set must be prepared.
        split: as `tfds_source`.
        image: as `tfds_source`.
        label: as `tfds_source`.
        identity: as `tfds_source`.
        rename: as `tfds_source`.

    Returns:
        The source, in the order of the prepared files.

    Raises:
        ValueError: the set is not prepared, or has no such feature.

    Example:
        >>> from jcbir.data.nus_wide.nus_wide_dataset_builder import Builder  # doctest: +SKIP
        >>> builder_source(Builder(data_dir="prepared")).names[:2]  # doctest: +SKIP
        ('animal', 'beach')
    """
    tfds = _tensorflow_datasets()
    features = builder.info.features
    leaf, several = _class_feature(tfds, features, label)
    if image not in features:
        raise ValueError(f"image: must be a feature of {builder.name}, got {image!r}, there are {sorted(features)}")
    known = ("id", "image/id", "image/filename", "file_name", "filename")
    identity = identity or next((feature for feature in known if feature in features), None)
    try:
        pictures = builder.as_data_source(split, decoders={image: tfds.decode.SkipDecoding()})
    except (AssertionError, NotImplementedError, FileNotFoundError) as error:
        raise ValueError(
            f"{builder.name}: must be prepared as array_record or parquet (`prepare=True`), got {error}"
        ) from error
    stated = builder.info.splits[split].num_examples
    if len(pictures) != stated:
        # tensorflow-datasets 4.9.10 ignores slices of parquet without a word.
        raise ValueError(f"split {split!r}: must have {stated} examples, got {len(pictures)}: slices need array_record")
    classes, found = [], []
    for i in range(len(pictures)):
        example = pictures[i]
        classes.append(_at(example, label))
        found.append(f"{split}/{i:05d}" if identity is None else _text(example[identity]))
    names = tuple(leaf.names)
    if several:
        labels = np.zeros((len(classes), len(names)), bool)
        for row, present in zip(labels, classes, strict=True):
            row[np.asarray(present, int)] = True
    else:
        labels = np.asarray(classes, np.int32)
    return Source(lambda i: pictures[i][image], labels, tuple(rename(name) for name in found), names)


def _tensorflow_datasets() -> ModuleType:
    try:
        import tensorflow_datasets
    except ModuleNotFoundError as error:
        raise ValueError(
            "name: must be a set that this machine can read, got one that needs the package tensorflow-datasets"
        ) from error
    return tensorflow_datasets


def _class_feature(tfds: ModuleType, features: Any, path: str) -> tuple[Any, bool]:
    """The ClassLabel at a path, and whether an image has a sequence of them."""
    feature, several = features, False
    for step in path.split("/"):
        feature = getattr(feature, "feature", feature)
        if step not in feature:
            raise ValueError(f"label: must be the path of a class, got {path!r}, there are {sorted(features)}")
        feature = feature[step]
        several = several or isinstance(feature, tfds.features.Sequence)
    feature = getattr(feature, "feature", feature)
    if not isinstance(feature, tfds.features.ClassLabel):
        raise ValueError(f"label: must be the path of a class, got {path!r}, which is {type(feature).__name__}")
    return feature, several


def _at(example: Any, path: str) -> Any:
    for step in path.split("/"):
        example = example[step]
    return example


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
