"""Key files: what was written comes back; a wrong passphrase, a flipped byte or a foreign file is a typed error."""

import dataclasses
import hashlib
import os
import secrets
import struct
import textwrap
import unicodedata

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, given, settings, strategies as st
from paillier_vectors import stored_key
from protocol_world import NOW, make_world, search

from jcbir.errors import FormatError, IntegrityError
from jcbir.paillier.public import PublicKey
from jcbir.paillier.secret import SecretKey
from jcbir.protocol import authority, owner, server, user
from jcbir.protocol._digests import digest
from jcbir.ranking._keys import tag_key
from jcbir.storage import _cards, _keys as keys, _secret_files as secret_files
from jcbir.storage._secret_files import MINIMUM_WORK
from jcbir.storage._store import create_store

PASSPHRASE = "correct horse battery"
WORK = MINIMUM_WORK


def write(path, secret, **options):
    keys.write_secret(path, secret, passphrase=PASSPHRASE, draw=secrets.token_bytes, work=WORK, **options)


def holders():
    world = make_world()
    return [stored_key("small-subgroup"), world.own, owner.delegate(world.own), world.me.keys, world.me]


def test_every_secret_has_a_file():
    assert {type(holder) for holder in holders()} == set(keys.SECRETS)


@pytest.mark.parametrize("number", range(5))
def test_round_trip(tmp_path, number):
    holder = holders()[number]
    write(tmp_path / "secret", holder)
    again = keys.read_secret(tmp_path / "secret", passphrase=PASSPHRASE, expect=type(holder), unsafe_small=True)
    assert again == holder
    assert os.stat(tmp_path / "secret").st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def independent(path, passphrase):
    """The content of a secret file, by its description: header, scrypt, AES-256-GCM over the header as well."""
    blob = path.read_bytes()
    magic, version, _, work, reserved = struct.unpack(">4sBBBB", blob[:8])
    assert (magic, version, reserved) == (b"JCBS", 2, 0)
    key = hashlib.scrypt(passphrase.encode(), salt=blob[8:24], n=2**work, r=8, p=1, maxmem=1 << 26, dklen=32)
    return AESGCM(key).decrypt(blob[24:36], blob[36:], blob[:36])


def test_a_second_reading_agrees_and_nothing_of_two_files_is_the_same(tmp_path):
    holder = make_world().me.keys
    for name in ("one", "two"):
        write(tmp_path / name, holder)
    assert independent(tmp_path / "one", PASSPHRASE) == independent(tmp_path / "two", PASSPHRASE)
    assert holder.signing_secret in independent(tmp_path / "one", PASSPHRASE)
    one, two = ((tmp_path / name).read_bytes() for name in ("one", "two"))
    for start, end in ((8, 24), (24, 36), (36, 52)):
        assert one[start:end] != two[start:end]


def test_every_flipped_byte_of_a_card_is_an_error(tmp_path):
    path, card = tmp_path / "card", make_world().own.card
    _cards.write_card(path, card)
    good = path.read_bytes()
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(FormatError):
            _cards.read_card(path, unsafe_small=True)
    digits = hashlib.sha256(b"jcbir card v2\0" + good[8:-32]).hexdigest()
    assert _cards.card_fingerprint(card).split(" ") == textwrap.wrap(digits[:32], 4)


def test_the_system_works_from_its_files(tmp_path):
    world = make_world()
    for name, holder in (("own", world.own), ("authority", owner.delegate(world.own)), ("me", world.me)):
        write(tmp_path / name, holder)
    _cards.write_card(tmp_path / "card", world.own.card)
    card = _cards.read_card(tmp_path / "card", unsafe_small=True)
    assert card == world.own.card
    assert _cards.card_fingerprint(card) == _cards.card_fingerprint(world.own.card)
    cloud = dataclasses.replace(world.cloud, card=card)
    delegation = keys.read_secret(
        tmp_path / "authority", passphrase=PASSPHRASE, expect=owner.Delegation, unsafe_small=True
    )
    holder = authority.appoint(delegation, world.holder.identity)
    for catalog in world.holder.catalogs.values():
        holder = authority.catalog(holder, catalog)
    me = keys.read_secret(tmp_path / "me", passphrase=PASSPHRASE, expect=user.User)
    own = keys.read_secret(tmp_path / "own", passphrase=PASSPHRASE, expect=owner.Owner)
    found = search(world._replace(own=own, cloud=cloud, holder=holder, me=me), world.codes[:1], scheme="packed", top=1)
    assert found.matches[0][0].photograph == world.images[0]
    assert server.Server(card).card.public.fingerprint == own.secret.public.fingerprint


def test_no_secret_byte_stands_in_a_file(tmp_path):
    world = make_world()
    write(tmp_path / "own", world.own)
    _cards.write_card(tmp_path / "card", world.own.card)
    content = (tmp_path / "own").read_bytes() + (tmp_path / "card").read_bytes()
    own = world.own
    prime = own.secret.p.prime
    for secret in (
        own.image_master,
        own.masking_key,
        own.signing_secret,
        prime.to_bytes((prime.bit_length() + 7) // 8),
    ):
        assert secret not in content


def test_wrong_passphrase_and_wrong_kind(tmp_path):
    world = make_world()
    write(tmp_path / "me", world.me)
    with pytest.raises(IntegrityError, match="passphrase"):
        keys.read_secret(tmp_path / "me", passphrase="another horse", expect=user.User)
    with pytest.raises(FormatError, match=r"must hold an owner's keys .*, got a"):
        keys.read_secret(tmp_path / "me", passphrase=PASSPHRASE, expect=owner.Owner)
    _cards.write_card(tmp_path / "card", world.own.card)
    (tmp_path / "card").chmod(0o600)
    with pytest.raises(FormatError, match=r"must hold a user's admission .*, got another file"):
        keys.read_secret(tmp_path / "card", passphrase=PASSPHRASE, expect=user.User)
    with pytest.raises(FormatError, match="not a public file"):
        _cards.read_card(tmp_path / "me", unsafe_small=True)


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), cut=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_noticed(tmp_path, place, flip, cut):
    path = tmp_path / "me"
    if not path.exists():
        write(path, make_world().me.keys)
        (tmp_path / "good").write_bytes(path.read_bytes())
        _cards.write_card(tmp_path / "card", make_world().own.card)
    good = (tmp_path / "good").read_bytes()
    spot = int(place * len(good))
    bad = good[:spot] if cut else good[:spot] + bytes([good[spot] ^ flip]) + good[spot + 1 :]
    path.write_bytes(bad)
    with pytest.raises((FormatError, IntegrityError)):
        keys.read_secret(path, passphrase=PASSPHRASE, expect=user.UserKeys)
    card = (tmp_path / "card").read_bytes()
    spot = int(place * len(card))
    (tmp_path / "bad").write_bytes(card[:spot] if cut else card[:spot] + bytes([card[spot] ^ flip]) + card[spot + 1 :])
    with pytest.raises(FormatError):
        _cards.read_card(tmp_path / "bad", unsafe_small=True)


def test_a_file_that_others_may_read_is_refused(tmp_path):
    write(tmp_path / "me", make_world().me.keys)
    (tmp_path / "me").chmod(0o640)
    with pytest.raises(PermissionError, match="640"):
        keys.read_secret(tmp_path / "me", passphrase=PASSPHRASE, expect=user.UserKeys)


def test_what_may_not_be_written(tmp_path):
    me = make_world().me
    with pytest.raises(ValueError, match=r"secret: must be one of .*, got a Card"):
        write(tmp_path / "x", me.card)
    with pytest.raises(ValueError, match="at least 8"):
        keys.write_secret(tmp_path / "x", me, passphrase="short", draw=secrets.token_bytes, work=WORK)
    with pytest.raises(ValueError, match="work"):
        keys.write_secret(tmp_path / "x", me, passphrase=PASSPHRASE, draw=secrets.token_bytes, work=3)
    write(tmp_path / "me", me)
    with pytest.raises(FileExistsError):
        write(tmp_path / "me", me.keys)
    write(tmp_path / "me", me.keys, replace=True)
    assert keys.read_secret(tmp_path / "me", passphrase=PASSPHRASE, expect=user.UserKeys) == me.keys
    assert sorted(path.name for path in tmp_path.iterdir()) == ["me"]


def test_a_pending_query_is_not_kept(tmp_path):
    world = make_world()
    me, _ = user.ask(world.me, world.codes[:1], top=1, now=1, draw=secrets.token_bytes)
    write(tmp_path / "me", me)
    assert keys.read_secret(tmp_path / "me", passphrase=PASSPHRASE, expect=user.User) == world.me


def test_secret_key_alone(tmp_path):
    key = stored_key("full-2048")
    write(tmp_path / "key", key)
    again = keys.read_secret(tmp_path / "key", passphrase=PASSPHRASE, expect=SecretKey)
    assert digest((again.public.n, again.p.prime)) == digest((key.public.n, key.p.prime))


@pytest.mark.parametrize(
    "phrase", ["crème brûlée", "Straße über Zürich", "한국어 암호문구입니다", "パスワードがぎぐげご"]
)
def test_a_passphrase_is_the_same_composed_and_decomposed(tmp_path, phrase):
    holder = user.UserKeys(bytes(32), bytes(range(32)))
    forms = [unicodedata.normalize(form, phrase) for form in ("NFC", "NFD")]
    assert forms[0] != forms[1]
    for written, typed in (forms, forms[::-1]):
        keys.write_secret(
            tmp_path / "me", holder, passphrase=written, draw=secrets.token_bytes, work=WORK, replace=True
        )  # fmt: skip
        assert keys.read_secret(tmp_path / "me", passphrase=typed, expect=user.UserKeys) == holder
    with pytest.raises(IntegrityError):
        keys.read_secret(tmp_path / "me", passphrase=phrase + "!", expect=user.UserKeys)


def test_a_file_of_an_earlier_version_opens_as_its_passphrase_was_typed(tmp_path, monkeypatch):
    holder, typed = user.UserKeys(bytes(32), bytes(range(32))), unicodedata.normalize("NFD", "crème brûlée")
    with monkeypatch.context() as patch:
        patch.setattr(secret_files, "spellings", lambda passphrase: [passphrase])
        keys.write_secret(tmp_path / "me", holder, passphrase=typed, draw=secrets.token_bytes, work=WORK)
    assert keys.read_secret(tmp_path / "me", passphrase=typed, expect=user.UserKeys) == holder


@pytest.mark.parametrize("phrase", ["éèêëéèê", "\u0078\u0302" * 7, "seven.."])
def test_the_length_is_counted_in_letters(tmp_path, phrase):
    typed = unicodedata.normalize("NFD", phrase)
    with pytest.raises(ValueError, match="must be at least 8 letters, got 7"):
        keys.write_secret(
            tmp_path / "me", user.UserKeys(bytes(32), bytes(32)), passphrase=typed, draw=secrets.token_bytes
        )


def test_a_passphrase_that_is_no_text(tmp_path):
    for act in (
        lambda: write_phrase(tmp_path / "me", "ab\ud800cdefgh"),
        lambda: keys.read_secret(tmp_path / "good", passphrase="ab\ud800cdefgh", expect=user.UserKeys),
    ):
        write_phrase(tmp_path / "good", "abcdefgh")
        with pytest.raises(ValueError, match=r"passphrase: must be Unicode text, got a lone surrogate") as refused:
            act()
        assert "cdef" not in str(refused.value)


def write_phrase(path, phrase):
    keys.write_secret(
        path, user.UserKeys(bytes(32), bytes(32)), passphrase=phrase, draw=secrets.token_bytes, work=WORK, replace=True
    )


def test_weak_keys_are_refused_at_every_door(tmp_path):
    """A modulus of 16 bits, a prime one, one with a small factor, and a key pair that decrypts wrongly."""
    world, prime = make_world(), 2**2203 - 1
    weak = {251 * 257: "must have 2048", prime: "got a prime", 3 * prime: "multiple of 3"}
    for place, (n, reason) in enumerate(weak.items()):
        card = dataclasses.replace(world.own.card, public=tag_key(PublicKey(n, n + 1)))
        _cards.write_card(tmp_path / f"{place}", card)
        own = dataclasses.replace(world.own, card=card)
        admission = owner.admit(own, user.enroll(world.me.keys), now=NOW, draw=secrets.token_bytes)[1]
        doors = (
            lambda path=tmp_path / f"{place}": _cards.read_card(path),
            lambda path=tmp_path / f"store-{place}", card=card: create_store(path, card),
            lambda admission=admission: user.join(world.me.keys, admission, owner_key=world.own.card.owner_key),
        )
        for door in doors:
            with pytest.raises(ValueError, match=reason):
                door()
        assert not (tmp_path / f"store-{place}").exists()
    good = stored_key("subgroup-2048")
    # 1 modulo q^2 and of full order modulo p^2: what passed while the order was tested modulo n^2.
    p, q = good.p.prime, good.q.prime
    bent = pow(good.public.h, 1, p * p) + p * p * ((1 - good.public.h) * pow(p * p, -1, q * q) % (q * q))
    pair = dataclasses.replace(good, public=dataclasses.replace(good.public, h=bent))
    delegation = owner.Delegation(world.own.card, pair, bytes(32))
    for name, secret in (("pair", pair), ("delegation", delegation), ("small", owner.delegate(world.own))):
        write(tmp_path / name, secret)
        with pytest.raises(ValueError, match="must"):
            keys.read_secret(tmp_path / name, passphrase=PASSPHRASE, expect=type(secret))
