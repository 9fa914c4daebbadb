"""Importing jcbir changes nothing: no 64-bit flip, no backend, no socket, no heavy package where it is not needed."""

import pkgutil
import subprocess
import sys

import pytest

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


@pytest.mark.parametrize("module", ["jcbir.paillier.public", "jcbir.paillier.secret", "jcbir.protocol.server"])
def test_cryptography_needs_no_network_stack(module):
    probe("jcbir.paillier", module, banned=("flax", "optax", "haiku", "tensorflow", "torch", "PIL"))


@pytest.mark.parametrize("module", ["jcbir.protocol.server", "jcbir.ranking._score"])
def test_server_loads_no_secret_code(module):
    probe(
        module, banned=("jcbir.paillier.secret", "jcbir.cipher", "jcbir.sealing", "jcbir.storage._keys", "jcbir.models")
    )
