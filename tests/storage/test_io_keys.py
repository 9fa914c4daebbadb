"""Key files: what was written comes back; a wrong passphrase, a flipped byte or a foreign file is a typed error."""

import dataclasses
import os
import secrets

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from paillier_vectors import stored_key
from protocol_world import make_world, search

from jcbir.errors import FormatError, IntegrityError
from jcbir.paillier.secret import SecretKey
from jcbir.protocol import authority, owner, server, user
from jcbir.protocol._digests import digest
from jcbir.storage import keys

PASSPHRASE = "correct horse battery"
WORK = keys.MINIMUM_WORK


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
    again = keys.read_secret(tmp_path / "secret", passphrase=PASSPHRASE, expect=type(holder))
    assert again == holder
    assert os.stat(tmp_path / "secret").st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_the_system_works_from_its_files(tmp_path):
    world = make_world()
    for name, holder in (("own", world.own), ("authority", owner.delegate(world.own)), ("me", world.me)):
        write(tmp_path / name, holder)
    keys.write_card(tmp_path / "card", world.own.card)
    card = keys.read_card(tmp_path / "card")
    assert card == world.own.card
    assert keys.card_fingerprint(card) == keys.card_fingerprint(world.own.card)
    cloud = dataclasses.replace(world.cloud, card=card)
    delegation = keys.read_secret(tmp_path / "authority", passphrase=PASSPHRASE, expect=owner.Delegation)
    holder = dataclasses.replace(authority.appoint(delegation), catalogues=world.holder.catalogues)
    me = keys.read_secret(tmp_path / "me", passphrase=PASSPHRASE, expect=user.User)
    own = keys.read_secret(tmp_path / "own", passphrase=PASSPHRASE, expect=owner.Owner)
    found = search(world._replace(own=own, cloud=cloud, holder=holder, me=me), world.codes[:1], scheme="packed", top=1)
    assert found.matches[0][0].image.tobytes() == world.images[0].tobytes()
    assert server.Server(card).card.public.fingerprint == own.secret.public.fingerprint


def test_no_secret_byte_stands_in_a_file(tmp_path):
    world = make_world()
    write(tmp_path / "own", world.own)
    keys.write_card(tmp_path / "card", world.own.card)
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
    with pytest.raises(FormatError, match="holds no Owner"):
        keys.read_secret(tmp_path / "me", passphrase=PASSPHRASE, expect=owner.Owner)
    keys.write_card(tmp_path / "card", world.own.card)
    (tmp_path / "card").chmod(0o600)
    with pytest.raises(FormatError, match="not a secret file"):
        keys.read_secret(tmp_path / "card", passphrase=PASSPHRASE, expect=user.User)
    with pytest.raises(FormatError, match="not a public file"):
        keys.read_card(tmp_path / "me")


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), cut=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_noticed(tmp_path, place, flip, cut):
    path = tmp_path / "me"
    if not path.exists():
        write(path, make_world().me.keys)
        (tmp_path / "good").write_bytes(path.read_bytes())
        keys.write_card(tmp_path / "card", make_world().own.card)
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
        keys.read_card(tmp_path / "bad")


def test_a_file_that_others_may_read_is_refused(tmp_path):
    write(tmp_path / "me", make_world().me.keys)
    (tmp_path / "me").chmod(0o640)
    with pytest.raises(PermissionError, match="640"):
        keys.read_secret(tmp_path / "me", passphrase=PASSPHRASE, expect=user.UserKeys)


def test_what_may_not_be_written(tmp_path):
    me = make_world().me
    with pytest.raises(ValueError, match="no file holds a Card"):
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
