"""The leakage table is true: what a party can compute is computed, what it must not see is searched for."""

import dataclasses
import pathlib
import secrets

import numpy as np
import pytest
from protocol_world import BITS, NOW, SCHEMES, SPLIT, make_world, numbers_of, search

from jcbir.protocol import owner, user, wire
from jcbir.protocol.leakage import authority_view, describe, describe_query, server_view, views
from jcbir.protocol.messages import Delivery, Query
from jcbir.ranking import mask_index, mask_query, plan
from jcbir.sealing import image_key

# The same picture is asked for twice: whoever can tell that, can tell it here.
QUERIES = np.random.default_rng(9).random((4, BITS)) > 0.5
QUERIES[3] = QUERIES[1]


def run(*schemes):
    world = make_world()
    for scheme in schemes:
        world = search(world, QUERIES[:2], scheme=scheme).world
        world = search(world, QUERIES[2:], scheme=scheme).world
    return world


def pairwise(codes):
    return (codes[:, None] ^ codes[None]).sum(axis=-1)


def bytes_seen(world, party):
    """Every byte a party received, as it travelled."""
    received = views(world.transcript, party=party)
    return b"".join(wire.to_bytes(message) for message in received if not isinstance(message, owner.Delegation))


def secrets_of(world):
    own = world.own
    public = set(numbers_of(own.card.public.key))
    named = {number for number in numbers_of(own.secret) if number not in public}
    named |= {own.image_master, own.masking_key, own.naming_key, own.signing_secret, world.holder.identity.secret}
    named |= {world.me.keys.sealing_secret, world.me.keys.signing_secret}
    named |= {
        image_key(own.image_master, image_id=image_id, epoch=0, segment=segment)
        for image_id, segment in own.image_ids.items()
    }
    return named


def test_server_bytes_hold_no_secret_no_name_no_picture():
    world = run(*SCHEMES)
    seen = bytes_seen(world, "server")
    found = secrets_of(world)
    assert len(found) > 40
    for secret in found:
        assert secret not in seen
    for name, image in zip(world.names, world.images, strict=True):
        assert name.encode() not in seen
        assert image.data not in seen and len(image.data) >= 200
    # The search itself works: a public number is found.
    assert next(numbers_of(world.own.card.public.key.n)) in seen


def test_server_and_user_learn_no_code():
    world = run(*SCHEMES)
    for party in ("server", "user"):
        seen = bytes_seen(world, party)
        for code in (*world.codes, *QUERIES):
            # 16 bits turn up anywhere by chance; unpacked or as text they would not.
            assert code.tobytes() not in seen
            assert "".join("01"[int(bit)] for bit in code).encode() not in seen


def test_authority_gets_no_trapdoor_no_salt_no_image_and_no_masking_key():
    world = run(*SCHEMES)
    seen = bytes_seen(world, "authority")
    queries = [message for message in views(world.transcript, party="server") if hasattr(message, "trapdoors")]
    assert len(queries) == 6
    for query in queries:
        assert query.salt not in seen
        for trapdoor in query.trapdoors:
            if trapdoor.scheme != "bitsliced":
                assert trapdoor.body.tobytes() not in seen
    assert world.own.masking_key not in seen
    assert not any(sealed in seen for sealed in world.cloud.images.values())
    delegation = next(m for m in views(world.transcript, party="authority") if isinstance(m, owner.Delegation))
    assert world.own.masking_key not in [getattr(delegation, field.name) for field in dataclasses.fields(delegation)]


def test_search_pattern_is_visible_in_bitsliced_and_not_in_packed():
    world = run(*SCHEMES)
    view = server_view(world.transcript)
    assert [scheme for scheme, seen in view.seen.items() if seen.values] == ["bitsliced"]
    distances = view.seen["bitsliced"].values["query_distances"]
    np.testing.assert_array_equal(distances, pairwise(QUERIES))
    assert distances[1, 3] == 0
    for scheme in ("integer", "packed"):
        trapdoors = [
            trapdoor.body.tobytes()
            for message in views(world.transcript, party="server")
            if getattr(getattr(message, "request", None), "scheme", None) == scheme
            for trapdoor in message.trapdoors
        ]
        assert len(set(trapdoors)) == len(QUERIES)


def test_masked_queries_are_not_the_queries():
    world = run("bitsliced")
    sent = [
        np.unpackbits(t.body[0])[:BITS]
        for m in views(world.transcript, party="server")
        if hasattr(m, "salt")
        for t in m.trapdoors
    ]
    assert (np.array(sent) != QUERIES).any(axis=1).all()


def test_access_pattern():
    found = search(make_world(), QUERIES[:2], scheme="packed")
    view = server_view(found.world.transcript)
    assert set(view.fetched) == {match.image_id for row in found.matches for match in row}
    assert view.images == 30
    assert view.sealed_bytes == {image_id: len(sealed) for image_id, sealed in found.world.cloud.images.items()}


def masked(world, scheme, count, codes):
    """The masked index codes of a segment, and the masked queries under each of its isometries."""
    masking_key = user.scheme_masking_key(world.own.card, scheme=scheme, masking_key=world.own.masking_key)
    layout = plan(world.own.card.public.key, scheme=scheme, count=count, bits=BITS)
    stored = mask_index(codes, layout, masking_key=masking_key)
    return layout, stored, mask_query(QUERIES, layout, masking_key=masking_key)


def test_authority_sees_patterns_in_packed_lane_by_lane():
    world = run("packed")
    seen = authority_view(world.transcript, world.holder).seen["packed"].values
    start = 0
    for count in (SPLIT, len(world.codes) - SPLIT):
        layout, stored, asked = masked(world, "packed", count, world.codes[start : start + count])
        lanes = np.arange(count) % layout.lanes
        expected = stored[None].astype(np.int8) - asked[:, lanes].astype(np.int8)
        np.testing.assert_array_equal(seen["patterns"][:, start : start + count], expected)
        start += count
    # The distances are there in any case.
    np.testing.assert_array_equal(seen["distances"], (world.codes[None] ^ QUERIES[:, None]).sum(axis=-1))


def test_authority_sees_differences_in_integer():
    world = run("integer")
    seen = authority_view(world.transcript, world.holder).seen["integer"].values
    _, stored, asked = masked(world, "integer", 30, world.codes)
    weights = 1 << np.arange(BITS)[::-1]
    expected = (stored @ weights)[None] - (asked[:, 0] @ weights)[:, None]
    np.testing.assert_array_equal(np.array(seen["differences"]), expected)


def test_authority_sees_distances_only_in_bitsliced():
    world = run("bitsliced")
    seen = authority_view(world.transcript, world.holder).seen["bitsliced"].values
    assert list(seen) == ["distances"]
    np.testing.assert_array_equal(seen["distances"], (world.codes[None] ^ QUERIES[:, None]).sum(axis=-1))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_message_sizes_do_not_depend_on_the_query(scheme):
    world = make_world()
    sizes = set()
    for code in (np.zeros(BITS, bool), np.ones(BITS, bool), QUERIES[0]):
        found = search(world, code[None], scheme=scheme)
        sizes.add(
            (len(wire.to_bytes(found.query)), len(wire.to_bytes(found.report)), len(wire.to_bytes(found.ranking)))
        )
    assert len(sizes) == 1


def test_commitment_hides_a_code_that_can_be_guessed():
    world = make_world()
    first, second = (
        user.ask(world.me, QUERIES[:1], top=1, now=NOW, scheme="bitsliced", draw=secrets.token_bytes)[1]
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.trapdoors[0].body, second.trapdoors[0].body)
    assert first.request.commitment != second.request.commitment


def test_each_scheme_and_epoch_has_isometries_of_its_own():
    world = make_world()
    keys = {
        user.scheme_masking_key(card, scheme=scheme, masking_key=world.own.masking_key)
        for card in (world.own.card, dataclasses.replace(world.own.card, epoch=1))
        for scheme in SCHEMES
    }
    assert len(keys) == 2 * len(SCHEMES)


def test_describe_covers_every_scheme_and_party():
    world = run(*SCHEMES)
    for options in ({}, {"holder": world.holder}):
        rows = describe(world.transcript, **options)
        assert {(row["scheme"], row["party"]) for row in rows} == {
            *((scheme, party) for scheme in SCHEMES for party in ("server", "authority", "user")),
            ("any", "server"),
            ("any", "owner"),
        }
    text = {(row["scheme"], row["party"]): row["learned"] for row in rows}
    assert "1 equal pairs" in text["bitsliced", "server"]
    assert "nothing" in text["packed", "server"]
    assert "30 images" in text["any", "server"]


def leakage_rows():
    """The table of docs/threat-model.md: one run of every scheme over the tests' system."""
    world = run(*SCHEMES)
    rows = describe(world.transcript, holder=world.holder)
    return ["| {scheme} | {party} | {learned} |".format(**row) for row in rows]


def test_the_table_in_the_docs_is_what_the_code_computes():
    page = pathlib.Path(__file__).parents[2] / "docs" / "threat-model.md"
    text = page.read_text()
    missing = [row for row in leakage_rows() if row not in text]
    assert not missing, "docs/threat-model.md lacks:\n" + "\n".join(missing)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_a_user_says_of_one_query_is_what_the_transcript_says(scheme):
    world = search(make_world(), QUERIES, scheme=scheme).world
    said = {type(line.message): line.message for line in world.transcript}
    rows = describe_query(said[Query], said[Delivery])
    of_query = {row["party"]: row["learned"] for row in rows if row["scheme"] == scheme}
    of_run = {row["party"]: row["learned"] for row in describe(world.transcript) if row["scheme"] == scheme}
    assert {row["party"] for row in rows} == {"server", "authority", "user", "owner"}
    assert of_query["server"] == of_run["server"]
    # Without a head a user does not know how many images there are.
    assert said[Delivery].head is None and of_query["user"] == of_run["user"].replace(" of 30 ", " of all ")
