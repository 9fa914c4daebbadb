"""Options that are given once: in jcbir.toml, in the environment, in the file of a service; and the kept program."""

import numpy as np
import pytest
from command_world import run, write_network
from hypothesis import given, strategies as st

from jcbir.cli import network, options, settings
from jcbir.cli.main import parse
from jcbir.errors import FormatError
from jcbir.hashing import hash_images
from jcbir.models import attach_head, imagenet_resnet50
from jcbir.storage._files import file_digest

QUERY = ("user", "query", "a.png")
CLOUD = ("serve", "cloud", "--card", "c", "--store", "s", "--authority", "https://a")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    for name in ("CLOUD", "AUTHORITY", "CERTIFICATE", "INSECURE_HTTP", "TIMEOUT"):
        monkeypatch.delenv(f"JCBIR_{name}", raising=False)
    monkeypatch.setenv("JCBIR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_line_wins_over_the_environment_and_the_environment_over_the_file(folder, monkeypatch):
    (folder / "jcbir.toml").write_text(
        'cloud = "https://file"\nauthority = "https://authority"\ntimeout = 5\n'
        "[user]\ntop = 3\n[user.query]\ntop = 4\ninsecure_http = true\n"
        "[owner]\nhome = 'mine'\n[owner.init]\nbits = 32\n"
    )
    query = parse(QUERY)
    assert (query.cloud, query.top, query.timeout, query.insecure_http) == ("https://file", 4, 5.0, True)
    monkeypatch.setenv("JCBIR_CLOUD", "https://environment")
    assert parse(QUERY).cloud == "https://environment"
    assert parse([*QUERY, "--cloud", "https://line", "--top=9"]).cloud == "https://line"
    assert parse([*QUERY, "--cloud", "https://line", "--top=9"]).top == 9
    publish = parse(["owner", "publish", "album"])
    assert publish.links == options.Links(cloud="https://environment", authority="https://authority", timeout=5.0)
    assert str(publish.place.home) == "mine"
    identities = ("--cloud-identity", "c", "--authority-identity", "a")
    assert parse(["owner", "init", "photos", *identities]).bits == 32
    # A service is no caller: its certificate is its own.
    assert parse(CLOUD).authority == "https://a" and parse(CLOUD).listen.certificate is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("clod = 'https://x'", "outside of a table must be options, authority, certificate, cloud"),
        ("[user]\nsegment = 3", r"in \[user\] must be options"),
        ("[user.query]\ntopp = 3", r"in \[user.query\] must be options.*got 'topp'"),
        ("[owner.init]\nbits = 1979-05-27", "bits must be a text, a number"),
    ],
)
def test_what_is_no_option_is_named(folder, capsys, text, reason):
    (folder / "jcbir.toml").write_text(text)
    with pytest.raises(ValueError, match=reason):
        parse(QUERY)
    assert run(capsys, *QUERY, status=2)["error"] == "mistake"


def test_only_a_clear_yes_allows_plain_http(monkeypatch, capsys):
    for value, allowed in (("1", True), ("YES", True), ("0", False), ("off", False), ("False", False)):
        monkeypatch.setenv("JCBIR_INSECURE_HTTP", value)
        assert parse(QUERY).insecure_http is allowed
    monkeypatch.setenv("JCBIR_INSECURE_HTTP", "nope")
    assert "JCBIR_INSECURE_HTTP: must be one of 1, true" in run(capsys, *QUERY, status=2)["reason"]


def test_a_file_that_is_no_toml_is_named(folder):
    (folder / "jcbir.toml").write_text("cloud = ")
    with pytest.raises(FormatError, match=r"jcbir\.toml: must be TOML"):
        parse(QUERY)
    # Who asks for help gets it.
    assert settings.complete(["user", "query", "--help"], options.UserQuery) == ["user", "query", "--help"]


def test_a_service_takes_its_options_from_a_file(folder):
    (folder / "cloud.toml").write_text(
        "most-pending = 7\nclient_rate = [0, 0]\nport = 9\ndrain-seconds = 3\nauthority = 'https://other'\n"
    )
    command = parse([*CLOUD, "--config", "cloud.toml", "--port", "10"])
    assert (command.limits.most_pending, command.limits.client_rate) == (7, (0.0, 0.0))
    assert (command.listen.port, command.connections.drain_seconds, command.authority) == (10, 3, "https://a")
    assert parse([*CLOUD, "--config=cloud.toml"]).limits.most_pending == 7
    (folder / "cloud.toml").write_text("most-waiting = 7\n")
    with pytest.raises(ValueError, match=r"cloud\.toml: in it must be options.*got 'most-waiting'"):
        parse([*CLOUD, "--config", "cloud.toml"])
    with pytest.raises(FileNotFoundError, match="config: must be a TOML file"):
        parse([*CLOUD, "--config", "no.toml"])


@given(st.lists(st.text(alphabet="ab-=", max_size=6), max_size=5))
def test_without_settings_a_line_is_what_was_typed(words):
    assert settings.complete(["user", "query", *words], options.UserQuery) == ["user", "query", *words]


@pytest.mark.parametrize(
    ("words", "named", "record"),
    [
        (["owner", "publish", "x"], 2, options.OwnerPublish),
        (["cost"], 1, options.Cost),
        (["cost", "cost"], 1, options.Cost),
        (["owner", "--help"], 1, options.Owner),
        (["-h"], 0, None),
        (["--tyro-print-completion", "bash"], 0, None),
    ],
)
def test_the_first_words_name_the_command(words, named, record):
    assert settings.find_command(words) == (named, record)


@pytest.mark.parametrize(
    ("words", "command", "got"),
    [(["ownr"], "owner", "ownr"), (["owner", "x", "y"], "publish", "x"), (["user"], "query", "nothing"),
     ([], "user", "nothing"), (["--json"], "store", "--json"), (["owner", "--json"], "list", "--json")],
)  # fmt: skip
def test_what_is_no_command_is_told_the_commands(words, command, got):
    with pytest.raises(ValueError, match=rf"command: must be one of .*\b{command}\b.*, got {got};"):
        settings.find_command(words)


def test_every_command_has_options_of_its_own_names():
    for commands in settings._commands().values():
        for record in commands.values():
            names = settings._option_names(record)
            assert len(names) == len(set(names)) and "json" in names


# -------------------------------------------------------------------------------- the program of a network


def squares(count, size):
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def test_the_kept_program_hashes_as_the_network_does(folder, monkeypatch):
    path = write_network(folder / "net.safetensors")
    digits = file_digest(path)
    expected = {count: hash_images(network.load_network(path), squares(count, 16)) for count in (1, 3, 33)}
    first = network.open_hasher(path, sha256=digits)
    assert first.size == 16
    # The second time the network is not built: its program is there.
    monkeypatch.setattr(network, "load_network", lambda *arguments, **options: pytest.fail("built again"))
    for hasher in (first, network.open_hasher(path, sha256=digits)):
        for count, codes in expected.items():
            np.testing.assert_array_equal(hasher.hash(squares(count, 16)), codes)


def test_half_a_program_is_made_again(folder):
    path = write_network(folder / "net.safetensors")
    digits = file_digest(path)
    codes = network.open_hasher(path, sha256=digits).hash(squares(2, 16))
    file = network._program_file(digits)
    file.write_bytes(file.read_bytes()[:-7])
    np.testing.assert_array_equal(network.open_hasher(path, sha256=digits).hash(squares(2, 16)), codes)
    assert network._read_program(file) is not None


def test_a_program_that_is_not_as_it_was_written_is_none(folder):
    path = write_network(folder / "net.safetensors")
    digits = file_digest(path)
    network.open_hasher(path, sha256=digits).hash(squares(2, 16))
    file = network._program_file(digits)
    whole = file.read_bytes()
    assert network._read_program(file) is not None
    for place in (0, 31, 32, 33, len(whole) // 2, len(whole) - 1):
        for other in (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]):
            file.write_bytes(other)
            assert network._read_program(file) is None
    file.write_bytes(whole + b"\0")
    assert network._read_program(file) is None


def test_a_head_on_the_network_of_the_package(folder):
    head = np.random.default_rng(0).standard_normal((2048, 16)).astype(np.float32)
    hashing = attach_head(imagenet_resnet50(size=64), network.models.Head(head, np.zeros(16, np.float32)))
    digits = network.write_network(folder / "net.safetensors", hashing, {})
    hasher = network.open_hasher(folder / "net.safetensors", sha256=digits)
    np.testing.assert_array_equal(hasher.hash(squares(2, 64)), hash_images(hashing, squares(2, 64)))


def test_a_damaged_network_is_no_code(folder):
    path = write_network(folder / "net.safetensors")
    hasher = network.open_hasher(path, sha256=file_digest(path))
    broken = {
        name: np.full_like(leaf, np.nan) for name, leaf in network._leaves(path, sha256=file_digest(path)).items()
    }
    with pytest.raises(ValueError, match="logits: must be finite"):
        network._hash_padded(network.jax.jit(network._read_program(network._program_file(file_digest(path))).call),
                             broken, squares(1, hasher.size))  # fmt: skip
