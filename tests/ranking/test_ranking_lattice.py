"""The lattice scheme by its record: exact for every length and the most unlike codes; what does not fit is refused."""

import functools
import secrets

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from ranking_keys import hamming

from jcbir.errors import FormatError, IntegrityError, KeyMismatchError
from jcbir.lattice.public import parameters
from jcbir.ranking import (
    KEY_KINDS,
    SCHEMES,
    SECRET_KEY_KINDS,
    _lattice,
    build_index,
    cost,
    mask_index,
    mask_query,
    open_scores,
    plan,
    prepare,
    score,
    trapdoors,
)
from jcbir.ranking._decode import decode_scores
from jcbir.ranking._table import check_layout

KIND, SECRET_KIND = KEY_KINDS["lattice"], SECRET_KEY_KINDS["lattice"]
DRAW = secrets.token_bytes
MASKING_KEY = bytes(range(32))


@functools.cache
def lattice_key(bits, label=0):
    return SECRET_KIND.generate(draw=DRAW, code_bits=bits)


def layout_of(key, count):
    return plan(key.public, scheme="lattice", count=count, bits=key.public.parameters.bits)


def publish(key, codes):
    """What the server stores, and what the authority keeps."""
    layout = layout_of(key, len(codes))
    masked = mask_index(codes, layout, masking_key=MASKING_KEY)
    index = build_index(
        masked, layout, encrypt=lambda rows: SECRET_KIND.encrypt(key, rows, draw=DRAW), public=key.public
    )
    return index._replace(hint=None), index.hint


def ask(key, codes):
    layout = layout_of(key, 1)

    def encrypt(rows):
        return KIND.encrypt(key.public, rows, blinders=KIND.blinders(key.public, len(rows), draw=DRAW))

    asked = mask_query(codes, layout, masking_key=MASKING_KEY)
    return trapdoors(asked, layout, public=key.public, encrypt=encrypt)


def serve(key, index, door, **options):
    blinders = KIND.blinders(key.public, 1, draw=DRAW)
    return score(key.public, index, door._replace(opening=None), blinders=blinders, **options)


def extremes(query, others):
    """The query, its complement, all zeros, all ones, both alternations, and others between them."""
    bits = np.arange(len(query)) % 2 == 0
    fixed = np.stack([query, ~query, query & False, query | True, bits, ~bits])
    return np.concatenate([fixed, others, fixed, fixed[::-1], np.repeat(fixed, 5, axis=0)])


# Each padded length, its own shortest and longest code.
@pytest.mark.parametrize(
    "bits", [8, 9, 64, 129, 512, *(pytest.param(bits, marks=pytest.mark.slow) for bits in (16, 17, 32, 100, 128, 256))]
)
def test_every_length_is_exact_at_the_extremes(bits):
    key, generator = lattice_key(bits), np.random.default_rng(bits)
    for query in (generator.random(bits) < 0.5, np.zeros(bits, bool), np.ones(bits, bool)):
        codes = extremes(query, generator.random((40, bits)) < 0.5)
        index, hint = publish(key, codes)
        (door,) = ask(key, query[None])
        found = open_scores(key, serve(key, prepare(key.public, index), door), hint=hint, opening=door.opening)
        assert found.dtype == np.int32
        assert found.tolist() == hamming(codes, query).tolist()
        assert (found[0], found[1]) == (0, bits)


@settings(max_examples=4)
@given(st.integers(0, 2**32 - 1), st.sampled_from([-1, 0, 1]), st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_blocks_are_exact_about_their_end(seed, extra, density):
    key, generator = lattice_key(512), np.random.default_rng(seed)
    count = 2 * parameters(bits=512).images + extra
    codes, query = generator.random((count, 512)) < density, generator.random(512) < 0.5
    codes[:: generator.integers(2, 40)] = query
    codes[1 :: generator.integers(2, 40)] = ~query
    index, hint = publish(key, codes)
    (door,) = ask(key, query[None])
    # From the rows as stored, or prepared: the same.
    for served in (index, prepare(key.public, index)):
        found = open_scores(key, serve(key, served, door), hint=hint, opening=door.opening)
        assert found.tolist() == hamming(codes, query).tolist()


def test_segments_of_one_query_are_opened_together():
    key, generator = lattice_key(64), np.random.default_rng(0)
    parts, queries = [generator.random((n, 64)) < 0.5 for n in (5, 1600, 1)], generator.random((2, 64)) < 0.5
    made = [publish(key, part) for part in parts]
    prepared = [SECRET_KIND.prepare(key, index.layout, hint) for index, hint in made]
    for door, query in zip(ask(key, queries), queries, strict=True):
        scores = [serve(key, index, door, share=place == 0) for place, (index, _) in enumerate(made)]
        layouts, scored = [index.layout for index, _ in made], np.concatenate([part.ciphertexts for part in scores])
        # All of them, and without what opens the first, the second, any.
        for gone in ((), (0,), (1,), (0, 1, 2)):
            held = [None if place in gone else one for place, one in enumerate(prepared)]
            rows = SECRET_KIND.open(key, held, layouts, scored, door.opening)
            pieces = list(zip(layouts, np.split(rows, [5, 1605]), strict=True))
            found = SCHEMES["lattice"].decode(pieces, key.public)
            expected = [hamming(part, query) * (place not in gone) for place, part in enumerate(parts)]
            assert found.tolist() == np.concatenate(expected).tolist()


def test_bytes_are_as_predicted():
    key = lattice_key(64)
    index, hint = publish(key, np.zeros((1513, 64), bool))
    (door,) = ask(key, np.zeros((1, 64), bool))
    predicted = cost(key.public, scheme="lattice", count=1513, bits=64, group=1)
    prepared = prepare(key.public, index)
    assert index.ciphertexts.nbytes == predicted.index_bytes
    assert door.body.nbytes == predicted.trapdoor_bytes
    assert serve(key, prepared, door).ciphertexts.nbytes == predicted.reply_bytes
    assert sum(chunk.nbytes for chunk in prepared.table.chunks) == predicted.prepared_bytes
    assert len(hint) == index.layout.blocks == predicted.operations.decryptions == 2


def test_replies_differ_each_time_and_queries_too():
    key, codes = lattice_key(64), np.eye(64, dtype=bool)
    index, hint = publish(key, codes)
    first, second = ask(key, codes[[3, 3]])
    assert not np.array_equal(first.body, second.body)
    assert SCHEMES["lattice"].leakage.server([first, second]).values == {}
    one, two = (serve(key, index, first) for _ in range(2))
    blocks = layout_of(key, 64).blocks
    # The flood is fresh; what the query alone determines is not.
    assert not np.array_equal(one.ciphertexts[-blocks:], two.ciphertexts[-blocks:])
    assert np.array_equal(one.ciphertexts[:-blocks], two.ciphertexts[:-blocks])
    opened = [open_scores(key, scores, hint=hint, opening=first.opening).tolist() for scores in (one, two)]
    assert opened[0] == opened[1]


@given(seeds=st.sets(st.binary(min_size=32, max_size=32), min_size=1, max_size=4), counts=st.lists(st.integers(16, 64)))
def test_a_flood_never_comes_again(seeds, counts):
    """Whatever is drawn of whichever seed; the same seed draws the same."""

    def drawn():
        return [draw(count)[:16] for draw in map(_lattice._expand, sorted(seeds)) for count in counts]

    assert len(set(drawn())) == len(drawn()) and drawn() == drawn()


def test_the_key_holder_sees_distances_alone():
    record = SCHEMES["lattice"]
    assert record.leakage.authority((), None).words == "distances, nothing else"
    rows = np.array([[0, 3], [0, 64]], np.uint8)
    seen = record.leakage.authority([[(layout_of(lattice_key(64), 2), rows)]], lattice_key(64).public)
    assert list(seen.values) == ["distances"]
    assert seen.words == "distances, nothing else (3 to 64)"


def test_keys_survive_their_fields():
    key = lattice_key(64)
    public = KIND.from_fields(KIND.to_fields(key.public))
    assert public == key.public
    assert SECRET_KIND.from_fields(public, SECRET_KIND.to_fields(key)) == key
    assert key.master.hex() not in repr(key)
    renewed = SECRET_KIND.renew(key, draw=DRAW)
    assert renewed.public.parameters == key.public.parameters
    assert renewed.public.seed != key.public.seed
    assert renewed.master != key.master


@pytest.mark.parametrize(
    "fields",
    [
        {"bits": 64},
        {"bits": 64, "seed": bytes(31)},
        {"bits": 7, "seed": bytes(32)},
        {"bits": 513, "seed": bytes(32)},
        {"bits": b"64", "seed": bytes(32)},
        {"seed": bytes(32), "bits": 64},
    ],
)
def test_foreign_public_keys_are_refused(fields):
    with pytest.raises(FormatError, match="public key: "):
        KIND.from_fields(fields)


def test_foreign_secret_keys_are_refused():
    for fields in ({"master": bytes(31)}, {"master": 5}, {}):
        with pytest.raises(FormatError, match="secret key: must have"):
            SECRET_KIND.from_fields(lattice_key(64).public, fields)


def test_layouts_that_do_not_fit_are_refused():
    public = lattice_key(64).public
    with pytest.raises(ValueError, match=r"bits: must be a whole number 64\.\.64, got 65"):
        plan(public, scheme="lattice", count=1, bits=65)
    with pytest.raises(ValueError, match=r"base: must be a whole number 65\.\.65, got 66"):
        plan(public, scheme="lattice", count=1, bits=64, base=66)
    with pytest.raises(ValueError, match="public: must be a paillier key for packed, got PublicKey"):
        plan(public, scheme="packed", count=1, bits=64)
    layout = plan(public, scheme="lattice", count=1513, bits=64)
    assert (layout.lanes, layout.blocks) == (1512, 2)
    for field, value in (("lanes", 1511), ("blocks", 3), ("modulus_bits", 109)):
        with pytest.raises(ValueError, match="layout: must be"):
            check_layout(public, type(layout)(**{**vars(layout), field: value}))


def test_codes_that_are_none_are_refused(unchecked):
    key = lattice_key(64)
    for codes in (np.zeros((2, 65), bool), np.zeros((2, 64), np.uint8), np.zeros((3, 64), bool)):
        with pytest.raises(ValueError, match="codes: must be"):
            build_index(codes, layout_of(key, 2), encrypt=lambda rows: rows, public=key.public)


def test_foreign_and_truncated_ciphertexts_are_refused(unchecked):
    key, other = lattice_key(64), lattice_key(64, label=1)
    index, _ = publish(key, np.eye(64, dtype=bool))
    (door,) = ask(key, np.eye(64, dtype=bool)[:1])
    full = np.full_like(index.ciphertexts, 255)
    for wrong, error, match in (
        (index._replace(fingerprint=other.public.fingerprint), KeyMismatchError, "index: must be of key"),
        (index._replace(ciphertexts=index.ciphertexts[:, :-1]), ValueError, "index: must be 1 x 296960 bytes"),
        (index._replace(ciphertexts=full), FormatError, "index: must hold residues below"),
    ):
        with pytest.raises(error, match=match):
            serve(key, wrong, door)
        with pytest.raises(error, match=match):
            prepare(key.public, wrong)
    for changes, error, match in (
        ({"fingerprint": other.public.fingerprint}, KeyMismatchError, "trapdoor: must be of key"),
        ({"body": door.body[:, :-1]}, ValueError, r"trapdoor\.body: must be 1 x 296960 bytes"),
        ({"body": np.full_like(door.body, 255)}, FormatError, "query: must hold residues below"),
    ):
        with pytest.raises(error, match=match):
            serve(key, index, door._replace(**changes))
    with pytest.raises(ValueError, match="blinders: must be at least 1"):
        score(key.public, index, door, blinders=np.zeros((0, 64), np.uint8))


def test_replies_that_are_none_are_refused(unchecked):
    key, codes = lattice_key(64), np.eye(64, dtype=bool)
    (index, hint), (_, other_hint) = publish(key, codes), publish(key, codes)
    first, second = ask(key, codes[:2])
    scores = serve(key, index, first)
    sound = {"hint": hint, "opening": first.opening}
    assert open_scores(key, scores, **sound).tolist() == hamming(codes, codes[0]).tolist()
    rows = scores.ciphertexts
    swapped = np.concatenate([hint[:, :32], other_hint[:, 32:]], axis=1)
    forged = rows.copy()
    forged[0, 0] ^= 1
    for changes, error, match in (
        ({"opening": second.opening}, IntegrityError, "reply: must"),
        ({"opening": None}, FormatError, "opening: must be 32 bytes, got None"),
        ({"opening": first.opening[:, :-1]}, FormatError, "opening: must be 32 bytes"),
        ({"hint": None}, FormatError, r"hint: must be \(1, 59424\) bytes, got None"),
        ({"hint": hint[:, :-1]}, FormatError, r"hint: must be \(1, 59424\) bytes"),
        ({"hint": other_hint}, IntegrityError, "reply: must"),
        ({"hint": swapped}, IntegrityError, "reply: must"),
        ({"scores": scores._replace(ciphertexts=rows[:-1])}, FormatError, "reply: must have"),
        ({"scores": scores._replace(ciphertexts=rows[:, :-1])}, FormatError, "reply: must be"),
        ({"scores": scores._replace(ciphertexts=np.full_like(rows, 255))}, FormatError, "reply: must hold residues"),
        # One coefficient of Q, by one: the phase stays as small as an honest one's, the zeros tell.
        ({"scores": scores._replace(ciphertexts=forged)}, IntegrityError, "reply: must decode to"),
    ):
        taken = {"scores": scores, **sound, **changes}
        with pytest.raises(error, match=match):
            open_scores(key, taken.pop("scores"), **taken)
    with pytest.raises(ValueError, match="rows: must be opened a query at a time"):
        SECRET_KIND.decrypt(key, rows)


def test_hints_of_several_segments_are_refused():
    key = lattice_key(512)
    (index, hint), (_, other) = (publish(key, np.zeros((113, 512), bool)) for _ in range(2))
    with pytest.raises(FormatError, match="hint: must be of one segment, got blocks of several"):
        SECRET_KIND.prepare(key, index.layout, np.concatenate([hint[:1], other[1:]]))


def test_a_source_that_repeats_itself_is_refused():
    key = lattice_key(64)
    with pytest.raises(ValueError, match="draw: must give 32 fresh bytes"):
        SECRET_KIND.encrypt(key, np.zeros((1, 8), np.uint8), draw=lambda count: bytes(count))
    with pytest.raises(ValueError, match="draw: must give 32 fresh bytes"):
        KIND.encrypt(key.public, np.zeros((1, 8), np.uint8), blinders=np.zeros((1, 64), np.uint8))


def test_floods_of_short_seeds_and_rows_of_another_form_are_refused(unchecked):
    key = lattice_key(16)
    codes = np.eye(16, dtype=bool)[:3]
    (index, _), (door,) = publish(key, codes), ask(key, codes[:1])
    blinders = KIND.blinders(key.public, 1, draw=DRAW)
    for other in (blinders[:, :1], blinders[:, :32], blinders.astype(np.int64), blinders[0]):
        with pytest.raises(ValueError, match="blinders: must be"):
            score(key.public, index, door._replace(opening=None), blinders=other)
    layout = layout_of(key, 3)
    for other in (np.zeros((3, 4), np.uint8), np.zeros((3, 2), np.int64), np.zeros((3, 1), np.uint16)):
        with pytest.raises(ValueError, match=r"plaintexts: must be uint8\[n, 2\]"):
            decode_scores([(layout, other)], public=key.public)
