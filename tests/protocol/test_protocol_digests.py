"""No two records have one digest: whatever moves between fields, changes its type, its shape or its domain."""

import itertools

import numpy as np
import pytest
from hypothesis import given, strategies as st

from jcbir.protocol._digests import digest
from jcbir.protocol._merkle import leaf_hashes, merkle_root
from jcbir.protocol.messages import Revocation, Use

CUTS = st.lists(st.integers(0, 12), max_size=4).map(sorted)


def parts(whole, cuts):
    return tuple(whole[start:end] for start, end in itertools.pairwise((0, *cuts, len(whole))))


# Letters that stand for types in what is hashed: where content is taken for a mark, it is with these.
@given(st.text("bsd", min_size=12, max_size=12), CUTS, CUTS)
def test_bytes_cut_elsewhere_are_another_record(whole, one, other):
    for content in (whole, whole.encode()):
        assert (digest(parts(content, one)) == digest(parts(content, other))) == (one == other)
    # A domain is cut from what follows it as well.
    assert digest(whole[4:], domain=whole[:4]) != digest(whole[3:], domain=whole[:3])


@given(st.sampled_from([(12,), (3, 4), (4, 3), (2, 6), (1, 12), (12, 1)]), st.binary(min_size=12, max_size=12))
def test_an_array_of_another_shape_or_type_is_another_record(shape, content):
    plain = np.frombuffer(content, np.uint8)
    if shape != plain.shape:
        assert digest(plain.reshape(shape)) != digest(plain)
    assert digest(plain.reshape(shape)) == digest(np.asfortranarray(plain.reshape(shape)))
    assert len({digest(plain.view(kind)) for kind in (np.uint8, np.int8, "<u2", ">u2", "<u4", np.float32)}) == 6


def test_every_type_has_a_digest_of_its_own():
    alike = [
        None,
        False,
        0,
        True,
        1,
        "",
        "1",
        "0",
        b"",
        b"1",
        b"0",
        (),
        (1,),
        (True,),
        ("1",),
        ((),),
        ((), ()),
        (None,),
    ]
    alike += [np.array(1), np.array([1]), np.array([[1]]), np.zeros(0, np.uint8), 1 << 64, 1 << 63, -1]
    alike += [Use(b"", 0, 0), Revocation("", 0, 0, ()), ("", 0, 0, (), b""), (b"", 0, 0)]
    assert len({digest(value) for value in alike}) == len(alike)
    assert len({digest(1, domain=domain) for domain in ("", "a", "b", "ab")}) == 4


@pytest.mark.parametrize("name", ["grant_id", "queries", "images"])
def test_every_field_of_a_record_counts(name):
    use = {"grant_id": b"a", "queries": 3, "images": 3}
    other = {**use, name: b"b" if name == "grant_id" else 4}
    assert digest(Use(**use)) != digest(Use(**other))
    assert digest(Use(b"a", 3, 4)) != digest(Use(b"a", 4, 3))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_leaf_is_never_an_inner_node(left, right):
    """Rows that spell two hashes are not taken for the node above them."""
    (leaf,) = leaf_hashes(np.frombuffer(left + right, np.uint8)[None], leaves=1)
    assert leaf != merkle_root([left, right])
    assert (merkle_root([left, right]) == merkle_root([right, left])) == (left == right)
