"""Named splits: counts and digests are enforced; a rule gives disjoint, balanced lists in any order of the set."""

import numpy as np
import pytest

from experiments.assets.cifar10 import load_sample
from jcbir.data import _splits as splits, format_list
from jcbir.errors import IntegrityError


def test_cifar10_sample_is_the_pinned_split():
    task = load_sample()
    for part in splits.PARTS:
        ids = getattr(task, part).ids
        assert splits.check_ids("cifar10-sample", part, ids) == splits.definition("cifar10-sample").pinned[part]


def test_a_list_with_another_digest_is_refused():
    ids = list(load_sample().query.ids)
    ids[0] = "test/09999" if "test/09999" not in ids else "test/09998"
    with pytest.raises(IntegrityError, match="query list of cifar10-sample: must have SHA-256"):
        splits.check_ids("cifar10-sample", "query", ids)


def test_counts_repetitions_and_names():
    ids = list(load_sample().query.ids)
    with pytest.raises(ValueError, match="must hold 200 ids, got 199"):
        splits.check_ids("cifar10-sample", "query", ids[1:])
    with pytest.raises(ValueError, match="each id once"):
        splits.check_ids("cifar10-sample", "query", [ids[1], *ids[1:]])
    with pytest.raises(ValueError, match="name: must be one of"):
        splits.check_ids("cifar10", "query", ids)
    with pytest.raises(ValueError, match="part: must be one of"):
        splits.check_ids("cifar10-sample", "test", ids)


def test_every_definition_is_complete():
    single = {"cifar10-sample", "cifar10-1", "cifar10-2", "imagenet100", "imagenette"}
    assert set(splits.split_names()) == single | {"coco80", "corel5k", "nuswide21", "nuswide21-m"}
    for name in splits.split_names():
        about = splits.definition(name)
        assert set(about.counts) == set(splits.PARTS)
        assert set(about.pinned) in (set(), set(splits.PARTS))
        assert all(len(digest) == 64 for digest in about.pinned.values())
    assert {name for name in splits.split_names() if splits.definition(name).pinned} == set(splits._RULES)


def cifar(order: np.ndarray) -> tuple[list[str], np.ndarray]:
    ids = np.array([f"train/{i:05d}" for i in range(50000)] + [f"test/{i:05d}" for i in range(10000)])
    return ids[order].tolist(), (np.arange(60000) % 10).astype(np.int32)[order]


def test_the_rule_of_cifar10_1():
    listed = []
    for order in (np.arange(60000), np.random.default_rng(0).permutation(60000)):
        ids, labels = cifar(order)
        parts = splits._RULES["cifar10-1"](ids, labels)
        assert {part: len(members) for part, members in parts.items()} == {
            "train": 5000,
            "database": 59000,
            "query": 1000,
        }
        assert np.bincount(labels[parts["query"]]).tolist() == [100] * 10
        assert np.bincount(labels[parts["train"]]).tolist() == [500] * 10
        assert not set(parts["query"]) & set(parts["database"])
        assert set(parts["train"]) <= set(parts["database"])
        listed.append({part: splits.id_digest([ids[i] for i in members]) for part, members in parts.items()})
    assert listed[0] == listed[1]


def test_labels_of_another_set_are_refused():
    ids, labels = cifar(np.arange(60000))
    with pytest.raises(IntegrityError, match="cifar10-1"):
        splits.choose("cifar10-1", ids, labels)


def test_cifar10_2_needs_no_labels():
    order = np.random.default_rng(1).permutation(60000)
    ids, labels = cifar(order)
    parts = splits.choose("cifar10-2", ids, labels)
    assert [ids[i] for i in parts["query"]][:2] == ["test/00000", "test/00001"]
    assert len(parts["database"]) == 50000


def test_published_lists(tmp_path):
    rows = np.eye(80, dtype=bool)[np.arange(5000) % 80]
    (tmp_path / "test.txt").write_text(format_list([f"{i}.jpg" for i in range(5000)], rows))
    source, digest = splits.load_list("coco80", "query", tmp_path / "test.txt", root=tmp_path)
    assert len(source.ids) == 5000
    again = splits.load_list("coco80", "query", tmp_path / "test.txt", root=tmp_path, digest=digest)
    assert again[1] == digest
    with pytest.raises(IntegrityError, match="must have SHA-256 00"):
        splits.load_list("coco80", "query", tmp_path / "test.txt", root=tmp_path, digest="0" * 64)
    with pytest.raises(ValueError, match="10000 or 9992 ids, got 5000"):
        splits.load_list("coco80", "train", tmp_path / "test.txt", root=tmp_path)
    with pytest.raises(ValueError, match="21 labels a line, got 80"):
        splits.load_list("nuswide21", "query", tmp_path / "test.txt", root=tmp_path)


def test_imagenette_asks_with_validation_images():
    ids = ["train/n1_1.JPEG", "train/ILSVRC2012_val_1.JPEG", "val/n1_2.JPEG", "val/ILSVRC2012_val_2.JPEG"]
    parts = splits._RULES["imagenette"](ids, np.zeros(4, np.int32))
    assert parts == {"train": [0], "database": [0, 2], "query": [1, 3]}
