"""What the cloud is, sees, keeps and logs holds no secret: every secret's bytes are searched for."""

import dataclasses
import logging
import re
import sys

import numpy as np
from protocol_world import make_world, new_user, numbers_of
from service_rig import random_codes, running

from jcbir.protocol import owner
from jcbir.sealing import image_key
from jcbir.service._telemetry import JsonFormatter

CODES = random_codes(3)


def secrets_of(world, user):
    own = world.own
    found = set(numbers_of(own.secret)) - set(numbers_of(own.card.public))
    found |= {
        own.image_master,
        own.masking_key,
        own.naming_key,
        own.signing_secret,
        world.identity.secret,
        world.holder.identity.secret,
    }
    found |= {user.masking_key, user.keys.sealing_secret, user.keys.signing_secret}
    found |= {
        image_key(own.image_master, image_id=image_id, epoch=own.card.epoch, segment=segment)
        for image_id, segment in own.image_ids.items()
    }
    return found | {secret.hex().encode() for secret in found}


def test_cloud_holds_no_secret(tmp_path, caplog):
    world = make_world(label="secrets")
    me = new_user(world.own)[0]
    caplog.set_level(logging.INFO)
    with running(tmp_path, world=world, cloud={"workers": 1}, processes=True) as rig:
        rig.publish()
        for scheme in ("integer", "packed", "bitsliced"):
            assert rig.search(CODES, scheme=scheme, me=me)
        _, query = rig.ask(CODES, me=me)
        rig.post("cloud", dataclasses.replace(query, salt=bytes(32)))
        rig.send("cloud", "POST", "/v1/queries", b"nonsense")
        told = rig.send("cloud", "GET", "/metrics").content + rig.send("cloud", "GET", "/health").content
        answers = b"".join(rig.authority.seen)
    traffic = b"".join(rig.cloud.seen)
    files = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}
    logs = "\n".join(JsonFormatter().format(record) for record in caplog.records).encode()
    everything = b"\0".join([traffic, told, logs, answers, *files.values()])
    wanted = secrets_of(world, me)
    assert len(wanted) > 80
    for secret in wanted:
        assert secret not in everything
    for name, image in zip(world.names, world.images, strict=True):
        assert name.encode() not in everything and image.data not in everything
    # Two bytes stand in many a longer number by chance.
    for code in (*world.codes, *CODES):
        assert not re.search(rf"\b{np.packbits(code).tobytes().hex()}\b".encode(), logs)
    # The search itself works: what is public is found where it belongs.
    modulus = world.own.card.public.key.n.to_bytes(32)
    assert modulus in traffic and any(modulus in content for content in files.values())
    assert me.grant.grant_id.hex().encode() in logs and b"tampered-query" in logs and b"malformed" in logs
    assert owner.pseudonym(world.own, world.names[0]).encode() in files[tmp_path / "store" / "catalogue.sqlite"]


def test_a_query_is_not_in_the_log(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with running(tmp_path, cloud={"workers": 1}) as rig:
        rig.publish()
        _, query = rig.ask(CODES)
        assert rig.post("cloud", query).status_code == 200
    logs = "\n".join(JsonFormatter().format(record) for record in caplog.records)
    for trapdoor in query.trapdoors:
        assert trapdoor.body.tobytes().hex() not in logs
    for content in (query.salt, query.request.commitment, query.request.signature, query.request.nonce):
        assert content.hex() not in logs


def test_an_exception_is_logged_without_its_values():
    try:
        raise ValueError("a decrypted number: 480913775")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    line = JsonFormatter().format(record)
    assert "480913775" not in line
    assert "ValueError" in line and "decrypted" not in line
