"""Importing jcbir changes nothing: no 64-bit flip, no backend, no socket, no heavy package where it is not needed."""

import pathlib
import pkgutil
import re
import subprocess
import sys

import jcbir

# Rooms that need an optional extra are probed where it is installed.
OPTIONAL = ["ray", "starlette", "uvicorn", "httpx", "tensorflow_datasets", "huggingface_hub", "haiku", "h5py", "gmpy2"]

PROBE = f"""
import importlib, socket, sys

def refuse(*a, **k):
    raise SystemExit("opened a socket at import")

socket.socket.connect = refuse
import jax
from jax._src import xla_bridge

settings = dict(jax.config.values)
for module in sys.argv[1].split(","):
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
    for banned in sys.argv[2:]:
        if banned in sys.modules:
            raise SystemExit(f"importing {{module}} imported {{banned}}")
"""


def probe(*modules: str, banned: tuple[str, ...] = ()) -> None:
    run = subprocess.run([sys.executable, "-c", PROBE, ",".join(modules), *banned], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_imports_have_no_side_effect():
    probe(
        "jcbir", *(m.name for m in pkgutil.walk_packages(jcbir.__path__, "jcbir.") if not m.name.endswith("__main__"))
    )


def test_cryptography_needs_no_network_stack():
    modules = ("jcbir.paillier", "jcbir.paillier.public", "jcbir.paillier.secret", "jcbir.protocol.server")
    probe(*modules, banned=("flax", "optax", "haiku", "tensorflow", "torch", "PIL"))


def test_server_loads_no_secret_code():
    banned = ("jcbir.paillier.secret", "jcbir.cipher", "jcbir.sealing", "jcbir.storage._keys", "jcbir.models")
    probe("jcbir.ranking._score", "jcbir.protocol.server", banned=banned)


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
