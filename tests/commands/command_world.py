"""A small owner's folder for the tests of the commands: a breakable key, a network of a few thousand weights."""

import json

import jax
import numpy as np
import PIL.Image

from jcbir.cli import run_command
from jcbir.commands import home as homes
from jcbir.io.weights import write_weights
from jcbir.models.backbone import describe
from jcbir.models.preprocessing import Preprocessing
from jcbir.models.resnet import small

PASSPHRASE = "correct horse battery"
BITS = 16


def write_network(path, *, bits=BITS, key=0):
    module = small(stages=(1,), width=4, bits=bits)
    variables = module.init(jax.random.key(key), np.zeros((1, 16, 16, 3), np.float32))
    write_weights(path, jax.tree.map(np.asarray, variables), metadata=describe(module, Preprocessing(size=16)))
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
