"""Messages as bytes: what goes in comes out, and nothing else ever comes out."""

import dataclasses
import hashlib
import random
import resource
import secrets
import struct

import msgpack
import numpy as np
import pytest
from hypothesis import given, strategies as st
from protocol_world import BITS, NOW, SCHEMES, make_world, score, search

from jcbir.errors import FormatError
from jcbir.protocol import authority, owner, server, session, user, wire
from jcbir.protocol._digests import digest
from jcbir.protocol._results import Results, read_results, write_results
from jcbir.protocol.messages import Refusal, Spending
from jcbir.protocol.owner import announce


def messages() -> dict:
    """One real message of every kind that travels (several for the schemes)."""
    world = make_world()
    found = {}
    for scheme in SCHEMES:
        world = search(world, world.codes[:2], scheme=scheme).world
    _, withdrawal = owner.withdraw(world.own, world.names[:2])
    _, revocation = owner.revoke(world.own, [world.me.grant.grant_id])
    succession, appointment = announce(owner.rekey(world.own, draw=secrets.token_bytes))
    recall = owner.recall(world.own, list(world.cloud.images), now=NOW, draw=secrets.token_bytes)
    _, recalled = server.recall(world.cloud, recall, now=NOW, most_bytes=1 << 20)
    extra = [withdrawal, revocation, world.own.card, Refusal("stale-query", "too late")]
    audited = session.audited_system()
    extra += [audited.head, audited.audit, audited.opened]
    inquiry = owner.inquire(world.own, now=NOW, draw=secrets.token_bytes)
    extra += [inquiry, authority.usage(world.holder, inquiry, now=NOW)]
    extra += [succession, appointment, recall, recalled, Spending(bytes(16), 3, 2, ("a", "b"))]
    for message in [
        line.message for line in world.transcript if not isinstance(line.message, owner.Delegation)
    ] + extra:
        found.setdefault(type(message).__name__, []).append(message)
    return found


MESSAGES = None


def samples() -> dict:
    global MESSAGES
    MESSAGES = MESSAGES or messages()
    return MESSAGES


KINDS = sorted(kind.__name__ for kind in wire.MESSAGES)


def test_every_message_kind_is_tested():
    assert sorted(samples()) == KINDS
    numbers = [kind for kind, _, _ in wire.MESSAGES.values()]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind):
    for message in samples()[kind]:
        again = wire.from_bytes(wire.to_bytes(message), expect=type(message))
        assert type(again) is type(message)
        # The canonical digest sees every field, so equal digests are equal messages.
        assert digest(again) == digest(message)
        assert wire.to_bytes(again) == wire.to_bytes(message)


def test_a_search_over_the_wire_equals_one_in_memory():
    world = make_world()

    def through(message):
        return wire.from_bytes(wire.to_bytes(message))

    me, query = user.ask(world.me, world.codes[:2], top=4, now=NOW, draw=secrets.token_bytes)
    cloud, report = score(world, through(query))
    _, ranking = authority.answer(world.holder, through(report), now=NOW)
    _, delivery = server.deliver(cloud, through(ranking))
    _, matches = user.receive(me, through(delivery))
    assert [row[0].distance for row in matches] == [0, 0]
    assert matches[1][0].photograph == world.images[1]


def test_set_up_over_the_wire():
    world = make_world()
    cloud, holder = server.Server(world.own.card), authority.appoint(owner.delegate(world.own), world.holder.identity)
    for publication, catalog in zip(samples()["Publication"], samples()["Catalog"], strict=True):
        cloud = server.accept(cloud, wire.from_bytes(wire.to_bytes(publication)))
        holder = authority.catalog(holder, wire.from_bytes(wire.to_bytes(catalog)))
    moved = world._replace(cloud=cloud, holder=holder)
    found = search(moved, world.codes[:1], scheme="bitsliced", top=1).matches
    assert found[0][0].photograph == world.images[0]


@pytest.mark.parametrize("kind", KINDS)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_flipped_byte_is_noticed(kind, place, flip):
    body = bytearray(wire.to_bytes(samples()[kind][0]))
    body[int(place * len(body))] ^= flip
    with pytest.raises(FormatError):
        wire.from_bytes(bytes(body))


@pytest.mark.parametrize("kind", KINDS)
@given(share=st.floats(0, 1, exclude_max=True), tail=st.binary(max_size=40))
def test_any_truncation_or_tail_is_noticed(kind, share, tail):
    body = wire.to_bytes(samples()[kind][0])
    with pytest.raises(FormatError):
        wire.from_bytes(body[: int(share * len(body))])
    if tail:
        with pytest.raises(FormatError):
            wire.from_bytes(body + tail)


def sealed_up(kind_number: int, body: bytes) -> bytes:
    """A frame with a correct checksum around any body: the schema alone stands between it and the program."""
    header = wire.HEADER.pack(wire.MAGIC, wire.VERSION, kind_number, 0, len(body))
    return header + body + wire._checksum(header, body)


FORMS = {
    int: [(0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)],
    bytes: [(0xC4, 1), (0xC5, 2), (0xC6, 4)],
    str: [(0xD9, 1), (0xDA, 2), (0xDB, 4)],
    list: [(0xDC, 2), (0xDD, 4)],
}
SHORT = {int: (0x00, 0x80), str: (0xA0, 0x20), list: (0x90, 0x10)}


def spelled(plain, longer, path=()):
    """MessagePack by hand: each value in its shortest form, but at one place so many forms longer."""
    if plain is None:
        return b"\xc0"
    kind = type(plain)
    number = plain if kind is int else len(plain.encode() if kind is str else plain)
    base, most = SHORT.get(kind, (0, 0))
    forms = [bytes([base | number])] if number < most else []
    forms += [bytes([tag]) + number.to_bytes(size) for tag, size in FORMS[kind] if number < 1 << 8 * size]
    place, more = longer
    found = forms[min(more, len(forms) - 1) if place == path else 0]
    if kind is list:
        return found + b"".join(spelled(item, longer, (*path, i)) for i, item in enumerate(plain))
    return found + (b"" if kind is int else plain.encode() if kind is str else bytes(plain))


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_is_framed_as_the_format_says(kind):
    for message in samples()[kind]:
        number, codec, _ = wire.MESSAGES[type(message)]
        framed = wire.to_bytes(message)
        body = spelled(codec.pack(message), ((), 0))
        before = struct.pack(">4sBBHQ", b"JCBM", wire.VERSION, number, 0, len(body)) + body
        assert framed == before + hashlib.sha256(before).digest()[:16]


@pytest.mark.parametrize("kind", KINDS)
@given(choice=st.integers(0, 10**6), more=st.integers(1, 3), tail=st.binary(min_size=1, max_size=3))
def test_a_message_has_one_spelling(kind, choice, more, tail):
    """No value in a longer form than it needs, and nothing behind the last."""
    message = samples()[kind][0]
    number, codec, _ = wire.MESSAGES[type(message)]
    plain = codec.pack(message)
    paths = list(positions_in(plain))
    body, path = spelled(plain, ((), 0)), paths[choice % len(paths)]
    for other in (body + tail, spelled(plain, (path, more))):
        if other != body:
            with pytest.raises(FormatError):
                wire.from_bytes(sealed_up(number, other))


@given(images=st.integers(1, 4), opened=st.booleans(), top=st.integers(1, 4), data=st.data())
def test_results_that_do_not_fit_together_are_refused(images, opened, top, data):
    keys = (bytes(32),) * (images * opened)
    order = np.array([data.draw(st.lists(st.integers(0, images - 1), min_size=top, max_size=top))], np.int32)
    whole = Results(tuple("abcd"[:images]), keys, keys, order, np.zeros_like(order))
    again = read_results(write_results(whole))
    assert (again.image_ids, again.keys, again.hashes) == (whole.image_ids, keys, keys)
    np.testing.assert_array_equal(again.order, order)
    outside, place = order.copy(), data.draw(st.integers(0, top - 1))
    outside[0, place] = data.draw(st.sampled_from([-1, images, -images, 2**31 - 1, -(2**31)]))
    for changes in ({"keys": (*keys, bytes(32))}, {"hashes": (*keys, bytes(32))}, {"order": outside}):
        with pytest.raises(FormatError, match="results: must"):
            read_results(write_results(dataclasses.replace(whole, **changes)))


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(kind=st.sampled_from(sorted(number for number, _, _ in wire.MESSAGES.values())), body=st.binary(max_size=64))
def test_garbage_bodies(kind, body):
    try:
        wire.from_bytes(sealed_up(kind, body))
    except FormatError:
        return
    raise AssertionError("garbage was taken for a message")


@given(kind=st.sampled_from(sorted(number for number, _, _ in wire.MESSAGES.values())), plain=PLAIN)
def test_foreign_structures(kind, plain):
    with pytest.raises(FormatError):
        wire.from_bytes(sealed_up(kind, msgpack.packb(plain)))


def positions_in(plain, path=()):
    yield path
    if isinstance(plain, list):
        for place, item in enumerate(plain):
            yield from positions_in(item, (*path, place))


def replaced(plain, path, value):
    if not path:
        return value
    return [replaced(item, path[1:], value) if place == path[0] else item for place, item in enumerate(plain)]


@pytest.mark.parametrize("kind", KINDS)
@given(choice=st.integers(0, 10**6), value=PLAIN)
def test_structures_with_one_field_replaced(kind, choice, value):
    """A structure-aware mutation either still fits the schema (and then round-trips) or is a FormatError."""
    message = samples()[kind][0]
    number, codec, _ = wire.MESSAGES[type(message)]
    plain = codec.pack(message)
    paths = list(positions_in(plain))
    body = sealed_up(number, msgpack.packb(replaced(plain, paths[choice % len(paths)], value)))
    try:
        again = wire.from_bytes(body)
    except FormatError:
        return
    assert wire.to_bytes(again)


@given(blob=st.binary(max_size=80))
def test_arbitrary_bytes(blob):
    with pytest.raises(FormatError):
        wire.from_bytes(blob)


def test_deep_nesting_and_wild_lengths_are_refused_quickly():
    for body in (
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdf\x00\x01\x00\x00",
        b"\xc7\x05\x01abcde",
    ):
        for number, _, _ in wire.MESSAGES.values():
            with pytest.raises(FormatError):
                wire.from_bytes(sealed_up(number, body))


def test_limits_version_and_kind():
    good = wire.to_bytes(Refusal("code", "reason"))
    with pytest.raises(FormatError, match="at most"):
        wire.from_bytes(good, limit=40)
    wire.from_bytes(good, limit=len(good))
    with pytest.raises(FormatError, match="expected a Query, got a Refusal"):
        wire.from_bytes(good, expect=type(samples()["Query"][0]))
    # What an earlier version wrote says so.
    with pytest.raises(FormatError, match="message: must be of version 3, got 2"):
        wire.from_bytes(good[:4] + b"\x02" + good[5:])
    huge = wire.HEADER.pack(wire.MAGIC, wire.VERSION, 12, 0, 2**60) + bytes(16)
    with pytest.raises(FormatError, match="at most"):
        wire.read_header(huge)


def test_what_may_not_be_written():
    world = make_world()
    with pytest.raises(ValueError, match="Delegation"):
        wire.to_bytes(owner.delegate(world.own))
    with pytest.raises(ValueError, match="64"):
        wire.to_bytes(
            dataclasses.replace(samples()["Grant" if "Grant" in samples() else "Enrollment"][0], signature=b"")
        )
    assert world.own.card.bits == BITS


@pytest.mark.slow
def test_a_hundred_thousand_mutations():
    """Byte-level mutations behind a correct checksum: only messages or FormatErrors, in bounded memory."""
    numbers = random.Random(1)
    bodies = []
    for found in samples().values():
        number, codec, _ = wire.MESSAGES[type(found[0])]
        bodies.append((number, msgpack.packb(codec.pack(found[0]))))
    bodies = [(number, body) for number, body in bodies if len(body) < 20_000]
    assert len(bodies) > 8
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for _ in range(100_000):
        number, body = bodies[numbers.randrange(len(bodies))]
        mutated = bytearray(body)
        for _ in range(numbers.randint(1, 3)):
            place = numbers.randrange(len(mutated))
            change = numbers.randrange(4)
            if change == 0:
                mutated[place] ^= 1 << numbers.randrange(8)
            elif change == 1:
                # Type and length bytes of msgpack: what hurts most is a wrong one of these.
                mutated[place] = numbers.choice(
                    [0x90, 0x9F, 0xC0, 0xC4, 0xC6, 0xC7, 0xCF, 0xD9, 0xDB, 0xDC, 0xDD, 0xDF]
                )
            elif change == 2:
                del mutated[place:]
            else:
                mutated[place:place] = numbers.randbytes(numbers.randint(1, 8))
            if not mutated:
                mutated = bytearray(b"\xc0")
        try:
            wire.from_bytes(sealed_up(number, bytes(mutated)))
        except FormatError:
            refused += 1
    assert refused > 30_000
    # Kibibytes: no mutation may make the reader allocate what its own length does not justify.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
