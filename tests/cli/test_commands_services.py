"""The commands against services in processes of their own, under TLS: whom they trust, and a new epoch for all."""

import contextlib
import dataclasses
import datetime
import io
import ipaddress
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from typing import NamedTuple

import httpx
import numpy as np
import pytest
from command_world import (
    AUTHORITY_PASSPHRASE,
    CLOUD_PASSPHRASE,
    IDENTITIES,
    PASSPHRASE,
    write_network,
    write_photographs,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paillier_vectors import stored_key

from jcbir.cli import owner as owner_commands, rekey as rekeying
from jcbir.cli.main import run_command
from jcbir.cli.outbox import pending
from jcbir.data import read_image
from jcbir.paillier import blinders
from jcbir.protocol import server, user, wire
from jcbir.protocol.messages import Refusal
from jcbir.protocol.refusals import RefusalError
from jcbir.service import client
from jcbir.storage._identities import read_identity
from jcbir.storage._keys import read_secret
from jcbir.storage._load import load_server
from jcbir.storage._store import open_store

ROOT = pathlib.Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "jcbir"]
SERVE = """
from jcbir.service._pool import Pool
begin = Pool.__init__
def begin_quickly(pool, entry, *hello, **options):
    package, name = entry.rsplit(".", 1)
    begin(pool, f"{package} import {name} as it; it.SLOW_SECONDS = 1.0; from {entry}", *hello, **options)
Pool.__init__ = begin_quickly
from jcbir.__main__ import main
main()
"""
"""The command, whose workers compile nothing: for a key of full size it takes longer than all of the tests."""
REKEY = """
import sys, time
from jcbir.cli import rekey
from jcbir.storage import _keys
_keys.WORK = 14
if sys.argv.pop(1) == "prepare":
    rekey.take_epoch = lambda *_: time.sleep(600)
from jcbir.__main__ import main
main()
"""
"""The command at the least of scrypt's prices, to its end or until all is prepared."""
PASSPHRASES = {
    "JCBIR_PASSPHRASE": PASSPHRASE,
    "JCBIR_AUTHORITY_PASSPHRASE": AUTHORITY_PASSPHRASE,
    "JCBIR_CLOUD_PASSPHRASE": CLOUD_PASSPHRASE,
}


def certify(name, key, *, issuer=None, days=(-1, 2)):
    """A certificate for a key, by an issuer (its own certificate and key) or by itself."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    by, signer = (subject, key) if issuer is None else (issuer[0].subject, issuer[1])
    begin, end = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=day) for day in days)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(by).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([address]), False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
    )  # fmt: skip
    if issuer is None:
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        made = made.add_extension(usage, True)
    return made.sign(signer, hashes.SHA256())


def write_certificates(folder):
    """Two authorities; of the first a certificate in force and one that has expired, each with its key."""
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    issuers = {}
    for name in ("trusted", "stranger"):
        key = ec.generate_private_key(ec.SECP256R1())
        issuers[name] = (certify(name, key), key)
        (folder / f"{name}.pem").write_bytes(issuers[name][0].public_bytes(pem))
    for name, days in (("service", (-1, 2)), ("expired", (-9, -2))):
        key = ec.generate_private_key(ec.SECP256R1())
        made = certify(name, key, issuer=issuers["trusted"], days=days)
        (folder / f"{name}.pem").write_bytes(made.public_bytes(pem))
        (folder / f"{name}.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), **PASSPHRASES}


class Service:
    """`jcbir serve ...` in a process of its own."""

    def __init__(self, log, *arguments, port=None, tls="service"):
        self.port, self.log = port or free_port(), pathlib.Path(log)
        self.arguments = [*arguments, "--port", str(self.port)]
        self.arguments += ["--certificate", f"{tls}.pem", "--private-key", f"{tls}.key"]
        self.url = f"https://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, "serve", *self.arguments, "--json"],
                stdout=subprocess.DEVNULL, stderr=log, env=environment(),
            )  # fmt: skip

    def wait(self):
        for _ in range(1200):
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def end(self, number=signal.SIGKILL):
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(60)

    def epoch(self):
        trusted = ssl.create_default_context(cafile="trusted.pem")
        return httpx.get(f"{self.url}/health", verify=trusted, trust_env=False, timeout=30).json()["epoch"]


def call(*arguments, status=0):
    """Run a command with `--json` in this process; its answer."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        found = run_command([*map(str, arguments), "--json"])
    assert found == status, err.getvalue()
    assert PASSPHRASE not in out.getvalue() + err.getvalue()
    return json.loads(out.getvalue())


def admit(fingerprint, folder):
    call("owner", "grant", "jcbir-user/enrollment.jcbir", "--out", folder, "--label", folder)
    call("user", "join", folder, "--fingerprint", fingerprint)


class Place(NamedTuple):
    """Both services and the options that reach them."""

    authority: Service
    cloud: Service

    @property
    def links(self):
        return ("--cloud", self.cloud.url, "--authority", self.authority.url, "--certificate", "trusted.pem")

    def ask(self, out, *more, certificate=("--certificate", "trusted.pem"), url=None, status=0):
        images = ("album/a002.png", "album/a004.png")
        where = ("--cloud", url or self.cloud.url, *certificate)
        return call("user", "query", *images, "--top", "5", "--out", out, *where, *more, status=status)

    def check_answers(self, out):
        """Every picture of the album comes back byte for byte, each query's own at distance 0."""
        names = call("owner", "info", "--names")["names"]
        for asked, query in zip(("a002.png", "a004.png"), self.ask(out)["queries"], strict=True):
            assert len(query["matches"]) == 5
            assert asked in {names[m["image_id"]]["path"] for m in query["matches"] if m["distance"] == 0}
            for match in query["matches"]:
                original = read_image(pathlib.Path("album", names[match["image_id"]]["path"]))
                assert read_image(match["file"]).tobytes() == original.tobytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A collection of five images at a cloud and an authority, and a user; its folder is the current one."""
    root = tmp_path_factory.mktemp("services")
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        for module in ("_keys", "_identities"):
            patch.setattr(f"jcbir.storage.{module}.WORK", 14)
        patch.setattr(owner_commands, "generate_keys", lambda *, bits, draw: stored_key("subgroup-2048"))
        for name, phrase in PASSPHRASES.items():
            patch.setenv(name, phrase)
        patch.chdir(root)
        write_certificates(root)
        write_network(root / "net.safetensors")
        write_photographs(root / "album", 5)
        for side in ("cloud", "authority"):
            call(side, "init")
        found = call("owner", "init", "photos", *IDENTITIES, "--network", "net.safetensors", "--cipher", "aes-gcm")
        # Copies: what the owner changes later, cloud and authority learn by its orders alone.
        for name in ("authority.secret", "collection.public"):
            shutil.copy(root / "jcbir-owner" / name, root / name)
        held = ("--delegation", "authority.secret", "--journal", "journal", "--workers", "1")
        authority = Service("authority.log", "authority", *held)
        stack.callback(authority.end)
        cloud = Service("cloud.log", *cloud_arguments("store", authority))
        stack.callback(cloud.end)
        both = Place(authority.wait(), cloud.wait())
        assert call("owner", "publish", "album", "--segment", "2", *both.links)["published"] == 5
        call("user", "init")
        admit(found["fingerprint"], "first")
        yield both


def cloud_arguments(store, authority, certificate="trusted.pem"):
    # As many blinders as by default would be made all the time that the tests run.
    return [
        "cloud", "--card", "collection.public", "--store", store, "--authority", authority.url,
        "--authority-certificate", certificate, "--workers", "1", "--blinder-pool", "64",
    ]  # fmt: skip


def test_the_right_authority_is_trusted(place):
    place.check_answers("trusted")


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [(("--certificate", "stranger.pem"), "issuer certificate"), ((), "issuer certificate")],
)
def test_another_authority_is_not(place, certificate, reason):
    refused = place.ask("untrusted", certificate=certificate, status=4)
    assert refused["error"] == "unreachable"
    assert refused["reason"].startswith(f"{place.cloud.url}: its certificate is not to be trusted")
    assert reason in refused["reason"]
    # The owner neither; what it revokes waits until it can be told.
    links = ("--cloud", place.cloud.url, *certificate)
    call("owner", "grant", "jcbir-user/enrollment.jcbir", "--out", f"spare{len(certificate)}", "--label", "spare")
    spare = call("owner", "info")["grants"][-1]["grant"]
    assert "not to be trusted" in call("owner", "revoke", spare, *links, status=4)["reason"]
    assert call("owner", "send", *place.links)["waiting"] == 0


def test_a_certificate_that_has_expired(place):
    expired = Service("expired.log", *cloud_arguments("other", place.authority), tls="expired")
    try:
        refused = place.ask("expired", url=expired.wait().url, status=4)
        assert "not to be trusted: certificate has expired" in refused["reason"]
    finally:
        expired.end()


def test_a_cloud_that_does_not_trust_its_authority(place):
    store = shutil.copytree("store", "copied")
    cloud = Service("doubt.log", *cloud_arguments(store, place.authority, "stranger.pem"))
    try:
        refused = place.ask("doubt", "--timeout", "4", url=cloud.wait().url, status=4)
        assert refused["error"] == "unreachable" and "the authority does not answer" in refused["reason"]
    finally:
        cloud.end()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--certificate", "service.pem"], "must come with a private key file"),
        (["--certificate", "service.pem", "--private-key", "expired.key"], "must belong to expired.key"),
        (["--certificate", "no.pem", "--private-key", "service.key"], "no.pem"),
    ],
)
def test_a_service_that_cannot_serve_tls_says_so(place, options, reason):
    arguments = [*cloud_arguments("other-tls", place.authority), "--port", str(free_port()), *options, "--json"]
    done = subprocess.run(
        [*COMMAND, "serve", *arguments], env=environment(), capture_output=True, text=True, timeout=120
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    answer = json.loads(done.stdout)
    assert answer["error"] == "mistake" and reason in answer["reason"]


def test_what_was_refused_is_refused_after_a_crash(place):
    """Both services are ended by SIGKILL; no query is answered twice, no grant comes back to life."""

    def join(guest):
        call("user", "init", "--home", guest)
        given = call("owner", "grant", f"{guest}/enrollment.jcbir", "--out", f"for-{guest}", "--label", guest)
        call("user", "join", f"for-{guest}", "--home", guest, "--fingerprint", given["fingerprint"])
        return read_secret(f"{guest}/member.secret", passphrase=PASSPHRASE, expect=user.User)

    guest, leaving = join("guest"), join("leaving")
    code = np.zeros((1, guest.card.bits), bool)

    def ask(me):
        return user.ask(me, code, top=2, now=int(time.time()), draw=secrets.token_bytes, scheme="bitsliced")[1]

    def report_on(query):
        """What a cloud that plays along would send to the authority."""
        with open_store("store") as store:
            state = dataclasses.replace(load_server(store), revoked=frozenset())
            count = server.blinders_needed(state, query)
            fresh = blinders(guest.card.public.key, count, draw=secrets.token_bytes)
            identity = read_identity("jcbir-cloud/identity.secret", side="cloud", passphrase=CLOUD_PASSPHRASE)
            return server.score_query(state, query, blinders=fresh, identity=identity, now=int(time.time()))[1]

    def verdicts(query, report):
        """The codes by which cloud and authority refuse."""
        with client.connect(place.cloud.url, certificate=pathlib.Path("trusted.pem")) as link:
            with pytest.raises(RefusalError) as refused:
                client.search(link, query)
            context = client.trusted_context(place.authority.url, certificate=pathlib.Path("trusted.pem"))
            body = wire.to_bytes(report)
            answer = httpx.post(f"{place.authority.url}/v1/reports", content=body, verify=context, trust_env=False)
        return [refused.value.code, wire.from_bytes(answer.content, expect=Refusal).code]

    query = ask(guest)
    with client.connect(place.cloud.url, certificate=pathlib.Path("trusted.pem")) as link:
        assert client.search(link, query).images
    report = report_on(query)
    assert verdicts(query, report) == ["replayed-query"] * 2
    call("owner", "revoke", "leaving", *place.links)
    for service in place:
        service.end()
    for service in place:
        service.start()
        service.wait()
    assert verdicts(query, report) == ["replayed-query"] * 2
    query = ask(leaving)
    assert verdicts(query, report_on(query)) == ["revoked-grant"] * 2


def interrupted_rekey(place, condition, *, until="end"):
    """`jcbir owner rekey` in a process, ended by SIGKILL as soon as the condition holds."""
    command = [sys.executable, "-c", REKEY, until, "owner", "rekey", *place.links, "--json"]
    with open("rekey.log", "ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment())
    try:
        for _ in range(12000):
            if condition() or process.poll() is not None:
                break
            time.sleep(0.01)
    finally:
        process.kill()
    return process.wait(60) == -signal.SIGKILL


def test_a_new_epoch_for_everybody(place):
    """The last test: killed while it prepares and while it sends, then done; both services restarted after it."""
    following = pathlib.Path("jcbir-owner", rekeying.EPOCH)
    assert interrupted_rekey(place, lambda: len(pending(following)) >= 4, until="prepare")
    assert place.cloud.epoch() == place.authority.epoch() == 0
    place.check_answers("meanwhile")
    killed = interrupted_rekey(place, lambda: place.cloud.epoch() == 1)
    done = call("owner", "rekey", *place.links)
    assert done["waiting"] == 0 and done["in_collection"] == 5
    # Had the second run come to its end before the signal, the third opened an epoch of its own.
    assert done["epoch"] == (1 if killed else 2)
    assert place.cloud.epoch() == place.authority.epoch() == done["epoch"]
    assert place.ask("ended", status=3)["error"] == "revoked-grant"
    admit(done["fingerprint"], "second")
    place.check_answers("after")
    for service in (place.cloud, place.authority):
        service.end(signal.SIGTERM)
    # The same commands, with the files of the first epoch.
    for service in (place.authority, place.cloud):
        service.start()
        service.wait()
    place.check_answers("restarted")
    # The cloud takes the segment's sentinel for an image.
    assert call("store", "verify", "store")["images"] == 6
    assert "Traceback" not in place.cloud.log.read_text() + place.authority.log.read_text()
