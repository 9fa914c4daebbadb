"""Lazy sources: order from the key alone, resumable, the same for any number of processes, broken files named."""

import io

import jax
import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from jcbir.data import Source, chunks, class_tree, concatenate, load, shuffled, subset


def encoded(number: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def made(count: int, *, broken=(), missing=()) -> Source:
    files = [b"broken" if i in broken else encoded(i) for i in range(count)]

    def read(position):
        if position in missing:
            raise FileNotFoundError(f"no file {position}")
        return files[position]

    labels = np.arange(count, dtype=np.int32)
    return Source(read, labels, tuple(f"id{i}" for i in range(count)), tuple(str(i) for i in range(count)))


@given(
    count=st.integers(1, 12),
    piece=st.integers(1, 14),
    broken=st.sets(st.integers(0, 11)),
    stop_after=st.integers(0, 12),
)
def test_chunks_are_the_whole_in_order_and_resume(count, piece, broken, stop_after):
    source = made(count, broken=broken)
    whole = list(chunks(source, size=8, count=piece))
    assert whole[-1].stop == count
    good = [i for i in range(count) if i not in broken]
    assert [int(label) for chunk in whole for label in chunk.split.labels] == good
    for chunk in whole:
        for image, label in zip(chunk.split.images, chunk.split.labels, strict=True):
            assert np.array_equal(image, np.random.default_rng(int(label)).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    assert {entry.path for chunk in whole for entry in chunk.skipped} == {f"id{i}" for i in broken if i < count}
    first = whole[: min(stop_after, len(whole))]
    rest = list(chunks(source, size=8, count=piece, start=first[-1].stop if first else 0))
    assert [chunk.split.ids for chunk in first + rest] == [chunk.split.ids for chunk in whole]


def test_processes_change_nothing():
    source = shuffled(jax.random.key(3), made(9, broken={2}, missing={5}))
    here, there = (list(chunks(source, size=4, count=2, processes=processes)) for processes in (0, 2))
    assert [chunk.stop for chunk in here] == [chunk.stop for chunk in there]
    for a, b in zip(here, there, strict=True):
        assert a.split.ids == b.split.ids
        assert a.skipped == b.skipped
        assert np.array_equal(a.split.images, b.split.images)


def test_order_depends_on_the_key_alone():
    source = made(12)
    first, again, other = (shuffled(jax.random.key(number), source).ids for number in (0, 0, 1))
    assert first == again != other
    assert sorted(first) == sorted(source.ids)


def test_a_missing_file_is_skipped_by_name():
    split, skipped = load(made(4, missing={1}), size=4)
    assert split.ids == ("id0", "id2", "id3")
    assert skipped == (("id1", "no file 1"),)


def test_all_broken():
    with pytest.raises(ValueError, match="got 3 that are not"):
        load(made(3, broken={0, 1, 2}), size=4)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_joined_sources_are_read_one_after_the_other(counts):
    parts = [
        Source(
            lambda i, part=part: bytes([part, i]),
            np.full(n, part, np.int32),
            tuple(f"{part}-{i}" for i in range(n)),
            (),
        )
        for part, n in enumerate(counts)
    ]
    joined = concatenate(parts)
    wanted = [(part, i) for part, count in enumerate(counts) for i in range(count)]
    assert [tuple(joined.read(place)) for place in range(len(wanted))] == wanted
    assert joined.ids == tuple(f"{part}-{i}" for part, i in wanted)
    assert joined.labels.tolist() == [part for part, _ in wanted]


def test_subset_keeps_rows_together():
    part = subset(made(6), [4, 1])
    assert part.ids == ("id4", "id1")
    assert part.labels.tolist() == [4, 1]
    assert part.read(0) == encoded(4)
    with pytest.raises(ValueError, match="from 0 to 5, got 6"):
        subset(made(6), [6])


@pytest.mark.parametrize("options", [{"size": 0}, {"count": 0}, {"start": 4}, {"start": -1}, {"processes": -1}])
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match="size, count, processes, start: must be"):
        chunks(made(3), **{"size": 4, "count": 2, **options})


def test_empty_source():
    with pytest.raises(ValueError, match="at least one file"):
        chunks(Source(lambda i: b"", np.zeros(0, np.int32), (), ()), size=4, count=1)


def test_class_tree(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(encoded(ord(name)))
    source = class_tree(tmp_path)
    assert source.ids == ("a/1.png", "b/1.png")
    assert source.names == ("a", "b")
    split, _ = load(source, size=8)
    assert split.labels.tolist() == [0, 1]
    with pytest.raises(ValueError, match="root: must be a folder"):
        class_tree(tmp_path / "none")
    with pytest.raises(ValueError, match="without any"):
        class_tree(tmp_path / "a")
