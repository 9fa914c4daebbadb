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

ROOT = pathlib.Path(__file__).parents[2]
PAGE, README = ROOT / "docs" / "walkthrough.md", ROOT / "README.md"
PASSPHRASE = "correct horse battery staple"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def commands_of_the_readme():
    """Commands of README's list, by party: `jcbir owner list | status` are two."""
    blocks = re.findall(r"```\n(.*?)```", README.read_text(), re.S)
    block = next(block for block in blocks if "jcbir cloud init" in block)
    found = set()
    for line in block.splitlines():
        for command in line.split("#")[0].split("&&"):
            words = command.split()
            if words[:1] == ["jcbir"]:
                names = [words[2], *(words[at + 1] for at, word in enumerate(words) if word == "|")]
                found |= {f"{words[1]} {name}" for name in names}
    return found


def test_the_page_has_every_step():
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.S)
    script = "\n".join(blocks)
    steps = {"owner train", "owner revoke", "owner rekey", "owner info"}
    steps |= {"store info", "store verify", "store backup", "store compact"}
    readme = commands_of_the_readme()
    assert {"cloud init", "owner publish", "owner grants", "user query", "serve cloud"} <= readme
    # A page waits for a person.
    for step in (steps | readme) - {"owner open", "user open"}:
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

    after = [work / "afterwards" / "007"]
    names = dict(re.findall(r"^([0-9a-f]{32})  (\S+?\.png)(?:: .*)?$", output, re.M))
    # Every photograph has another pseudonym in each of the two epochs.
    assert sorted(names.values()) == sorted(2 * [f"{number:03d}.png" for number in range(60)])
    queries = [work / "results" / name for name in ("asked", "007", "007-2")]
    found = {folder: json.loads((folder / "results.json").read_text())["matches"] for folder in queries + after}
    assert [len(matches) for matches in found.values()] == [5, 5, 1, 3]
    for folder, matches in found.items():
        distances = [match["distance"] for match in matches]
        assert distances == sorted(distances)
        page = (folder / "index.html").read_text()
        for match in matches:
            original = work / "album" / names[match["image_id"]]
            # The owner's file, under its name.
            assert match["file"] == match["name"] == original.name and f'src="{match["file"]}"' in page
            assert (folder / match["file"]).read_bytes() == original.read_bytes()
    # Asked with a published photograph, it is found, at distance 0; the caption has moved to the next epoch with it.
    assert (work / "restored" / "asked" / "results.json").exists()
    for folder in (queries[1], after[0]):
        near = {names[m["image_id"]]: m["caption"] for m in found[folder] if m["distance"] == 0}
        assert near["007.png"] == "The seventh, which we shall ask for"
    logs = (work / "cloud.log").read_text() + (work / "authority.log").read_text()
    assert PASSPHRASE not in logs and "Traceback" not in logs
    assert not (work / "refused").exists()
