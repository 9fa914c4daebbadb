"""A scheme in one file: it enters the tables and works everywhere, with no other file changed.

One-time additive masks of code bits modulo 256. The owner's are expanded from a fixed key and a nonce for each image:
the nonces are the hint. The user's are expanded from a seed for each query: the seed is the opening. So the toy needs
everything that a lattice scheme needs and Paillier does not.
"""

import dataclasses
import hashlib
import secrets
from typing import NamedTuple

import numpy as np
import pytest

from jcbir.errors import FormatError, KeyMismatchError
from jcbir.protocol import authority, owner, server, session
from jcbir.protocol._signatures import sign
from jcbir.protocol.leakage import describe
from jcbir.protocol.refusals import TamperedQueryError
from jcbir.ranking import (
    KEY_KINDS,
    SCHEMES,
    SECRET_KEY_KINDS,
    KeyKind,
    Layout,
    Leakage,
    Operations,
    Scheme,
    SecretKeyKind,
    Seen,
    Shapes,
    Work,
    build_index,
    cost,
    mask_index,
    mask_query,
    open_scores,
    plan,
    prepare,
    rank,
    score,
    trapdoors,
)
from jcbir.sealing import Photograph

SEED_BYTES = 16


class ToyPublic(NamedTuple):
    fingerprint: str


class ToySecret(NamedTuple):
    public: ToyPublic
    number: int

    def __repr__(self) -> str:
        return "ToySecret(redacted)"


def masks(seeds, *, key, bits):
    """uint8[n, k]: one mask for each seed."""
    streams = [hashlib.shake_256(key + seed.tobytes()).digest(bits) for seed in seeds]
    return np.frombuffer(b"".join(streams), np.uint8).reshape(-1, bits)


def secret_bytes(secret):
    return secret.number.to_bytes(32)


def generate(*, draw, **_):
    number = int.from_bytes(draw(32))
    return ToySecret(ToyPublic(hashlib.sha256(b"toy" + number.to_bytes(32)).hexdigest()), number)


def encrypt_query(public, rows, *, blinders, engine="auto"):
    return np.concatenate([rows + masks(blinders, key=b"", bits=rows.shape[1]), blinders], axis=1)


def encrypt_index(secret, rows, *, draw, engine="auto"):
    nonces = np.frombuffer(draw(SEED_BYTES * len(rows)), np.uint8).reshape(-1, SEED_BYTES)
    return np.concatenate([rows + masks(nonces, key=secret_bytes(secret), bits=rows.shape[1]), nonces], axis=1)


def decrypt(secret, rows, *, engine="auto"):
    bits = rows.shape[1] - 2 * SEED_BYTES
    body, nonces, seeds = np.split(rows, [bits, bits + SEED_BYTES], axis=1)
    return body - masks(nonces, key=secret_bytes(secret), bits=bits) + masks(seeds, key=b"", bits=bits)


def draw_seeds(public, count, *, draw, engine="auto"):
    return np.frombuffer(draw(SEED_BYTES * count), np.uint8).reshape(-1, SEED_BYTES)


TOY_KEYS = KeyKind(
    name="toy",
    key_type=ToyPublic,
    to_fields=lambda public: {"fingerprint": bytes.fromhex(public.fingerprint)},
    from_fields=lambda fields: ToyPublic(fields["fingerprint"].hex()),
    check=lambda public, **_: None,
    blinder_bytes=lambda public: SEED_BYTES,
    blinders=draw_seeds,
    encrypt=encrypt_query,
    example=lambda *, bits, code_bits: ToyPublic("00" * 32),
)
TOY_SECRET_KEYS = SecretKeyKind(
    name="toy",
    generate=generate,
    to_fields=lambda secret: {"number": secret.number},
    from_fields=lambda public, fields: ToySecret(public, fields["number"]),
    check=lambda secret, **_: None,
    encrypt=encrypt_index,
    blinders=lambda secret, count, **options: draw_seeds(secret.public, count, **options),
    decrypt=decrypt,
)


def shapes(layout):
    return Shapes(
        index=(layout.count, layout.bits), query=(1, layout.bits), scores=(layout.count, layout.bits), blinders=0
    )


def toy_distances(codes, code):
    return np.count_nonzero(codes != code, axis=1).astype(np.int32)


TOY = Scheme(
    name="toy",
    description="toy (additive masks)",
    key_kind="toy",
    encrypted_query=True,
    plan=lambda public, *, count, bits, base: Layout("toy", bits, count, 8 * bits, 256, 1, count),
    isometries=lambda layout: 1,
    shapes=shapes,
    encode_index=lambda codes, layout: codes.astype(np.uint8),
    encode_query=lambda codes, layout: codes.astype(np.uint8),
    prepare=None,
    score=lambda public, index, trapdoor, *, blinders, engine: index.ciphertexts - trapdoor.body,
    decode=lambda pieces, public: np.concatenate([np.count_nonzero(rows, axis=1) for _, rows in pieces]).astype(
        np.int32
    ),
    distances=toy_distances,
    cost=lambda layout, group: Work(Operations(layout.count, 0, 0, 1, 0, 0, 0, layout.count), (), digits=0),
    leakage=Leakage(lambda trapdoors: Seen("nothing", {}), lambda rows, public: Seen("where the bits differ", {})),
)


@pytest.fixture
def toy(monkeypatch):
    """The toy scheme in its place in the tables."""
    monkeypatch.setitem(SCHEMES, "toy", TOY)
    monkeypatch.setitem(KEY_KINDS, "toy", TOY_KEYS)
    monkeypatch.setitem(SECRET_KEY_KINDS, "toy", TOY_SECRET_KEYS)
    return TOY


@pytest.mark.parametrize("name", ["toy", *SCHEMES])
def test_any_scheme_runs_by_its_record_alone(toy, name):
    scheme, draw = SCHEMES[name], secrets.token_bytes
    kind, secret_kind = KEY_KINDS[scheme.key_kind], SECRET_KEY_KINDS[scheme.key_kind]
    secret = secret_kind.generate(draw=draw, bits=256, code_bits=16, unsafe_small=True)
    public = kind.from_fields(kind.to_fields(secret.public))
    assert public == secret.public
    assert secret_kind.from_fields(public, secret_kind.to_fields(secret)) == secret
    codes, queries = (np.random.default_rng(n).random((n, 16)) < 0.5 for n in (30, 2))
    layout, masking_key = plan(public, scheme=name, count=30, bits=16), draw(32)

    masked = mask_index(codes, layout, masking_key=masking_key)
    index = build_index(
        masked, layout, encrypt=lambda rows: secret_kind.encrypt(secret, rows, draw=draw), public=public
    )
    hint, stored = index.hint, index._replace(hint=None)

    def encrypt(rows):
        return kind.encrypt(public, rows, blinders=kind.blinders(public, len(rows), draw=draw))

    asked = mask_query(queries, layout, masking_key=masking_key)
    doors = trapdoors(asked, layout, encrypt=encrypt, public=public)
    assert stored.ciphertexts.nbytes == cost(public, scheme=name, count=30, bits=16).index_bytes
    for door, code, under in zip(doors, queries, asked, strict=True):
        sent = door._replace(opening=None)
        fresh = kind.blinders(public, scheme.shapes(layout).blinders, draw=draw)
        scores = score(public, prepare(public, stored) if scheme.prepare else stored, sent, blinders=fresh)
        distances = open_scores(secret, scores, hint=hint, opening=door.opening, engine="python")
        if name != "integer":
            assert distances.tolist() == np.count_nonzero(codes != code, axis=1).tolist()
        if scheme.isometries(layout) == 1:
            assert distances.tolist() == scheme.distances(masked, under[0]).tolist()
        assert len(rank(distances, top=5)) == 5


def test_keys_of_another_kind_are_refused(toy):
    secret = TOY_SECRET_KEYS.generate(draw=secrets.token_bytes)
    with pytest.raises(ValueError, match="public: must be a paillier key for packed, got ToyPublic"):
        plan(secret.public, scheme="packed", count=1, bits=16)
    layout = plan(secret.public, scheme="toy", count=2, bits=16)
    index = build_index(
        np.zeros((2, 16), bool),
        layout,
        encrypt=lambda rows: encrypt_index(secret, rows, draw=secrets.token_bytes),
        public=secret.public,
    )
    with pytest.raises(KeyMismatchError, match="index: must be of key"):
        score(
            ToyPublic("00" * 32),
            index,
            trapdoors(
                np.zeros((1, 16), bool),
                layout,
                public=ToyPublic("00" * 32),
                encrypt=lambda rows: encrypt_query(None, rows, blinders=np.zeros((1, SEED_BYTES), np.uint8)),
            )[0],
            blinders=np.zeros((0, SEED_BYTES), np.uint8),
        )


@pytest.mark.parametrize("name", ["toy", *SCHEMES])
def test_any_scheme_runs_through_all_four_parties(toy, name):
    """Publish, ask, score, open, deliver, by messages as bytes: no other library file knows of the toy."""
    scheme, draw = SCHEMES[name], secrets.token_bytes
    kind = SECRET_KEY_KINDS[scheme.key_kind]
    key = kind.generate(draw=draw, bits=256, code_bits=16, unsafe_small=True)
    numbers = np.random.default_rng(5)
    codes, images = numbers.random((9, 16)) < 0.5, [Photograph(numbers.bytes(18), "image/png") for _ in range(9)]
    names = [f"photo-{i}" for i in range(9)]
    state = session.found(collection="photos", bits=16, secret=key, draw=draw)
    for part in (slice(0, 5), slice(5, 9)):
        state = session.publish(
            state, codes[part], images[part], names[part], schemes=[name], cipher="aes-gcm", draw=draw
        )
    state = session.admit(state, now=session.NOW, draw=draw)
    queries = codes[[2, 7]] ^ (np.arange(16) == 3)
    state, found = session.search(state, queries, top=4, now=session.NOW, scheme=name, draw=draw)
    image_of = {owner.pseudonym(state.owner, label): image for label, image in zip(names, images, strict=True)}
    code_of = {owner.pseudonym(state.owner, label): code for label, code in zip(names, codes, strict=True)}
    for code, row in zip(queries, found.matches, strict=True):
        assert len(row) == 4
        for match in row:
            assert match.photograph == image_of[match.image_id]
            if name != "integer":
                assert match.distance == np.count_nonzero(code_of[match.image_id] ^ code)
        if name != "integer":
            assert [match.distance for match in row] == sorted(np.count_nonzero(codes ^ code, axis=1))[:4]
    # What is for the authority alone goes past the server: hints in the catalog, openings sealed.
    catalogs = [line.message for line in state.transcript if type(line.message).__name__ == "Catalog"]
    publications = [line.message for line in state.transcript if type(line.message).__name__ == "Publication"]
    assert all(index.hint is None for publication in publications for index in publication.indexes)
    assert all(door.opening is None for door in found.query.trapdoors)
    assert len(catalogs[0].hints) == (name in ("toy", "lattice"))
    # Openings of the toy open its scores; those of schemes with lanes speak of the sentinels.
    assert bool(found.query.openings) == (name != "integer")
    rows = {(row["scheme"], row["party"]) for row in describe(state.transcript, holder=state.authority)}
    assert (name, "authority") in rows
    # The next epoch, its key sealed to the authority.
    new = owner.rekey(state.owner, draw=draw)
    following = authority.succeed(state.authority, owner.announce(new)[1]).secret
    assert (following == key) == (kind.renew is None)
    assert following == new.secret


def test_a_scheme_of_an_unknown_kind_of_keys_is_refused(toy, monkeypatch):
    monkeypatch.setitem(SCHEMES, "toy", SCHEMES["toy"]._replace(key_kind="nope"))
    key = TOY_SECRET_KEYS.generate(draw=secrets.token_bytes)
    with pytest.raises(ValueError, match=r"key_kind: must be one of .* for toy, got 'nope'"):
        plan(key.public, scheme="toy", count=1, bits=16)


def test_openings_and_hints_of_another_request_are_refused(toy):
    draw = secrets.token_bytes
    key = TOY_SECRET_KEYS.generate(draw=draw)
    state = session.found(collection="photos", bits=16, secret=key, draw=draw)
    codes, images = np.eye(16, dtype=bool)[:2], [Photograph(b"same", "image/png")] * 2
    state = session.publish(state, codes, images, ["a", "b"], schemes=["toy"], cipher="aes-gcm", draw=draw)
    state = session.admit(state, now=session.NOW, draw=draw)
    queries = []
    for _ in range(2):
        state, query = session.ask(state, codes[:1], top=1, now=session.NOW, scheme="toy", draw=draw)
        queries.append(query)
    first, second = queries
    with pytest.raises(TamperedQueryError, match="openings"):
        server.admit_query(state.server, dataclasses.replace(first, openings=second.openings), now=session.NOW)
    none = np.zeros((0, SEED_BYTES), np.uint8)
    _, report = server.score_query(state.server, first, blinders=none, identity=state.cloud, now=session.NOW)
    with pytest.raises(FormatError, match="openings"):
        authority.admit(state.authority, dataclasses.replace(report, openings=second.openings), now=session.NOW)
    authority.answer(state.authority, report, now=session.NOW)
    ask = sign(dataclasses.replace(first.request, scheme="packed"), secret=state.users[0].keys.signing_secret)
    with pytest.raises(ValueError, match="scheme: must be one for toy keys"):
        server.admit_query(state.server, dataclasses.replace(first, request=ask), now=session.NOW)


def test_scores_that_open_one_by_one_keep_their_hints(toy):
    """A segment without images is not shredded where rows are decrypted by themselves, each with its hint."""
    draw, codes = secrets.token_bytes, np.eye(16, dtype=bool)[:4]
    state = session.found(collection="photos", bits=16, secret=TOY_SECRET_KEYS.generate(draw=draw), draw=draw)
    for part in ("ab", "cd"):
        images = [Photograph(b"same", "image/png")] * 2
        place = slice(2 * (part == "cd"), 2 * (part == "cd") + 2)
        state = session.publish(state, codes[place], images, list(part), schemes=["toy"], cipher="aes-gcm", draw=draw)
    state = session.admit(state, now=session.NOW, draw=draw)
    own, withdrawal = owner.withdraw(state.owner, ["a", "b"])
    cloud, holder = server.withdraw(state.server, withdrawal), authority.withdraw(state.authority, withdrawal)
    state = dataclasses.replace(state, owner=own, server=cloud, authority=holder)
    _, found = session.search(state, codes[:1], top=4, now=session.NOW, scheme="toy", draw=draw)
    assert [match.distance for match in found.matches[0]] == [2, 2]
