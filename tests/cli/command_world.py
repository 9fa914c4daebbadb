"""A small owner's folder for the tests of the commands: a breakable key, a network of a few thousand weights."""

import contextlib
import json
import secrets
import sys
import time
import types

import jax
import numpy as np
import PIL.Image

from jcbir.cli import workspace as homes
from jcbir.cli.main import run_command
from jcbir.models import Preprocessing, resnet_backbone, small
from jcbir.paillier.secret import owner_blinders
from jcbir.protocol import authority, epochs, server, wire
from jcbir.protocol.messages import Appointment, Catalogue, Publication, Revocation, Succession, Withdrawal
from jcbir.storage.weights import write_weights

PASSPHRASE = "correct horse battery"
BITS = 16
ADDRESSES = ("--cloud", "http://cloud", "--authority", "http://authority")


def write_network(path, *, bits=BITS, key=0):
    module = small(stages=(1,), width=4, bits=bits)
    variables = module.init(jax.random.key(key), np.zeros((1, 16, 16, 3), np.float32))
    about = resnet_backbone(module, variables, Preprocessing(size=16)).description
    write_weights(path, jax.tree.map(np.asarray, variables), metadata=about)
    return path


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
    assert PASSPHRASE not in streams.out + streams.err
    return json.loads(lines[0])


def open_home(path):
    return homes.open_home(path, passphrase=PASSPHRASE, work=14)


class Services:
    """Cloud and authority as the commands see them: orders in, queries answered; every message goes through bytes."""

    def __init__(self, delegation):
        self.cloud = server.Server(delegation.card)
        self.holder = authority.appoint(delegation)
        self.owner_state = None
        self.orders = []
        self.unreachable = False
        self.recalls, self.most_bytes = 0, 1 << 20

    @contextlib.contextmanager
    def connect(self, url, *, certificate=None, timeout=60.0):
        yield url

    def send_order(self, url, message):
        if self.unreachable:
            raise ConnectionError(f"{url}: nobody answers")
        message = wire.from_bytes(wire.to_bytes(message))
        self.orders.append((url, type(message).__name__))
        if url == "http://cloud":
            take = {
                Publication: server.accept,
                Withdrawal: server.withdraw,
                Revocation: server.revoke,
                Succession: epochs.succeed,
            }
            known = {segment.number for segment in self.cloud.segments}
            if not (isinstance(message, Publication) and message.segment in known):
                self.cloud = take[type(message)](self.cloud, message)
        else:
            take = {
                Catalogue: authority.catalog,
                Withdrawal: authority.withdraw,
                Revocation: authority.revoke,
                Appointment: authority.succeed,
            }
            self.holder = take[type(message)](self.holder, message)

    def recall(self, url, message):
        message = wire.from_bytes(wire.to_bytes(message))
        self.recalls += 1
        return epochs.recall(self.cloud, message, now=int(time.time()), most_bytes=self.most_bytes)

    def search(self, url, query):
        query, now = wire.from_bytes(wire.to_bytes(query)), int(time.time())
        count = server.blinders_needed(self.cloud, query)
        blinders = owner_blinders(self.owner_state.secret, count, draw=secrets.token_bytes)
        self.cloud, report = server.score_query(self.cloud, query, blinders=blinders, now=now)
        self.holder, ranking = authority.answer(self.holder, report, now=now)
        self.cloud, delivery = server.deliver(self.cloud, ranking)
        return delivery


def install_services(monkeypatch, delegation):
    """Put cloud and authority behind the client's calls."""
    made = Services(delegation)
    module = types.ModuleType("jcbir.service.client")
    for name in ("connect", "send_order", "search", "recall"):
        setattr(module, name, getattr(made, name))
    monkeypatch.setitem(sys.modules, "jcbir.service.client", module)
    return made
