"""docs/walkthrough.md, executed: three processes on localhost, photographs in, query out, pictures compared."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "walkthrough.md"
PASSPHRASE = "correct horse battery staple"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def test_the_page_has_every_step():
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.S)
    script = "\n".join(blocks)
    steps = ["owner train", "owner init", "owner publish", "owner grant", "owner revoke", "user init", "user join"]
    steps += ["user query", "serve cloud", "serve authority", "store verify", "store backup", "store compact"]
    steps += ["owner rekey"]
    for step in steps:
        assert f"jcbir {step}" in script
    assert len(blocks) >= 10


@pytest.mark.slow
def test_the_page_runs(tmp_path):
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.S)
    script = "set -euo pipefail\n" + "\n".join(blocks)
    for port in ("8470", "8471"):
        script = script.replace(port, free_port())
    shims = tmp_path / "bin"
    shims.mkdir()
    for name, module in (("jcbir", "-m jcbir"), ("python", "")):
        (shims / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        (shims / name).chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    environment = {**os.environ, "PATH": f"{shims}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    shell = subprocess.Popen(
        ["bash", "-c", script], cwd=work, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = shell.communicate(timeout=900)
    finally:
        # Also the services that an early end leaves behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, output
    assert PASSPHRASE not in output and "Traceback" not in output

    after = json.loads((work / "afterwards" / "results.json").read_text())["queries"]
    names = dict(re.findall(r"^([0-9a-f]{32})  (\S+\.png)$", output, re.M))
    assert sorted(names.values()) == [f"{number:03d}.png" for number in range(60)]
    queries = json.loads((work / "results" / "results.json").read_text())["queries"]
    assert [len(query["matches"]) for query in queries] == [5, 5]
    assert [len(query["matches"]) for query in after] == [3]
    for query in queries + after:
        distances = [match["distance"] for match in query["matches"]]
        assert distances == sorted(distances)
        for match in query["matches"]:
            original = work / "album" / names[match["image_id"]]
            with Image.open(work / match["file"]) as opened, Image.open(original) as own:
                assert (opened.mode, opened.size) == (own.mode, own.size)
                assert opened.tobytes() == own.tobytes()
    # Asked with a published photograph, it is found, at distance 0.
    for query in (queries[1], after[0]):
        assert "007.png" in {names[m["image_id"]] for m in query["matches"] if m["distance"] == 0}
    logs = (work / "cloud.log").read_text() + (work / "authority.log").read_text()
    assert PASSPHRASE not in logs and "Traceback" not in logs
    assert not (work / "refused").exists() or not any((work / "refused").rglob("*.png"))
