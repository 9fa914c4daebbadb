"""The line itself: parser, statuses, streams, what loads; and the commands of store, cost and weights."""

import ast
import importlib
import json
import os
import socket
import subprocess
import sys

import pytest
from command_world import run, write_network
from hypothesis import given, strategies as st
from protocol_world import make_world

from jcbir.cli import console as consoles, main as cli, options, passphrase
from jcbir.cli.exit_codes import classify
from jcbir.cli.passphrase import forget_passphrases
from jcbir.models import Download, downloads
from jcbir.protocol import owner, refusals
from jcbir.sealing import sealed_length
from jcbir.storage import _backbones as backbones
from jcbir.storage._store import append_segment, create_store, open_store, remove_images


def shell(*arguments, **options):
    command = [sys.executable, "-m", "jcbir", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_every_command_has_its_function_and_its_help(capsys):
    for place in options.FUNCTIONS.values():
        module, function = place.split(":")
        assert callable(getattr(importlib.import_module(f"jcbir.cli.{module}"), function))
    groups = {"owner": 14, "user": 5, "cloud": 2, "authority": 2, "serve": 2, "store": 4, "weights": 4}
    assert sum(groups.values()) + 3 == len(options.FUNCTIONS)
    for words in ([], *([group] for group in groups), ["owner", "publish"], ["user", "query"], ["cost"], ["demo"]):
        with pytest.raises(SystemExit) as end:
            cli.run_command([*words, "--help"])
        assert end.value.code == 0
        # A passphrase on the command line could be read by every process of the machine.
        assert "--passphrase " not in capsys.readouterr().out


def test_parsing_loads_no_array_library():
    probe = "import sys; from jcbir.cli.main import run_command; run_command(['version']); "
    probe += "print(sorted({'jax', 'numpy', 'flax', 'cryptography', 'PIL'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["jcbir 0.1.0", "[]"]


def test_version_as_an_option(capsys):
    assert cli.run_command(["--version"]) == 0
    assert capsys.readouterr().out == "jcbir 0.1.0\n"


def test_no_help_shows_the_type_of_nothing(capsys):
    pages = [
        [*words, "--help"]
        for words in (
            *(["owner", name] for name in ("init", "publish", "withdraw", "grant", "revoke", "rekey", "status")),
            ["user", "query"], ["serve", "cloud"], ["serve", "authority"], ["weights", "check"], ["demo"],
        )
    ]  # fmt: skip
    for page in pages:
        with pytest.raises(SystemExit):
            cli.run_command(page)
        printed = capsys.readouterr().out
        assert "None" not in printed, printed
    with pytest.raises(SystemExit):
        cli.run_command(["--help"])
    printed = capsys.readouterr().out
    assert "--tyro-print-completion" in printed and "--version" in printed


INTERRUPTED = """
import os, runpy, signal, sys
module, sys.argv[1:] = sys.argv[1], sys.argv[2:]
def interrupt(event, arguments):
    if event == "import" and arguments[0] == module:
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(interrupt)
runpy.run_module("jcbir", run_name="__main__", alter_sys=True)
"""
"""Ctrl-C when a module begins to be loaded."""


def interrupt_at(module, *words, shell=()):
    command = [*shell, sys.executable, "-c", INTERRUPTED, module, *words]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize(
    "module", ["jcbir.cli", "jcbir.cli.main", "tyro", "jcbir.cli.options", "rich",
               "numpy", "jax", "jax._src.lax", "jcbir.paillier.secret"],
)  # fmt: skip
def test_an_interruption_while_loading_is_one_line(module):
    found = interrupt_at(module, "cost")
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "jcbir: interrupted\n")


def test_an_interruption_on_the_way_out_is_one_line():
    found = interrupt_at("jcbir.cli.exit_codes", "cost", "--images", "0", "--json")
    assert (found.returncode, found.stderr) == (130, "jcbir: interrupted\n")
    assert json.loads(found.stdout) == {"error": "interrupted", "reason": "interrupted"}


def test_an_interrupted_command_waits_for_no_thread():
    probe = """
import sys, threading
from jcbir import __main__ as program
from jcbir.cli import cost
def interrupted(command, console):
    threading.Thread(target=threading.Event().wait).start()
    raise KeyboardInterrupt
cost.predict = interrupted
sys.argv = ["jcbir", "cost", "--json"]
program.main()
"""
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=120)
    assert (found.returncode, found.stderr) == (130, "jcbir: interrupted\n")
    assert json.loads(found.stdout)["error"] == "interrupted"


def test_who_ignores_interruptions_goes_on():
    """As what a shell that is not interactive starts in the background."""
    found = interrupt_at("jcbir.cli.main", "version", shell=("sh", "-c", "trap '' INT; exec \"$@\"", "sh"))
    assert (found.returncode, found.stdout, found.stderr) == (0, "jcbir 0.1.0\n", "")


def test_a_port_in_use_is_found_before_anything_is_read(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        place = ("--port", port)
        cloud = run(
            capsys,
            "serve",
            "cloud",
            "--card",
            "c",
            "--store",
            "s",
            "--authority",
            "http://127.0.0.1:1",
            *place,
            status=2,
        )
        holder = run(capsys, "serve", "authority", "--delegation", "d", "--journal", "j", *place, status=2)
    for refused in (cloud, holder):
        assert refused["reason"] == f"port: must be free, got 127.0.0.1:{port}: Address already in use"


def test_no_error_of_the_system_shows_its_number(capsys, tmp_path):
    (tmp_path / "busy").mkdir()
    error = PermissionError(13, "Permission denied", "busy")
    assert classify(error).reason == "busy: permission denied"
    assert classify(FileNotFoundError(2, "No such file or directory")).reason == "no such file or directory"


@given(st.text(st.characters(exclude_characters="\0")))
def test_a_name_is_shown_as_it_is_on_one_line(name):
    """With all of its blanks; quoted where a line's ends or its own could not be told from the sentence's."""
    reason = classify(PermissionError(13, "Permission denied", name)).reason
    shown = reason.removesuffix(": permission denied")
    assert shown == name if name.strip().splitlines() == [name] else ast.literal_eval(shown) == name
    assert len(reason.splitlines()) == 1
    assert classify(ValueError(f"folder: must be a folder, got {name!r}\n\n  in two lines")).reason.startswith(
        f"folder: must be a folder, got {name!r} in two lines"
    )


def test_mistakes_load_no_array_library(tmp_path):
    """What costs most of a start; the seconds themselves are measured by `experiments.bench_query`."""
    (tmp_path / "a.txt").write_text("a text")
    lines = (
        ("user", "query", "a.txt", "--out", "x"), ("user", "query", "no.png", "--out", "x"),
        ("owner", "grant", "a.txt", "--out", "x", "--days", "0"), ("owner", "publish", "a.txt"),
        ("serve", "authority", "--delegation", "d", "--journal", "j"), ("store", "verify", "nowhere"),
    )  # fmt: skip
    probe = "import json, sys; from jcbir.cli.main import run_command\nfor words in json.loads(sys.argv[1]): "
    probe += "print(run_command(words), *{'jax', 'numpy', 'flax', 'optax', 'cryptography'} & set(sys.modules))"
    command = [sys.executable, "-c", probe, json.dumps(lines)]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert found.stdout.splitlines() == ["2"] * len(lines), found


def test_services_forget_the_passphrases(monkeypatch):
    monkeypatch.setenv("JCBIR_PASSPHRASE", "correct horse")
    monkeypatch.setenv("JCBIR_AUTHORITY_PASSPHRASE", "battery staple")
    forget_passphrases()
    assert not [name for name in os.environ if name.endswith("_PASSPHRASE")]


def test_services_forget_every_passphrase_that_there_is(monkeypatch):
    names = {value for name, value in vars(passphrase).items() if name.endswith("VARIABLE")}
    assert names >= {"JCBIR_PASSPHRASE", "JCBIR_AUTHORITY_PASSPHRASE", "JCBIR_CLOUD_PASSPHRASE"}
    for name in names:
        monkeypatch.setenv(name, "correct horse")
    forget_passphrases()
    assert not names & set(os.environ)


def test_progress_is_told_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(consoles, "PAUSE", 0.0)
    with consoles.progress(consoles.open_console(json=True), "publish") as advance:
        advance(3, 10)
    assert capsys.readouterr().err == "publish: 3 of 10 after 0 s, 3.0/s, 2 s left\n"


def test_arguments_that_do_not_parse_are_an_error_in_json_too(capsys):
    with pytest.raises(SystemExit) as end:
        cli.run_command(["owner", "init", "x", "--json"])
    assert end.value.code == 2 and json.loads(capsys.readouterr().out)["error"] == "mistake"
    for words in (["--json"], ["no", "such", "--json"], ["owner", "--json"]):
        assert run(capsys, *words[:-1], status=2)["error"] == "mistake"


def test_version_as_json(capsys):
    assert run(capsys, "version") == {"version": "0.1.0"}


def test_shell_completion(capsys):
    found = shell("--tyro-print-completion", "bash")
    assert found.returncode == 0 and "publish" in found.stdout, found.stderr
    with pytest.raises(SystemExit) as end:
        cli.run_command(["--tyro-print-completion", "zsh"])
    assert not end.value.code and "publish" in capsys.readouterr().out


def test_a_wrong_option_is_status_two_with_nothing_on_standard_output():
    found = shell("owner", "publish", "album", "--no-such-option")
    assert found.returncode == 2 and not found.stdout and "no-such-option" in found.stderr


def test_a_reader_that_leaves_is_no_error():
    command = [sys.executable, "-m", "jcbir", "version", "--json"]
    reader, writer = os.pipe()
    os.close(reader)
    found = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (found.returncode, found.stderr) == (141, "")


def test_each_error_has_its_status():
    assert [classify(error("why")).status for error in refusals.REFUSALS] == [3] * len(refusals.REFUSALS)
    assert {classify(error("why")).code for error in refusals.REFUSALS} == {e.code for e in refusals.REFUSALS}
    assert classify(ConnectionRefusedError("x")).status == classify(TimeoutError("x")).status == 4
    assert classify(KeyboardInterrupt()).status == 130
    assert classify(FileNotFoundError(2, "no such file", "x")).status == classify(ValueError("x")).status == 2
    # A defect is not dressed up as a mistake of the caller.
    assert classify(TypeError("x")) is None and classify(ModuleNotFoundError("x", name="jcbir.nothing")) is None


SERVE_CLOUD = ("serve", "cloud", "--card", "c", "--store", "s", "--authority", "http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [
        ("httpx", "serve", ("user", "query", "a.png", "--out", "x", "--cloud", "http://x")),
        ("starlette", "serve", SERVE_CLOUD),
        ("tyro", "cli", ("version",)),
        ("rich", "cli", ("owner", "list", "--json")),
        ("flax", "hash", ("demo",)),
        ("optax", "hash", ("demo", "--json")),
    ],
)
def test_a_missing_extra_is_one_line(package, extra, arguments):
    probe = f"import sys; sys.modules['{package}'] = None; from jcbir.cli.main import run_command; "
    probe += "sys.exit(run_command(sys.argv[1:]))"
    found = subprocess.run([sys.executable, "-c", probe, *arguments], capture_output=True, text=True)
    assert found.returncode == 2
    reason = f"this needs {package}: pip install 'jcbir[{extra}]'"
    assert found.stderr.splitlines() == [f"jcbir: {reason}"]
    told = [{"error": "missing-extra", "reason": reason}] if "--json" in arguments else []
    assert [json.loads(line) for line in found.stdout.splitlines()] == told


def test_the_demo_as_json(capsys, monkeypatch):
    def quick(options, *, console):
        console.print("a table")
        return {"bits": options.bits}

    monkeypatch.setattr("jcbir.cli.demo.run.run_demo", quick)
    assert run(capsys, "demo", "--bits", "16") == {"bits": 16}
    assert cli.run_command(["demo"]) == 0
    assert capsys.readouterr().out == "a table\n"


def test_an_interruption_is_status_130(capsys, monkeypatch):
    def interrupted(command, console):
        raise KeyboardInterrupt

    monkeypatch.setattr("jcbir.cli.cost.predict", interrupted)
    assert run(capsys, "cost", status=130) == {"error": "interrupted", "reason": "interrupted"}


def test_cost(capsys):
    found = run(capsys, "cost", "--images", "1000", "--modulus-bits", "2048")
    by_name = {(row["scheme"], row["tables"]): row for row in found["schemes"]}
    assert by_name["bitsliced", None]["operations"]["decryptions"] == 3
    assert by_name["integer", None]["reply_bytes"] == 1000 * 512
    # `integer` has no sentinels; of the others one in eleven at most has a picture of its own.
    pictures = {scheme: row["pictures_bytes"] for (scheme, _), row in by_name.items()}
    assert pictures["integer"] == 1000 * sealed_length(2_000_000)
    assert pictures["integer"] < pictures["bitsliced"] < pictures["packed"] <= 1.1 * pictures["integer"]
    assert cli.run_command(["cost", "--images", "1000"]) == 0
    assert "bitsliced" in capsys.readouterr().out
    assert run(capsys, "cost", "--images", "0", status=2)["error"] == "mistake"
    assert run(capsys, "cost", "--picture-bytes", "0", status=2)["error"] == "mistake"


def test_store(capsys, tmp_path):
    world = make_world()
    path = tmp_path / "store"
    create_store(path, world.own.card, unsafe_small=True)
    publications = [sent.message for sent in world.transcript if type(sent.message).__name__ == "Publication"]
    with open_store(path, write=True) as store:
        for publication in publications:
            append_segment(store, publication)
        _, withdrawal = owner.withdraw(world.own, world.names[:3])
        remove_images(store, withdrawal)
    found = run(capsys, "store", "info", path)
    assert (found["images"], found["withdrawn"], found["segments"]) == (27, 3, 2) and found["reclaimable"] > 0
    assert run(capsys, "store", "verify", path)["sound"]
    assert run(capsys, "store", "backup", path, tmp_path / "copy")["images"] == 27
    assert run(capsys, "store", "compact", path)["freed_bytes"] > 0
    assert run(capsys, "store", "info", path)["reclaimable"] == 0
    segment = next((path / "segments").iterdir())
    content = bytearray(segment.read_bytes())
    content[-1] ^= 1
    segment.write_bytes(content)
    assert run(capsys, "store", "verify", path, status=5)["error"] == "damaged"
    assert run(capsys, "store", "verify", tmp_path / "copy")["sound"]


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Two names: one whose file a local stand-in for the network hands over, one that cannot be reached."""
    monkeypatch.setenv("JCBIR_CACHE", str(tmp_path / "cache"))
    here = tmp_path / "server.safetensors"
    write_network(here)
    pin = backbones.file_digest(here)
    near = Download("test/near", 18, "url", str(here), "w.safetensors", "1", "torch", pin, here.stat().st_size, "MIT")
    far = near._replace(name="test/far", place="http://127.0.0.1:9/w.safetensors")
    monkeypatch.setattr(backbones, "downloads", lambda: {"test/near": near, "test/far": far})

    def fetch(source, path, *, progress=None):
        if source.name == "test/far":
            raise ConnectionError(f"{source.name} cannot be fetched from {source.place} (no route); offline, copy it")
        path.write_bytes(here.read_bytes())
        progress(path.stat().st_size, source.size)

    monkeypatch.setattr(backbones, "fetch_url", fetch)
    return here


def test_weights_list_and_fetch(capsys, tmp_path, shelf):
    assert [row["fetched"] for row in run(capsys, "weights", "list")["weights"]] == [False, False]
    found = run(capsys, "weights", "fetch", "test/near")
    assert found["bytes"] == shelf.stat().st_size and found["file"].startswith(str(tmp_path / "cache"))
    assert [row["fetched"] for row in run(capsys, "weights", "list")["weights"]] == [True, False]
    assert cli.run_command(["weights", "list"]) == 0 and "test/near" in capsys.readouterr().out
    offline = run(capsys, "weights", "fetch", "test/far", status=4)
    assert offline["error"] == "unreachable" and "offline, copy it" in offline["reason"]
    assert run(capsys, "weights", "fetch", "no/such", status=2)["error"] == "mistake"
    assert run(capsys, "weights", "fetch", "test/far", "--sha256", "0" * 64, status=2)["error"] == "mistake"


def test_weights_convert_and_check(capsys, tmp_path, shelf):
    digits = backbones.file_digest(shelf)
    converted = run(capsys, "weights", "convert", shelf, tmp_path / "half.safetensors", "--half", "--sha256", digits)
    assert converted["bytes"] < shelf.stat().st_size
    checked = run(capsys, "weights", "check", tmp_path / "half.safetensors")
    assert checked["finite"] and checked["sha256"] == converted["sha256"] and checked["half_difference"] == 0
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    assert run(capsys, "weights", "check", tmp_path / "bad.safetensors", status=5)["error"] == "damaged"


def test_the_real_names_are_listed(capsys):
    assert [row["name"] for row in run(capsys, "weights", "list")["weights"]] == list(downloads())
