"""Nothing of a signed message can be altered: every field of each of them, one by one, and every key of small order."""

import contextlib
import dataclasses
import secrets

import numpy as np
import pytest
from protocol_world import NOW, SCHEMES, make_world, score, search, session_of

from jcbir.protocol import audit, authority, messages, owner, server, session, user, wire
from jcbir.protocol._digests import digest
from jcbir.protocol._signatures import check_signature, is_weak, sign, verifying_key
from jcbir.protocol.messages import (
    Admission,
    Card,
    Catalog,
    Enrollment,
    Grant,
    Hint,
    Publication,
    Revocation,
    SealedImage,
)
from jcbir.protocol.refusals import (
    ForeignCollectionError,
    ForgedGrantError,
    ForgedReplyError,
    RefusalError,
    StaleQueryError,
    TamperedQueryError,
)
from jcbir.sealing._format import PHOTOGRAPH, header


def signed_messages():
    """Name to (message, what its receiver does with it): one of every kind of message that is signed."""
    world = make_world()
    said = {type(line.message): line.message for line in world.transcript}
    me, query = user.ask(world.me, world.codes[:1], top=2, now=NOW, draw=secrets.token_bytes)
    cloud, report = score(world._replace(me=me), query)
    answered, ranking = authority.answer(world.holder, report, now=NOW)
    succession, appointment = owner.announce(owner.rekey(world.own, draw=secrets.token_bytes))
    _, publication, catalog = owner.publish(
        world.own,
        world.codes[:1],
        world.images[:1],
        ["new"],
        schemes=SCHEMES,
        cipher="aes-gcm",
        draw=secrets.token_bytes,
    )
    withdrawal, revocation = owner.withdraw(world.own, world.names[:1])[1], owner.revoke(world.own, [bytes(16)])[1]
    recall = owner.recall(world.own, list(world.cloud.images)[:2], now=NOW, draw=secrets.token_bytes)
    inquiry = owner.inquire(world.own, now=NOW, draw=secrets.token_bytes)
    usage = authority.usage(answered, inquiry, now=NOW)
    delivery = server.deliver(cloud, ranking)[1]

    shown = session.audited_system()

    def ask_with(grant):
        request = sign(dataclasses.replace(query.request, grant=grant), secret=world.me.keys.signing_secret)
        server.admit_query(world.cloud, dataclasses.replace(query, request=request), now=NOW)

    return {
        "Publication": (publication, lambda message: server.accept(world.cloud, message)),
        "Catalog": (catalog, lambda message: authority.catalog(world.holder, message)),
        "Withdrawal": (withdrawal, lambda message: server.withdraw(world.cloud, message)),
        "Withdrawal at the authority": (withdrawal, lambda message: authority.withdraw(world.holder, message)),
        "Revocation": (revocation, lambda message: server.revoke(world.cloud, message)),
        "Revocation at the authority": (revocation, lambda message: authority.revoke(world.holder, message)),
        "Succession": (succession, lambda message: server.succeed(world.cloud, message)),
        "Appointment": (appointment, lambda message: authority.succeed(world.holder, message)),
        "Recall": (recall, lambda message: server.recall(world.cloud, message, now=NOW, most_bytes=1)),
        "Inquiry": (inquiry, lambda message: authority.usage(world.holder, message, now=NOW)),
        "Usage": (usage, lambda message: owner.check_usage(world.own, inquiry, message)),
        "Enrollment": (
            said[Enrollment], lambda message: owner.admit(world.own, message, now=NOW, draw=secrets.token_bytes)
        ),
        "Admission": (
            said[Admission],
            lambda message: user.join(world.me.keys, message, owner_key=world.own.card.owner_key, unsafe_small=True),
        ),
        "Grant": (query.request.grant, ask_with),
        "Request": (
            query.request,
            lambda message: server.admit_query(world.cloud, dataclasses.replace(query, request=message), now=NOW),
        ),
        "ScoreReport": (report, lambda message: authority.answer(world.holder, message, now=NOW)),
        "Head": (shown.head, lambda message: server.take_head(shown.server, message)),
        "Head at the authority": (
            owner.head(world.own, now=NOW)[1], lambda message: authority.take_head(world.holder, message)
        ),
        "Head at the user": (
            owner.head(world.own, now=NOW)[1],
            lambda message: user.receive(me, dataclasses.replace(delivery, head=message)),
        ),
        "Audit": (
            shown.audit,
            lambda message: server.open_blocks(
                shown.server, shown.query, message, indexes=shown.indexes, rows=shown.rows,
                randomness=shown.randomness, identity=shown.cloud,
            ),
        ),
        "Opened": (
            shown.opened,
            lambda message: audit.check_opened(
                shown.user.card, shown.query, shown.ranking, shown.head, message, audit=shown.audit
            ),
        ),
        "Ranking": (ranking, lambda message: server.deliver(cloud, message)),
        "Ranking at the user": (
            ranking, lambda message: user.receive(me, dataclasses.replace(delivery, ranking=message))
        ),
    }  # fmt: skip


SIGNED = signed_messages()


def altered(value):
    """Values of the same kind that are not this one."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int) and value.bit_length() > 60:
        # Keys refuse what cannot be a modulus.
        return [value + 2]
    if isinstance(value, int):
        return [value + 1, max(value - 1, 0) if value else 2]
    if isinstance(value, str):
        return [value + "x"]
    if isinstance(value, bytes):
        return [bytes([value[0] ^ 1]) + value[1:], value[:-1] + bytes([value[-1] ^ 128])] if value else [bytes(32)]
    if isinstance(value, np.ndarray):
        other = value.copy()
        other.flat[-1] ^= 1
        return [other]
    if dataclasses.is_dataclass(value):
        found = []
        for field in dataclasses.fields(value):
            for other in altered(getattr(value, field.name))[:1]:
                # Fields that belong together, such as a key's, are not altered alone.
                with contextlib.suppress(ValueError, TypeError):
                    found.append(dataclasses.replace(value, **{field.name: other}))
        return found
    if hasattr(value, "_fields"):
        parts = {name: altered(getattr(value, name)) for name in value._fields}
        return [value._replace(**{name: others[0]}) for name, others in parts.items() if others]
    if isinstance(value, tuple):
        if not value:
            return [(Hint("packed", bytes(32)),)]
        return [
            value[:-1],
            value[::-1] if digest(value[::-1]) != digest(value) else (*value, value[0]),
            (altered(value[0])[0], *value[1:]),
        ]
    return []


CASES = [
    pytest.param(name, field.name, id=f"{name}-{field.name}")
    for name, (message, _) in SIGNED.items()
    for field in dataclasses.fields(message)
]


@pytest.mark.parametrize(("name", "field"), CASES)
def test_every_field_is_signed(name, field):
    message, receive = SIGNED[name]
    receive(message)
    others = {"wrapped": [(b"none",)], "suspended": [(bytes(16),)]}.get(field) or altered(getattr(message, field))
    assert others, f"no other value of {field} is known"
    for other in others:
        with pytest.raises(ValueError) as refused:
            receive(dataclasses.replace(message, **{field: other}))
        # What is no signature's business is a commitment's or a schema's: a refusal or a typed error in any case.
        assert isinstance(refused.value, (RefusalError, ValueError))
        if field not in ("scores", "openings", "wrapped", "grant", "card", "signature"):
            assert isinstance(refused.value, RefusalError), repr(refused.value)


def test_the_list_has_every_signed_message():
    kinds = {type(message) for message, _ in SIGNED.values()}
    every = {
        value
        for value in vars(messages).values()
        if dataclasses.is_dataclass(value) and "signature" in {field.name for field in dataclasses.fields(value)}
    }
    assert kinds == every


@pytest.mark.parametrize("name", SIGNED)
def test_no_signature_and_a_strangers_signature_are_refused(name):
    message, receive = SIGNED[name]
    header = dataclasses.replace(message, openings=b"", scores=()) if name == "ScoreReport" else message
    stranger = dataclasses.replace(message, signature=sign(header, secret=bytes(32)).signature)
    for bad in (dataclasses.replace(message, signature=b""), stranger):
        with pytest.raises((ForgedReplyError, ForgedGrantError, TamperedQueryError)):
            receive(bad)


# An independent count: points of the curve in affine coordinates over the field, and how often one adds to nothing.
P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def add(a, b):
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P


def square_root(value):
    root = pow(value, (P + 3) // 8, P)
    if root * root % P == value:
        return root
    root = root * pow(2, (P - 1) // 4, P) % P
    return root if root * root % P == value else None


def is_small(encoding):
    y = (int.from_bytes(encoding, "little") & ~(1 << 255)) % P
    x = square_root((y * y - 1) * pow(D * y * y + 1, -1, P) % P)
    if x is None:
        return False
    point = (x, y)
    for _ in range(3):
        point = add(point, point)
    return point == (0, 1)


def small_encodings():
    """All 32-byte strings that decode to a point of order 1, 2, 4 or 8, those beyond the field's size included."""
    order_eight = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
    ys = {0, 1, P - 1, int.from_bytes(order_eight, "little"), P - int.from_bytes(order_eight, "little")}
    numbers = {y + lift for y in ys for lift in (0, P) if y + lift < 1 << 255}
    return [(number | sign_bit << 255).to_bytes(32, "little") for number in numbers for sign_bit in (0, 1)]


def test_keys_of_small_order_are_refused():
    found = small_encodings()
    assert len(found) == 14
    for encoding in found:
        assert is_small(encoding) and is_weak(encoding)
    for number in (2, 3, 4, 5, 9, P + 2, P + 3, 2**255 - 1):
        encoding = number.to_bytes(32, "little")
        assert is_weak(encoding) == is_small(encoding)
    assert not is_small(verifying_key(bytes(32))) and not is_weak(verifying_key(bytes(32)))
    # Under the neutral element the signature (R, s) = (key, 0) fits every message: `cryptography` takes it.
    neutral = (1).to_bytes(32, "little")
    for text in ("a", "b"):
        forged = Revocation(text, 0, 1, (), neutral + bytes(32))
        with pytest.raises(ForgedReplyError, match="small order"):
            check_signature(forged, public=neutral)
    world = make_world()
    weak = dataclasses.replace(user.enroll(world.me.keys), signing_key=neutral, signature=neutral + bytes(32))
    with pytest.raises(ForgedReplyError):
        owner.admit(world.own, weak, now=NOW, draw=secrets.token_bytes)
    services = {"cloud_key": bytes(32), "authority_key": neutral}
    for name, key in services.items():
        with pytest.raises(ValueError, match=f"{name}: must be an Ed25519 key of full order"):
            owner.rekey(world.own, draw=secrets.token_bytes, **{name: key})


def test_what_is_drawn_afresh_differs():
    """Salts, nonces, image nonces, blinders and masters: no two alike, over items and over time."""
    world = make_world()
    found = [search(world, world.codes[:3], scheme="packed") for _ in range(2)]
    for name in ("nonce", "commitment", "signature"):
        assert len({getattr(one.query.request, name) for one in found}) == 2
    assert len({one.query.salt for one in found}) == 2
    rows = np.concatenate([scores.ciphertexts for one in found for row in one.report.scores for scores in row])
    assert len(np.unique(rows, axis=0)) == len(rows)
    # The same photographs published twice: no nonce comes again within a segment or in the other one.
    published = [
        owner.publish(
            world.own, world.codes[:4], world.images[:4], list("abcd"), cipher="aes-gcm", draw=secrets.token_bytes
        )
        for _ in range(2)
    ]
    nonces = {header(image.sealed, version=PHOTOGRAPH).nonce for _, made, _ in published for image in made.images}
    assert len(nonces) == sum(len(made.images) for _, made, _ in published)
    names = [
        {image.image_id for image in made.images} - {owner.pseudonym(world.own, n) for n in "abcd"}
        for _, made, _ in published
    ]
    assert names[0] and names[0].isdisjoint(names[1])
    rows = np.concatenate([index.ciphertexts for _, made, _ in published for index in made.indexes])
    assert len(np.unique(rows, axis=0)) == len(rows)
    recalls = {owner.recall(world.own, ["a"], now=NOW, draw=secrets.token_bytes).nonce for _ in range(3)}
    assert len(recalls) == 3
    blinders = owner.blinder_pool(world.own, 8, draw=secrets.token_bytes)
    assert len(np.unique(blinders, axis=0)) == 8


def session_publication(world) -> Publication:
    return next(line.message for line in session_of(world).transcript if isinstance(line.message, Publication))


def test_the_parts_of_a_card_and_a_grant_are_all_in_the_digest():
    world = make_world()
    publication = session_publication(world)
    for record, name in ((world.own.card, "card"), (world.me.grant, "grant")):
        assert isinstance(record, (Card, Grant)), name
    for other in altered(world.own.card):
        with pytest.raises(ValueError):
            server.accept(server.Server(world.own.card), dataclasses.replace(publication, card=other))
    assert isinstance(publication.images[0], SealedImage)
    assert {field.name for field in dataclasses.fields(Catalog)} >= {"hashes", "hints", "image_ids"}


def test_only_the_owner_learns_how_much_is_asked():
    """The owner hears how many queries and pictures a grant took of this day, and not which."""
    world = make_world()
    me, query = user.ask(world.me, world.codes[:2], top=3, now=NOW, draw=secrets.token_bytes)
    _, report = score(world._replace(me=me), query)
    holder, ranking = authority.answer(world.holder, report, now=NOW)
    asked = owner.inquire(world.own, now=NOW, draw=secrets.token_bytes)
    told = authority.usage(holder, asked, now=NOW)
    (use,) = owner.check_usage(world.own, asked, told).values()
    assert (use.grant_id, use.queries, use.images) == (me.grant.grant_id, 2, len(ranking.image_ids))
    assert not any(image_id.encode() in wire.to_bytes(told) for image_id in ranking.image_ids)
    # Another day, nothing yet.
    tomorrow = owner.inquire(world.own, now=NOW + 86400, draw=secrets.token_bytes)
    assert authority.usage(holder, tomorrow, now=NOW + 86400).uses == ()

    with pytest.raises(StaleQueryError):
        authority.usage(holder, asked, now=NOW + 301)
    with pytest.raises(ForgedReplyError, match="answers inquiry"):
        owner.check_usage(world.own, owner.inquire(world.own, now=NOW, draw=secrets.token_bytes), told)
    stranger = dataclasses.replace(world.own, signing_secret=bytes(32))
    with pytest.raises(ForgedReplyError):
        authority.usage(holder, owner.inquire(stranger, now=NOW, draw=secrets.token_bytes), now=NOW)
    other = dataclasses.replace(asked, epoch=asked.epoch + 1)
    with pytest.raises(ForeignCollectionError):
        authority.usage(holder, other, now=NOW)
