"""A small owner's folder for the tests of the commands: a breakable key, a network of a few thousand weights."""

import contextlib
import functools
import json
import pathlib
import secrets
import shutil
import sys
import tempfile
import time
import types

import jax
import numpy as np
import PIL.Image

from jcbir.cli import workspace as workspaces
from jcbir.cli.main import run_command
from jcbir.models import Preprocessing, resnet_backbone, small
from jcbir.protocol import authority, server, wire
from jcbir.protocol.messages import Appointment, Catalog, Head, Publication, Revocation, Succession, Withdrawal
from jcbir.ranking import KEY_KINDS
from jcbir.storage._identities import read_identity
from jcbir.storage._weights import write_weights

PASSPHRASE = "correct horse battery"
AUTHORITY_PASSPHRASE = "another horse altogether"
CLOUD_PASSPHRASE = "a horse in the clouds"
IDENTITIES = (
    "--cloud-identity", "jcbir-cloud/identity.public", "--authority-identity", "jcbir-authority/identity.public",
)  # fmt: skip
BITS = 16
ADDRESSES = ("--cloud", "https://cloud", "--authority", "https://authority")


@functools.cache
def small_network(key, **options):
    """A small network and what its file says of it."""
    module = small(stages=(1,), **options)
    variables = jax.jit(module.init)(jax.random.key(key), np.zeros((1, 16, 16, 3), np.float32))
    about = resnet_backbone(module, variables, Preprocessing(size=16)).description
    return jax.tree.map(np.asarray, variables), about


def write_network(path, *, bits=BITS, key=0):
    variables, about = small_network(key, width=4, bits=bits)
    write_weights(path, variables, metadata=about)
    return path


def write_features(path, *, width=16, key=0):
    """A network without a hash head, for squares of 16 pixels: what a few photographs need in place of a ResNet50."""
    variables, about = small_network(key, width=width)
    write_weights(path, variables, metadata=about)
    return path


def write_kinds(folder, count, *, kinds=("red", "green", "blue"), start=0):
    """Class folders of photographs that their color tells apart."""
    for number, kind in enumerate(kinds):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for each in range(start, start + count):
            noise = np.random.default_rng([number, each]).integers(-60, 60, (18, 20, 3))
            pixels = np.clip(np.eye(3)[number] * 160 + 50 + noise, 0, 255).astype(np.uint8)
            PIL.Image.fromarray(pixels).save(folder / kind / f"{each:03d}.png")
    return folder


def write_photographs(folder, count, *, label="a", start=0):
    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.random.default_rng([start, count, *label.encode()])
    for number in range(start, start + count):
        pixels = numbers.integers(0, 256, (16 + number % 3, 20, 3)).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{label}{number:03d}.png")
    return folder


def run(capsys, *arguments, status=0):
    """Run a command with `--json`; its answer, which must be the one line on standard output."""
    capsys.readouterr()
    found = run_command([*map(str, arguments), "--json"])
    streams = capsys.readouterr()
    assert found == status, streams.err
    lines = streams.out.splitlines()
    assert len(lines) == 1, streams.out
    assert PASSPHRASE not in streams.out + streams.err and AUTHORITY_PASSPHRASE not in streams.out + streams.err
    return json.loads(lines[0])


def open_workspace(path):
    return workspaces.open_workspace(path, passphrase=PASSPHRASE, work=14)


MADE = {}


def once(capsys, *words):
    """Run a command that begins a party's folder, once for all tests; later ones get copies of folders and answer."""
    if words not in MADE:
        answer, kept = run(capsys, *words), tempfile.TemporaryDirectory()
        for folder in pathlib.Path().glob("jcbir-*"):
            shutil.copytree(folder, pathlib.Path(kept.name, folder))
        MADE[words] = answer, kept
    answer, kept = MADE[words]
    shutil.copytree(kept.name, ".", dirs_exist_ok=True)
    return dict(answer)


def make_identities(capsys):
    """What cloud and authority do before there is a collection."""
    for party in ("cloud", "authority"):
        once(capsys, party, "init")


class Services:
    """Cloud and authority as the commands see them: orders in, queries answered; every message goes through bytes."""

    def __init__(self, delegation):
        self.cloud = server.Server(delegation.card)
        self.identity = read_identity("jcbir-cloud/identity.secret", side="cloud", passphrase=CLOUD_PASSPHRASE)
        own = read_identity("jcbir-authority/identity.secret", side="authority", passphrase=AUTHORITY_PASSPHRASE)
        self.holder = authority.appoint(delegation, own)
        self.owner_state = None
        self.orders = []
        self.unreachable = False
        self.cheat = lambda report: report
        self.published = {}
        self.recalls, self.most_bytes = 0, 1 << 20

    @contextlib.contextmanager
    def connect(self, url, *, certificate=None, insecure_http=False, timeout=60.0):
        yield url

    def send_order(self, url, message):
        if self.unreachable:
            raise ConnectionError(f"{url}: nobody answers")
        message = wire.from_bytes(wire.to_bytes(message))
        self.orders.append((url, type(message).__name__))
        if url == "https://cloud":
            take = {
                Publication: server.accept,
                Withdrawal: server.withdraw,
                Revocation: server.revoke,
                Head: server.take_head,
                Succession: server.succeed,
            }
            known = {segment.number for segment in self.cloud.segments}
            if isinstance(message, Publication):
                self.published[message.segment] = message.indexes
            if not (isinstance(message, Publication) and message.segment in known):
                self.cloud = take[type(message)](self.cloud, message)
        else:
            take = {
                Catalog: authority.catalog,
                Withdrawal: authority.withdraw,
                Revocation: authority.revoke,
                Head: authority.take_head,
                Appointment: authority.succeed,
            }
            self.holder = take[type(message)](self.holder, message)

    def living(self):
        """Pseudonyms of the images at the cloud; it does not know which of what it has are sentinels."""
        catalogs = self.holder.catalogs.values()
        return set(self.cloud.images) - {part.image_ids[place] for part in catalogs for place in part.sentinels}

    def fetch_health(self, url):
        if self.unreachable:
            raise ConnectionError(f"{url}: nobody answers")
        return {"ok": True, "epoch": (self.cloud if url == "https://cloud" else self.holder).card.epoch}

    def recall(self, url, message):
        message = wire.from_bytes(wire.to_bytes(message))
        self.recalls += 1
        self.cloud, recalled = server.recall(
            self.cloud, message, now=int(time.time()), most_bytes=self.most_bytes
        )  # fmt: skip
        return recalled

    def inquire(self, url, message):
        if self.unreachable:
            raise ConnectionError(f"{url}: nobody answers")
        message = wire.from_bytes(wire.to_bytes(message))
        return wire.from_bytes(wire.to_bytes(authority.usage(self.holder, message, now=int(time.time()))))

    def search(self, url, query):
        query, now = wire.from_bytes(wire.to_bytes(query)), int(time.time())
        kind, public = KEY_KINDS[self.cloud.card.public.kind], self.cloud.card.public.key
        count = server.blinders_needed(self.cloud, query)
        if kind.randomness is None:
            blinders = kind.blinders(public, count, draw=secrets.token_bytes)
        else:
            self.randomness = kind.randomness(public, count, draw=secrets.token_bytes)
            blinders = kind.blind(public, self.randomness)
        self.cloud, report = server.score_query(self.cloud, query, blinders=blinders, identity=self.identity, now=now)
        self.report = self.cheat(report)
        self.query, self.scored = query, self.cloud
        self.holder, ranking = authority.answer(self.holder, self.report, now=now)
        self.cloud, delivery = server.deliver(self.cloud, ranking)
        return delivery

    def audit(self, url, message):
        message = wire.from_bytes(wire.to_bytes(message))
        rows = np.stack([np.concatenate([part.ciphertexts for part in row]) for row in self.report.scores])
        return server.open_blocks(
            self.scored, self.query, message, indexes=self.published, rows=rows, randomness=self.randomness,
            identity=self.identity,
        )  # fmt: skip


def install_services(monkeypatch, delegation):
    """Put cloud and authority behind the client's calls."""
    made = Services(delegation)
    module = types.ModuleType("jcbir.service.client")
    for name in ("connect", "fetch_health", "send_order", "search", "recall", "audit", "inquire"):
        setattr(module, name, getattr(made, name))
    monkeypatch.setitem(sys.modules, "jcbir.service.client", module)
    return made
