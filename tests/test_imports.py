"""Importing jcbir changes nothing: no 64-bit flip, no backend, no socket, no heavy package where it is not needed."""

import json
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest

import jcbir

# Rooms that need an optional extra are probed where it is installed.
OPTIONAL = ["ray", "starlette", "uvicorn", "httpx", "tensorflow_datasets", "huggingface_hub", "haiku", "h5py", "gmpy2"]
SECRET = ("jcbir.paillier.secret", "jcbir.cipher", "jcbir.sealing", "jcbir.storage._keys")
WHOLE = [m.name for m in pkgutil.walk_packages(jcbir.__path__, "jcbir.") if not m.name.endswith("__main__")]
LOADS = {
    "all of it": (("jcbir", *WHOLE), ()),
    "cryptography without networks": (
        ("jcbir.paillier", "jcbir.paillier.public", "jcbir.paillier.secret", "jcbir.protocol.server"),
        ("flax", "optax", "haiku", "tensorflow", "torch", "PIL"),
    ),
    "the server's scoring": (("jcbir.ranking._score", "jcbir.protocol.server"), (*SECRET, "jcbir.models")),
    "the cloud's service": (
        ("jcbir.service.cloud", "jcbir.service._scoring", "jcbir.service.serving"),
        (*SECRET, "jcbir.models", "flax"),
    ),
    "the cloud's command": (
        ("jcbir.cli", "jcbir.cli.serve_cloud"),
        ("jcbir.paillier.secret", "jcbir.sealing", "jcbir.storage._keys", "jcbir.protocol.owner", "flax"),
    ),
    "a store": (
        ("jcbir.storage._store", "jcbir.storage._load", "jcbir.storage._maintenance"),
        (*SECRET, "jcbir.protocol.owner", "flax"),
    ),
    "an identity": (("jcbir.storage._identities",), (*SECRET, "jcbir.models", "flax")),
}
"""What is loaded, and what that may not load."""

PROBE = f"""
import importlib, json, os, socket, sys, traceback

def refuse(*a, **k):
    raise SystemExit("opened a socket at import")

socket.socket.connect = refuse
import jax
from jax._src import xla_bridge

settings = dict(jax.config.values)

def load(modules, banned):
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name.split(".")[0] in {OPTIONAL!r}:
                continue
            raise
        changed = [name for name, value in settings.items() if jax.config.values.get(name) != value]
        if changed:
            raise SystemExit(f"importing {{module}} changed {{changed}}")
        if xla_bridge._backends:
            raise SystemExit(f"importing {{module}} started a backend")
        for name in banned:
            if name in sys.modules:
                raise SystemExit(f"importing {{module}} imported {{name}}")

for name, what in json.loads(sys.argv[1]).items():
    if os.fork() == 0:
        fault = ""
        try:
            load(*what)
        except BaseException:
            fault = traceback.format_exc()
        print(json.dumps([name, fault]), flush=True)
        os._exit(0)
    os.wait()
"""
"""Each in a process of its own, in which JAX is loaded and nothing else."""


@pytest.fixture(scope="module")
def faults():
    run = subprocess.run([sys.executable, "-c", PROBE, json.dumps(LOADS)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return dict(json.loads(line) for line in run.stdout.splitlines())


@pytest.mark.parametrize("name", LOADS)
def test_imports_have_no_side_effect(faults, name):
    assert faults[name] == ""


# Without the extras `hash` and `cli`.
BARE = """
import sys

for extra in ("flax", "optax", "tyro", "rich"):
    sys.modules[extra] = None
import secrets

import numpy as np

from jcbir import cipher, codes, metrics, paillier, ranking, sealing

bits = np.arange(64).reshape(8, 8) % 3 == 0
packed = codes.pack(bits)
distances = np.asarray(codes.pairwise(packed, packed))
assert 0 < metrics.mean_average_precision(distances, np.eye(8, dtype=bool)).value <= 1

image, names = np.arange(64, dtype=np.uint8).reshape(8, 8, 1), {"key": bytes(32), "nonce": bytes(16)}
assert (cipher.decrypt(cipher.encrypt(image, **names), **names) == image).all()
own = secrets.token_bytes(sealing.HYBRID_SECRET_BYTES)
assert sealing.open_from(own, sealing.seal_to(sealing.public_half(own), b"text")) == b"text"

key = paillier.generate_keys(bits=256, draw=secrets.token_bytes, unsafe_small=True)
layout = paillier.floats.Layout(modulus=key.public.n, fraction_bits=8, magnitude=1.0, terms=2)
half = paillier.floats.encode(layout, np.array([0.5]))
half = half._replace(rows=paillier.secret.encrypt(key, half.rows, draw=secrets.token_bytes))
twice = paillier.floats.add(key.public, half, half)
assert paillier.floats.decode(layout, twice._replace(rows=paillier.secret.decrypt(key, twice.rows))).tolist() == [1.0]
assert ranking.plan(key.public, scheme="packed", count=8, bits=8).lanes > 1
"""


def test_the_core_runs_without_networks_and_commands():
    """A call of each package, and the whole protocol as docs/protocol.md has it."""
    page = pathlib.Path(__file__).parents[1] / "docs" / "protocol.md"
    protocol = re.search(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M)[1]
    run = subprocess.run([sys.executable, "-c", BARE + protocol], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
