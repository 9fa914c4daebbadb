"""docs/deploy, Dockerfile and compose.yaml: every command in them parses, every metric exists, every unit verifies."""

import dataclasses
import inspect
import json
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

from jcbir.cli import options
from jcbir.cli.main import parse
from jcbir.cli.serve_cloud import read_limits
from jcbir.service import authority, cloud, serving
from jcbir.service._telemetry import HELP

ROOT = pathlib.Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"


def here(words):
    """The command with the files of this folder in the place of those of /etc."""
    return [str(DEPLOY / pathlib.Path(word).name) if word.endswith(".toml") else word for word in words]


@pytest.mark.parametrize("side", ["cloud", "authority"])
def test_the_containers_start_what_parses(side):
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    command = parse(here(services[side]["command"]))
    assert command.listen.host == "0.0.0.0" and command.listen.certificate and command.connections.drain_seconds == 30
    mounted = {volume.split(":")[1] for volume in services[side]["volumes"]}
    assert {"/data", "/run/jcbir", services[side]["command"][-1]} <= mounted
    # No secret is a plain value of the file.
    assert "PASSPHRASE" not in (ROOT / "compose.yaml").read_text()
    assert str(command.listen.port) in services[side]["healthcheck"]["test"][-1]


@pytest.mark.parametrize("side", ["cloud", "authority"])
def test_the_units_start_what_parses_and_verify(side, tmp_path):
    unit = (DEPLOY / f"jcbir-{side}.service").read_text()
    words = re.search(r"ExecStart=\S+ (.*)", unit)[1].split()
    assert str(parse(here(words)).passphrase_file) == "%d/passphrase"
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    (tmp_path / f"jcbir-{side}.service").write_text(unit.replace("/opt/jcbir/bin/jcbir", "/bin/true"))
    found = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / f"jcbir-{side}.service"], capture_output=True, text=True
    )
    assert found.returncode == 0 and not found.stderr, found.stderr


def test_what_the_files_call_defaults_are_the_defaults():
    for side, given in (("cloud", options.ServeCloud), ("authority", options.ServeAuthority)):
        command = parse(["serve", side, "--config", str(DEPLOY / f"{side}.toml")])
        fields = {field.name: field.default for field in dataclasses.fields(given)}
        assert command.limits == fields["limits"] and command.connections == fields["connections"]


def test_the_options_have_the_defaults_of_the_services():
    for limits, kept in (
        (options.CloudLimits(), cloud.CloudSettings),
        (options.AuthorityLimits(), authority.AuthoritySettings),
    ):
        defaults = {field.name: field.default for field in dataclasses.fields(kept)}
        assert read_limits(limits) == {name: defaults[name] for name in read_limits(limits)}
        # Every limit is an option.
        left = set(defaults) - {*read_limits(limits)}
        assert left <= {
            *("store", "identity", "authority_url", "workers", "authority_certificate", "insecure_http", "scorer"),
            *("ray_address", "engine", "delegation", "journal"),
        }
    told = {name: given.default for name, given in inspect.signature(serving.serve).parameters.items()}
    assert dataclasses.asdict(options.Connections()).items() <= told.items()


@pytest.mark.parametrize("file", ["grafana.json", "jcbir-rules.yml"])
def test_boards_and_alarms_ask_for_metrics_that_exist(file):
    named = set(re.findall(r"jcbir_(?:cloud|authority)_([a-z_]+)", (DEPLOY / file).read_text()))
    assert named and {name.removesuffix("_bucket") for name in named} <= set(HELP)


def test_the_board_is_json_with_a_panel_for_each_place():
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels) == len({panel["id"] for panel in panels})


def test_the_image_holds_the_package_and_no_secret():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith(("USER", "ENTRYPOINT"))] == ["USER 10001", 'ENTRYPOINT ["jcbir"]']
    copied = {word for line in lines if line.startswith("COPY") and "--from" not in line for word in line.split()[1:-1]}
    assert copied == {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "jcbir"}
    assert {f"!{name}" for name in copied} <= set((ROOT / ".dockerignore").read_text().splitlines())
