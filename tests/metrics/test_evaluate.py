"""One call from codes and labels: every protocol against its script's loop, every form of codes and labels alike."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from jcbir import codes, metrics

BITS, CLASSES = 12, 4


def problem(seed: int, *, queries: int = 7, items: int = 60):
    """Float32 signs and multi-hot float32 rows, as the scripts hold them; some rows without a label, many ties."""
    g = np.random.default_rng(seed)
    signs = np.where(g.random((queries + items, BITS)) < 0.5, 1, -1).astype(np.float32)
    rows = (g.random((queries + items, CLASSES)) < 0.12).astype(np.float32)
    rows[queries] = 1  # Something is relevant to every query with a label.
    return signs[:queries], signs[queries:], rows[:queries], rows[queries:]


# The loops below restate what the scripts compute, query by query, in the types that PyTorch hands them.


def deephash_pytorch(query, database, query_rows, database_rows, top):
    total = 0.0
    for code, label in zip(query, query_rows, strict=True):
        distance = 0.5 * (database.shape[1] - code @ database.T)
        gained = ((label @ database_rows.T) > 0).astype(np.float32)[np.argsort(distance)][0:top]
        hits = int(gained.sum())
        if hits:
            total += np.mean(np.arange(1, hits + 1) / (np.flatnonzero(gained == 1) + 1.0))
    return total / len(query)


def by_inner_product(query, database, query_rows, database_rows, top, *, skip, missed):
    """The scripts of CSQ and HashNet: one sort of minus the inner products; -1 stands for a label that is absent."""
    order = np.argsort(-(database @ query.T), axis=0)
    values = []
    for i, row in enumerate(query_rows):
        label = np.where(row == 0, -1, row)
        relevant = (database_rows == label).sum(1) > 0
        if skip(row, relevant):
            continue
        match = relevant[order[:top, i]]
        hits = match.sum()
        if hits or not missed:
            values.append((match.cumsum() / np.arange(1, top + 1) * match).sum() / max(hits, 1))
    return np.mean(values) if values else np.nan


def deephash(query, database, query_rows, database_rows, top):
    distance = -np.inner(query, database)
    chosen = np.argpartition(distance, top - 1)[:, :top]
    values = []
    for i, row in enumerate(query_rows):
        index = chosen[i][np.argsort(distance[i, chosen[i]])]
        match = (database_rows[index] == np.where(row == 0, -1, row)).sum(1) > 0
        if match.any():
            values.append((match.cumsum() / np.arange(1, top + 1) * match).sum() / match.sum())
    return np.mean(values) if values else np.nan


LOOPS = {
    "deephash-pytorch": deephash_pytorch,
    "csq": lambda *a: by_inner_product(*a, skip=lambda row, _: row.sum() == 0, missed=False),
    "hashnet": lambda *a: by_inner_product(*a, skip=lambda *_: False, missed=True),
    "hashnet-caffe": lambda *a: by_inner_product(*a, skip=lambda _, relevant: not relevant.any(), missed=False),
    "deephash": deephash,
}


def test_every_protocol_has_a_loop():
    assert {*LOOPS} == {*metrics.PROTOCOLS} - {"jcbir"}


@pytest.mark.parametrize("protocol", LOOPS)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_protocols_reproduce_their_scripts(protocol, seed, top):
    made = problem(seed)
    expected = LOOPS[protocol](*made, top)
    if np.isnan(expected):
        with pytest.raises(ValueError, match="protocol: must leave a query"):
            metrics.evaluate(*made, top=top, protocol=protocol)
    else:
        found = metrics.evaluate(*made, top=top, protocol=protocol)
        np.testing.assert_allclose(found.value, expected, rtol=1e-12)
        assert found.convention == f"mAP@{top}[{protocol}]"


@pytest.mark.parametrize("protocol", LOOPS)
def test_long_lists_are_left_in_the_order_of_the_same_sort(protocol):
    """NumPy sorts short and long lists by different algorithms; 5,000 items at 13 distances are nearly all ties."""
    made = problem(0, queries=3, items=5_000)
    found = metrics.evaluate(*made, top=300, protocol=protocol)
    np.testing.assert_allclose(found.value, LOOPS[protocol](*made, 300), rtol=1e-12)
    assert found.value != metrics.evaluate(*made, top=300).value


@given(st.integers(0, 2**32 - 1))
def test_no_cut_off_of_deephash_pytorch_leaves_out_the_last(seed):
    """Its CIFAR-10 settings say topk = -1, and its slice [0:topk] takes that as all but one."""
    made = problem(seed)
    found = metrics.evaluate(*made, protocol="deephash-pytorch")
    np.testing.assert_allclose(found.value, deephash_pytorch(*made, -1), rtol=1e-12)
    assert found.convention == "mAP@0:-1[deephash-pytorch]"


@given(st.integers(0, 2**32 - 1), st.one_of(st.none(), st.integers(1, 60)))
def test_our_own_protocol_is_the_mean_of_this_package(seed, top):
    query, database, query_rows, database_rows = problem(seed)
    distances = (BITS - query @ database.T).astype(int) // 2
    expected = metrics.mean_average_precision(distances, query_rows @ database_rows.T > 0, top=top)
    assert metrics.evaluate(query, database, query_rows, database_rows, top=top) == expected


@pytest.mark.parametrize("block", [60, 3 * 60, 10**6])
def test_blocks_change_nothing_and_are_reported(monkeypatch, block):
    made, seen = problem(3), []
    whole = metrics.evaluate(*made, top=20), metrics.tally_codes(*made)
    monkeypatch.setattr("jcbir.metrics._evaluate._PAIRS", block)
    assert metrics.evaluate(*made, top=20, progress=lambda *at: seen.append(at)) == whole[0]
    np.testing.assert_array_equal(metrics.tally_codes(*made).items, whole[1].items)
    assert seen[-1] == (7, 7)
    assert len(seen) == -(-7 // min(7, block // 60))


class Foreign:
    """An array of another library: DLPack alone."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


FORMS = {
    "signs": lambda s: s,
    "whole signs": lambda s: s.astype(np.int8),
    "booleans": lambda s: s > 0,
    "bits": lambda s: (s > 0).astype(np.uint8),
    "JAX": lambda s: jnp.asarray(s),
    "DLPack": Foreign,
}
PACKED = {
    "words": lambda s: codes.pack(s > 0),
    "bytes": lambda s: np.packbits(s > 0, axis=-1),
}


@pytest.mark.parametrize("form", FORMS | PACKED)
def test_every_form_of_codes_means_the_same(form):
    query, database, *rows = problem(1)
    made = (FORMS | PACKED)[form]
    bits = BITS if form in PACKED else None
    found = metrics.evaluate(made(query), made(database), *rows, top=30, protocol="csq", bits=bits)
    assert found == metrics.evaluate(query, database, *rows, top=30, protocol="csq")


def test_class_numbers_and_one_hot_rows_mean_the_same():
    query, database, *_ = problem(2)
    g = np.random.default_rng(2)
    asked, stored = g.integers(0, 4, 7), g.integers(0, 4, 60)
    eye = np.eye(4)
    rows = metrics.evaluate(query, database, eye[asked].astype(bool), eye[stored].astype(np.int64))
    for kind in (np.int32, np.float32, np.uint8):
        assert metrics.evaluate(query, database, asked.astype(kind), stored.astype(kind)) == rows
    assert metrics.evaluate(query, database, asked, stored, protocol="csq").queries == 7


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, np.zeros((7, BITS)) - 0.5, "query_codes: must be codes .*, got -0.5"),
        (0, np.sign(np.arange(7 * BITS).reshape(7, BITS) - 3), "query_codes: must be codes .*, got 0"),
        (0, np.full((7, BITS), 255, np.uint8), "query_codes: must be codes .*, got 255"),
        (0, np.ones((7, 1), np.uint32), "query_codes: must come with bits="),
        (0, [[1, -1]], "query_codes: must be an array that NumPy can read, got list"),
        (1, np.ones((60, BITS + 1)), "database_codes: must have the 12 bits of query_codes, got 13"),
        (2, np.ones((7, 1)), "query_labels: must be class numbers"),
        (2, np.full((7, CLASSES), 2), "query_labels: must be class numbers .*, got 2"),
        (2, np.arange(7) - 1, "query_labels: must be class numbers .*, got -1"),
        (2, np.arange(7) + 0.5, "query_labels: must be class numbers .*, got 0.5"),
        (2, np.full(7, np.nan), "query_labels: must be class numbers .*, got nan"),
        (2, np.full(7, np.inf), "query_labels: must be class numbers .*, got inf"),
        (2, np.full(7, 1e20), "query_labels: must be class numbers .*, got 1e+"),
        (2, np.ones((6, CLASSES)), "query_labels: must be one row a code, that is 7, got 6"),
        (3, np.arange(60), "database_labels: must be rows of 4 like query_labels"),
    ],
)
def test_what_is_no_code_or_label_is_named(unchecked, place, value, message):
    made = list(problem(4))
    made[place] = value
    with pytest.raises(ValueError, match=message):
        metrics.evaluate(*made)


@pytest.mark.parametrize("top", [0, 61, 10.0, True, "10"])
def test_a_cut_off_outside_the_database_is_named(unchecked, top):
    with pytest.raises(ValueError, match="top: must be a whole number from 1 to 60"):
        metrics.evaluate(*problem(5), top=top)


def test_an_unknown_protocol_and_a_mean_over_nothing_are_named():
    query, database, rows, stored = problem(6)
    with pytest.raises(ValueError, match=r"protocol: must be one of jcbir, .*, got 'CSQ'"):
        metrics.evaluate(query, database, rows, stored, protocol="CSQ")
    with pytest.raises(ValueError, match="protocol: must leave a query to average over, got 'hashnet'"):
        metrics.evaluate(query, database, np.zeros_like(rows), stored, protocol="hashnet")


@pytest.mark.parametrize("times", [1, 31, 40])
def test_bits_that_come_many_times_change_nothing(times):
    """Distances in proportion: 8 bits up to 8, 248 up to 248, 320 beyond what a byte counts."""
    numbers = np.random.default_rng(times)
    query, database = numbers.random((6, 8)) > 0.5, numbers.random((50, 8)) > 0.5
    # Opposites, as far apart as codes can be.
    query[0], database[0] = True, False
    rows = numbers.integers(0, 3, 6), numbers.integers(0, 3, 50)
    wide = np.repeat(query, times, axis=1), np.repeat(database, times, axis=1)
    assert metrics.evaluate(*wide, *rows) == metrics.evaluate(query, database, *rows)
