"""Encrypted order equals plaintext order: every scheme, arbitrary codes, sizes and lengths."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from ranking_keys import fresh_blinders, hamming, make_key, owner_encrypt

from jcbir.errors import KeyMismatchError
from jcbir.paillier import from_ints, secret as paillier
from jcbir.ranking import (
    Scores,
    build_index,
    cost,
    open_differences,
    open_scores,
    plan,
    prepare,
    rank,
    score,
    trapdoor,
    trapdoors,
)
from jcbir.ranking._bitsliced import _table_picks

EXACT = ("packed", "bitsliced")


def run(key, codes, query, *, scheme, base=None, group=None, **options):
    """Owner, user, server and key holder in one breath."""
    public = key.public
    layout = plan(public, scheme=scheme, count=len(codes), bits=codes.shape[1], base=base)
    index = build_index(codes, layout, encrypt=owner_encrypt(key), public=public)
    question = trapdoor(query, layout, encrypt=owner_encrypt(key), public=public)
    index = index if group is None else prepare(public, index, group=group)
    return score(public, index, question, blinders=fresh_blinders(key, layout.blocks), **options)


LENGTHS = st.sampled_from([8, 9, 16, 31, 32, 64])


@st.composite
def collections(draw, sizes=LENGTHS):
    bits, count = draw(sizes), draw(st.integers(1, 30))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.0, 0.2, 0.5, 1.0]))
    codes = generator.random((count, bits)) < density
    query = generator.random(bits) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    # Equal codes make ties, which must come out in index order.
    codes[count // 2 :: 3] = codes[0]
    return codes, query


@given(
    collections(),
    st.sampled_from([("packed", 3), ("packed", 4), ("bitsliced", None), ("bitsliced", 256), ("bitsliced", 257)]),
    st.sampled_from([256, 1024]),
)
def test_exact_schemes_give_the_hamming_order(collection, scheme, size):
    codes, query = collection
    expected = hamming(codes, query)
    scores = run(make_key(size), codes, query, scheme=scheme[0], base=scheme[1])
    distances = open_scores(make_key(size), scores)
    assert distances.dtype == np.int32
    assert distances.tolist() == expected.tolist()
    assert rank(distances, top=7).tolist() == np.argsort(expected, kind="stable")[:7].tolist()


@given(collections(), st.sampled_from([1, 2, 4]))
def test_product_tables_score_the_same_numbers(collection, group):
    codes, query = collection
    distances = open_scores(make_key(256), run(make_key(256), codes, query, scheme="bitsliced", group=group))
    assert distances.tolist() == hamming(codes, query).tolist()


@pytest.mark.parametrize("bits", [8, 127, 128, 255, 256, 511, 512])
@pytest.mark.parametrize("scheme", EXACT)
def test_every_length(bits, scheme):
    key = make_key(1024)
    generator = np.random.default_rng(bits)
    codes, query = generator.random((5, bits)) < 0.5, generator.random(bits) < 0.5
    # The extremes fill a lane to its top, and to nothing.
    codes[0], codes[1] = query, ~query
    distances = open_scores(key, run(key, codes, query, scheme=scheme))
    assert distances.tolist() == hamming(codes, query).tolist()
    assert distances[:2].tolist() == [0, bits]


@pytest.mark.parametrize("scheme", ["integer", "packed", "bitsliced"])
def test_a_batch_of_trapdoors_is_each_of_them(scheme):
    key, codes = make_key(256), np.random.default_rng(3).random((5, 16)) < 0.5
    layout = plan(key.public, scheme=scheme, count=1, bits=16)
    doors = trapdoors(codes, layout, encrypt=owner_encrypt(key), public=key.public)
    alone = [trapdoor(code, layout, encrypt=owner_encrypt(key), public=key.public) for code in codes]
    assert len(doors) == 5
    for door, single in zip(doors, alone, strict=True):
        assert door._replace(body=None) == single._replace(body=None)
        assert door.body.shape == single.body.shape
        opened = [body if scheme == "bitsliced" else paillier.decrypt(key, body) for body in (door.body, single.body)]
        assert np.array_equal(*opened)


@pytest.mark.parametrize("scheme", EXACT)
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_full_lanes_at_their_top(scheme, extra):
    # Every lane of every block at the largest distance: the largest plaintext the layout admits.
    key = make_key(256)
    lanes = plan(key.public, scheme=scheme, count=1, bits=16).lanes
    codes = np.ones((2 * lanes + extra, 16), bool)
    assert (open_scores(key, run(key, codes, np.zeros(16, bool), scheme=scheme)) == 16).all()


@given(collections(st.sampled_from([8, 32, 64, 200])))
def test_integer_scheme_is_the_papers(collection):
    codes, query = collection
    key = make_key(256)
    number = lambda code: int("".join("01"[int(b)] for b in code), 2)  # noqa: E731
    expected = [number(code) - number(query) for code in codes]
    scores = run(key, codes, query, scheme="integer")
    assert open_differences(key, scores) == expected
    ranks = open_scores(key, scores)
    levels = sorted({abs(d) for d in expected})
    assert ranks.tolist() == [levels.index(abs(d)) for d in expected]


def test_integer_difference_is_not_hamming():
    # 0111..1 and 1000..0 differ in every bit, and by 1 as integers.
    query = np.arange(16) > 0
    codes = np.stack([~query, query ^ (np.arange(16) == 3)])
    key = make_key(256)
    assert open_differences(key, run(key, codes, query, scheme="integer"))[0] == 1
    assert rank(open_scores(key, run(key, codes, query, scheme="integer")), top=2).tolist() == [0, 1]
    assert rank(open_scores(key, run(key, codes, query, scheme="packed")), top=2).tolist() == [1, 0]


@pytest.mark.parametrize("scheme", ["integer", *EXACT])
def test_another_decryption_can_be_passed(scheme):
    key, seen = make_key(256), []
    codes, query = np.eye(16, dtype=bool), np.zeros(16, bool)
    scores = run(key, codes, query, scheme=scheme)

    def decrypt(rows):
        seen.append(len(rows))
        halves = np.array_split(rows, 2) if len(rows) > 1 else [rows]
        return np.concatenate([paillier.decrypt(key, half) for half in halves])

    assert open_scores(key, scores, decrypt=decrypt).tolist() == open_scores(key, scores).tolist()
    assert seen == [scores.layout.blocks]


@pytest.mark.parametrize("scheme", ["integer", *EXACT])
def test_results_are_rerandomised(scheme):
    key = make_key(256)
    codes, query = np.eye(8, dtype=bool), np.zeros(8, bool)
    layout = plan(key.public, scheme=scheme, count=8, bits=8)
    index = build_index(codes, layout, encrypt=owner_encrypt(key), public=key.public)
    question = trapdoor(query, layout, encrypt=owner_encrypt(key), public=key.public)
    first, second = (score(key.public, index, question, blinders=fresh_blinders(key, layout.blocks)) for _ in range(2))
    assert not (first.ciphertexts == second.ciphertexts).all(axis=1).any()
    assert np.array_equal(open_scores(key, first), open_scores(key, second))


@pytest.mark.parametrize("engine", ["python", "gmpy2"])
def test_engines_agree(engine):
    pytest.importorskip("gmpy2")
    key = make_key(256)
    codes, query = np.eye(16, dtype=bool), np.zeros(16, bool)
    layout = plan(key.public, scheme="bitsliced", count=16, bits=16)
    index = build_index(codes, layout, encrypt=owner_encrypt(key), public=key.public)
    question = trapdoor(query, layout, public=key.public)
    blinders = fresh_blinders(key, layout.blocks)
    reference = score(key.public, prepare(key.public, index, engine="python"), question, blinders=blinders)
    other = score(key.public, prepare(key.public, index, engine=engine), question, blinders=blinders, engine=engine)
    assert np.array_equal(reference.ciphertexts, other.ciphertexts)
    assert (open_scores(key, other, engine=engine) == 1).all()


def test_other_keys_are_refused():
    ours, theirs = make_key(256), make_key(256, label="another system")
    codes = np.eye(8, dtype=bool)
    layout = plan(ours.public, scheme="packed", count=8, bits=8)
    index = build_index(codes, layout, encrypt=owner_encrypt(ours), public=ours.public)
    question = trapdoor(codes[0], layout, encrypt=owner_encrypt(ours), public=ours.public)
    blinders = fresh_blinders(ours, layout.blocks)
    stray = question._replace(fingerprint=theirs.public.fingerprint)
    with pytest.raises(KeyMismatchError, match="trapdoor: must be of key"):
        score(ours.public, index, stray, blinders=blinders)
    with pytest.raises(KeyMismatchError, match="index: must be of key"):
        score(theirs.public, index, question, blinders=blinders)
    with pytest.raises(KeyMismatchError, match="index: must be of key"):
        prepare(theirs.public, index)
    scores = score(ours.public, index, question, blinders=blinders)
    with pytest.raises(KeyMismatchError, match="scores: must be of key"):
        open_scores(theirs, scores)


def test_queries_of_another_size_are_refused(unchecked):
    key = make_key(256)
    codes = np.eye(8, dtype=bool)
    layout = plan(key.public, scheme="packed", count=8, bits=8)
    with pytest.raises(ValueError, match="codes: must be of 8 bits"):
        trapdoor(np.zeros(16, bool), layout, encrypt=owner_encrypt(key), public=key.public)
    with pytest.raises(ValueError, match="encrypt: must be a closure"):
        trapdoor(codes[0], layout, public=key.public)
    index = build_index(codes, layout, encrypt=owner_encrypt(key), public=key.public)
    longer = plan(key.public, scheme="packed", count=8, bits=16)
    question = trapdoor(np.zeros(16, bool), longer, encrypt=owner_encrypt(key), public=key.public)
    with pytest.raises(ValueError, match=r"trapdoor\.bits: must be 8"):
        score(key.public, index, question, blinders=fresh_blinders(key, 1))
    with pytest.raises(ValueError, match="codes: must be 8 x 8"):
        build_index(codes[:7], layout, encrypt=owner_encrypt(key), public=key.public)


def test_malformed_records_are_refused(unchecked):
    key = make_key(256)
    codes = np.eye(8, dtype=bool)
    layout = plan(key.public, scheme="bitsliced", count=8, bits=8)
    index = build_index(codes, layout, encrypt=owner_encrypt(key), public=key.public)
    question = trapdoor(codes[0], layout, public=key.public)
    blinders = fresh_blinders(key, layout.blocks)
    with pytest.raises(ValueError, match="index: must be"):
        score(key.public, index._replace(ciphertexts=index.ciphertexts[:-1]), question, blinders=blinders)
    with pytest.raises(ValueError, match=r"trapdoor\.body: must be 1 x 1"):
        score(key.public, index, question._replace(body=np.zeros((1, 2), np.uint8)), blinders=blinders)
    with pytest.raises(ValueError, match="blinders: must be at least 1 rows"):
        score(key.public, index, question, blinders=blinders[:0])
    scores = score(key.public, index, question, blinders=blinders)
    with pytest.raises(ValueError, match="scores: must be"):
        open_scores(key, scores._replace(ciphertexts=np.repeat(scores.ciphertexts, 2, axis=0)))
    other = plan(key.public, scheme="packed", count=8, bits=8)
    packed = build_index(codes, other, encrypt=owner_encrypt(key), public=key.public)
    with pytest.raises(ValueError, match="index: must be of a scheme with product tables"):
        prepare(key.public, packed)
    for group in (3, 0, True, 2.0):
        with pytest.raises(ValueError, match="group: must be one of"):
            prepare(key.public, index, group=group)
        with pytest.raises(ValueError, match="group: must be one of"):
            cost(key.public, scheme="bitsliced", count=8, bits=8, group=group)


@pytest.mark.parametrize("scheme", ["integer", *EXACT])
def test_numbers_that_are_no_scores_are_refused(scheme):
    key = make_key(256)
    layout = plan(key.public, scheme=scheme, count=1, bits=8, base=4 if scheme == "packed" else None)
    body = owner_encrypt(key)([key.public.n // 2])
    with pytest.raises(ValueError, match=r"must be scores of this layout|not made with this layout"):
        open_scores(key, Scores(layout, key.public.fingerprint, body))


@pytest.mark.parametrize("lane", [0, 1, 2, 3, -1])
def test_no_lane_holds_more_than_the_code_length(lane):
    """Where the base has room for more; lanes without an image are looked at too."""
    key = make_key(256)
    layout = plan(key.public, scheme="bitsliced", count=3, bits=8, base=12)
    lane %= layout.lanes

    def opened(number):
        body = owner_encrypt(key)([number * layout.base**lane])
        return open_scores(key, Scores(layout, key.public.fingerprint, body)).tolist()

    for distance in (0, layout.bits):
        assert opened(distance) == [distance * (place == lane) for place in range(3)]
    for beyond in (layout.bits + 1, layout.base - 1):
        with pytest.raises(ValueError, match="must be scores of this layout"):
            opened(beyond)


@pytest.mark.parametrize("scheme", ["integer", "packed"])
def test_a_query_that_nobody_encrypted_is_not_scored(scheme):
    """With a number that shares a factor with n the server would tell the factors."""
    key, codes = make_key(256), np.eye(8, dtype=bool)
    layout = plan(key.public, scheme=scheme, count=8, bits=8)
    index = build_index(codes, layout, encrypt=owner_encrypt(key), public=key.public)
    question = trapdoor(codes[0], layout, encrypt=owner_encrypt(key), public=key.public)
    for number in (0, key.p.prime, key.public.n, key.public.n**2 - key.public.n):
        body = from_ints([number], width=key.public.ciphertext_bytes)
        with pytest.raises(ValueError, match=r"must be a unit modulo n|shares a factor"):
            score(key.public, index, question._replace(body=body), blinders=fresh_blinders(key, layout.blocks))


def test_differences_of_codes_lie_between_minus_and_plus_the_largest_code():
    key = make_key(256)
    layout = plan(key.public, scheme="integer", count=1, bits=8)

    def opened(difference):
        return open_differences(key, Scores(layout, key.public.fingerprint, owner_encrypt(key)([difference])))

    for bound in (-255, 255):
        assert opened(bound) == [bound]
        for beyond in (bound + bound // 255, 2 * bound, bound << 200):
            with pytest.raises(ValueError, match=r"a difference beyond \+-255"):
                opened(beyond)


@pytest.mark.parametrize("bits", [8, 9, 15, 17])
def test_differences_are_those_of_codes_read_as_integers(bits):
    key, generator = make_key(256), np.random.default_rng(bits)
    codes = generator.random((3, bits)) < 0.5
    numbers = [int("".join("01"[bit] for bit in code.astype(int)), 2) for code in codes]
    opened = open_differences(key, run(key, codes, codes[2], scheme="integer"))
    assert opened == [number - numbers[2] for number in numbers]


def test_table_picks_name_the_query_bits():
    bits = np.array([1, 0, 1, 1, 1], bool)
    picks = _table_picks(bits, group=4, blocks=3)
    assert picks.tolist() == [[13, 16 + 1], [32 + 13, 48 + 1], [64 + 13, 80 + 1]]
