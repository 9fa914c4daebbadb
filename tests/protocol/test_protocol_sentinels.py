"""Sentinels: what a server substitutes shows in lanes that it cannot find, and honest searches are as without them."""

import dataclasses
import secrets

import numpy as np
import pytest
from hypothesis import given, strategies as st
from protocol_world import BITS, NOW, SCHEMES, make_world, resign, score, search

from jcbir.errors import FormatError
from jcbir.paillier.public import encrypt
from jcbir.protocol import authority, owner, user
from jcbir.protocol._signatures import sign
from jcbir.protocol.messages import Catalog
from jcbir.protocol.refusals import ForgedScoresError
from jcbir.protocol.user import scheme_masking_key
from jcbir.ranking import DEAD, SCHEMES as TABLE, Layout, build_index, mask_index, plan
from jcbir.ranking._sentinels import LEAST_SPACING, count_beside, place_sentinels, sentinel_codes, sentinel_count
from jcbir.sealing import Photograph, seal_photographs

LANED = ("packed", "bitsliced")
CODES = np.random.default_rng(3).random((8, BITS)) > 0.5


def laid(scheme, lanes):
    return Layout(scheme, 64, 1, 2048, 3, lanes, 1)


@given(count=st.integers(1, 2000), lanes=st.lists(st.integers(1, 700), min_size=1, max_size=2))
def test_every_ciphertext_has_a_sentinel_and_one_lane_in_eleven_at_most(count, lanes):
    layouts = [laid(name, each) for name, each in zip(LANED, lanes, strict=False)]
    places = place_sentinels(count, layouts, draw=secrets.token_bytes)
    total, least = count + len(places), min((each for each in lanes if each > 1), default=None)
    assert sorted(set(places.tolist())) == places.tolist()
    if least is None:
        assert not len(places) and count_beside(count, layouts) == count
        return
    assert places[-1] < total and count_beside(total, layouts) == count
    if total % max(least, LEAST_SPACING) == 0:
        assert len(places) * LEAST_SPACING <= total
    for each in lanes:
        blocks = {place // each for place in places.tolist()}
        if each == least >= LEAST_SPACING:
            assert blocks == set(range(-(-total // each)))
        elif each > 2 * max(least, 2 * LEAST_SPACING):
            # Of a scheme with more lanes, the last ciphertext may be too short.
            assert blocks >= set(range(total // each))


def test_places_are_uniform():
    found = [place_sentinels(40, [laid("packed", 20)], draw=secrets.token_bytes)[0] for _ in range(2000)]
    counts = np.bincount(found, minlength=20)
    # A chi-square of 19 degrees of freedom is above 55 once in 40,000 runs.
    assert ((counts - 100) ** 2 / 100).sum() < 55 and len(counts) == 20


def test_a_code_of_sentinels_is_seen_under_one_isometry():
    for name, scheme in ((name, TABLE[name]) for name in SCHEMES):
        layout = plan(make_world().own.card.public.key, scheme=name, count=1, bits=BITS)
        count = sentinel_count(layout)
        assert (count == 0) == (name == "integer") and count % scheme.isometries(layout) == 0
        codes = sentinel_codes(layout, masking_key=bytes(32))
        assert (codes.shape == (count, BITS) and not count) or count >= 8
        if count:
            assert not (codes == sentinel_codes(layout, masking_key=bytes(31) + b"1")).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_honest_searches_are_as_without(scheme):
    with_them, without = (make_world(sentinels=each) for each in (True, False))
    for code in CODES[:3]:
        code = code[None]
        first, second = (search(world, code, scheme=scheme, top=30) for world in (with_them, without))
        found, expected = (
            [(match.distance, match.photograph) for match in each.matches[0]] for each in (first, second)
        )
        assert sorted(found) == sorted(expected)
        rows = authority.read_scores(
            with_them.holder, first.report, authority.decrypt_report(with_them.holder, first.report)
        )
        assert (rows[0] != DEAD).sum() == 30 and len(rows[0]) > 30


def test_the_server_cannot_tell_them_from_images():
    world = make_world(sentinels=True)
    catalogs = [line.message for line in world.transcript if isinstance(line.message, Catalog)]
    hidden = {part.image_ids[place] for part in catalogs for place in part.sentinels}
    living = set(world.own.image_ids)
    assert set(world.cloud.images) == hidden | living and not hidden & living and len(hidden) >= 2
    sizes = {name: len(sealed) for name, sealed in world.cloud.images.items()}
    assert {sizes[name] for name in hidden} <= {sizes[name] for name in living}
    assert all(len(name) == 32 and not set(name) - set("0123456789abcdef") for name in hidden)
    # Bytes that do not repeat: what is sealed in them does not show.
    assert len({world.cloud.images[name][-200:] for name in hidden}) == len(hidden)


@given(positions=st.integers(1, 3000), lanes=st.lists(st.integers(2, 700), min_size=1, max_size=2))
def test_no_segment_holds_more_images_than_fit_beside_their_sentinels(positions, lanes):
    layouts = [laid(name, each) for name, each in zip(LANED, lanes, strict=False)]

    def used(count):
        return count + len(place_sentinels(count, layouts, draw=secrets.token_bytes))

    fit = count_beside(positions, layouts)
    assert used(fit) <= positions < used(fit + 1)


@given(size=st.integers(1, 3000), texts=st.tuples(*[st.text(max_size=400)] * 4))
def test_one_that_stands_for_nothing_is_sealed_in_as_many_bytes(size, texts):
    """As its model is, whose texts count in UTF-8."""
    model = Photograph(bytes(size), *texts)
    keys, nonces, ids = [bytes(32)] * 2, [bytes(16), bytes([1] * 16)], ["a", "b"]
    sealed = seal_photographs([model, owner._blank(model)], keys=keys, nonces=nonces, image_ids=ids, cipher="aes-gcm")
    assert len({len(each) for each in sealed}) == 1


def own_index(world, scheme, codes):
    """What a server can make: an index of codes of its own, with the public key alone."""
    public = world.own.card.public.key
    layout = plan(public, scheme=scheme, count=len(codes), bits=BITS)
    masked = mask_index(codes, layout, masking_key=bytes(32))

    def seal(rows):
        return encrypt(public, rows, blinders=owner.blinder_pool(world.own, len(rows), draw=secrets.token_bytes))

    return build_index(masked, layout, encrypt=seal, public=public)


def cheats(world, scheme):
    """Name to a report that a cheating server signs, of one user's query."""
    _, query = user.ask(world.me, CODES[:1], top=3, now=NOW, scheme=scheme, draw=secrets.token_bytes)
    _, other = user.ask(world.me, ~CODES[:1], top=3, now=NOW, scheme=scheme, draw=secrets.token_bytes)
    honest, instead = score(world, query)[1], score(world, other)[1]
    (row,), (wrong,) = honest.scores, instead.scores
    mixed = wrong[0].ciphertexts.copy()
    mixed[:-1] = row[0].ciphertexts[:-1]
    segments = [
        dataclasses.replace(
            segment,
            indexes={
                scheme: own_index(world, scheme, np.random.default_rng(1).random((len(segment.image_ids), BITS)) > 0.5)
            },
        )
        for segment in world.cloud.segments
    ]
    invented = score(world._replace(cloud=dataclasses.replace(world.cloud, segments=tuple(segments))), query)[1]
    public, first = world.own.card.public.key, row[0]
    numbers = np.zeros((len(first.ciphertexts), first.layout.plaintext_bytes), np.uint8)
    made_up = encrypt(public, numbers, blinders=owner.blinder_pool(world.own, len(numbers), draw=secrets.token_bytes))
    return honest, {
        "another query": resign(world, honest, scores=instead.scores),
        "one block of another query": resign(world, honest, scores=((first._replace(ciphertexts=mixed), *row[1:]),)),
        "another index": invented,
        "chosen ciphertexts": resign(world, honest, scores=((first._replace(ciphertexts=made_up), *row[1:]),)),
    }


@pytest.mark.parametrize("scheme", LANED)
def test_substituted_scores_are_refused(scheme):
    """~q is at distance k - d from every code: of the codes none is at k / 2 from this query (seeded world)."""
    world = make_world(sentinels=True, schemes=(scheme,), key="medium")
    honest, reports = cheats(world, scheme)
    authority.answer(world.holder, honest, now=NOW)
    for name, report in reports.items():
        holder, _ = authority.admit(world.holder, report, now=NOW)
        plaintexts = authority.decrypt_report(holder, report)
        with pytest.raises(ForgedScoresError, match="sentinels are not as far"):
            authority.rank(holder, report, plaintexts, now=NOW)
        assert name


def test_without_sentinels_substituted_scores_are_believed():
    """The rule that sentinels replace: the attack works against it."""
    world = make_world(schemes=("packed",), key="medium")
    for report in cheats(world, "packed")[1].values():
        authority.answer(world.holder, report, now=NOW)


def test_a_claim_that_is_not_true_or_not_there_is_refused():
    world = make_world(sentinels=True, schemes=("packed",))
    _, query = user.ask(world.me, CODES[:1], top=3, now=NOW, draw=secrets.token_bytes)
    _, other = user.ask(world.me, CODES[1:2], top=3, now=NOW, draw=secrets.token_bytes)
    assert len(query.openings) == len(other.openings) > 0
    # The server gives the user's own openings away, which the request names.
    report = score(world, query)[1]
    for openings in (b"", other.openings):
        with pytest.raises(FormatError, match="openings"):
            authority.admit(world.holder, dataclasses.replace(report, openings=openings), now=NOW)


def test_sentinels_are_never_found_and_never_repeated():
    world = make_world(sentinels=True)
    for catalog in (line.message for line in world.transcript if isinstance(line.message, Catalog)):
        for places in ((*catalog.sentinels, len(catalog.image_ids)), catalog.sentinels[::-1] + catalog.sentinels):
            bad = dataclasses.replace(catalog, sentinels=places)
            signed = sign(dataclasses.replace(bad, signature=b""), secret=world.own.signing_secret)
            with pytest.raises(ValueError, match="sentinels: must be increasing"):
                authority.catalog(world.holder, signed)
    found = search(world, CODES[:1], scheme="packed", top=30)
    assert set(found.ranking.image_ids) == set(world.own.image_ids)


@pytest.mark.parametrize("scheme", LANED)
def test_one_block_of_any_other_query_is_noticed_as_often_as_distances_differ(scheme):
    """A random other query passes in one block where it is as far from that block's code as the true one."""
    world = make_world(sentinels=True, schemes=(scheme,), key="medium")
    layout = plan(world.own.card.public.key, scheme=scheme, count=1, bits=BITS)
    secret = scheme_masking_key(world.own.card, scheme=scheme, masking_key=world.own.masking_key)
    codes = sentinel_codes(layout, masking_key=secret)
    mine, others = CODES[:1], np.random.default_rng(8).random((24, BITS)) > 0.5
    _, query = user.ask(
        world.me, np.concatenate([mine, others]), top=3, now=NOW, scheme=scheme, draw=secrets.token_bytes
    )
    report = score(world, query)[1]
    catalog = world.holder.catalogs[0]
    places = np.array([place for place in catalog.sentinels if place < layout.lanes])
    # A ciphertext decrypts alike wherever it stands.
    opened = authority.decrypt_report(world.holder, report)
    for place, other in enumerate(others, 1):
        first = report.scores[place][0].ciphertexts[:1]
        row = report.scores[0][0]
        mixed = row._replace(ciphertexts=np.concatenate([first, row.ciphertexts[1:]]))
        bad = resign(world, report, scores=((mixed, *report.scores[0][1:]), *report.scores[1:]))
        inside = codes[places % len(codes)]
        caught = ((inside ^ mine[0]).sum(axis=1) != (inside ^ other).sum(axis=1)).any()
        plaintexts = opened.copy()
        plaintexts[0] = opened[place * len(opened) // len(report.scores)]
        assert place > 1 or np.array_equal(authority.decrypt_report(world.holder, bad), plaintexts)
        if caught:
            with pytest.raises(ForgedScoresError):
                authority.read_scores(world.holder, bad, plaintexts)
        else:
            authority.read_scores(world.holder, bad, plaintexts)
