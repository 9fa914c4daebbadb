"""`experiments.gpu_pass` asks for what its experiments offer, and goes on where a part cannot."""

import importlib
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import gpu_pass
from experiments.running import command_line

HERE = replace(gpu_pass.SCALES["full"], network="network", imagenette=Path("photographs"), cifar10=Path("others"))


@pytest.mark.parametrize("name", gpu_pass.PARTS)
@pytest.mark.parametrize("scale", ["full", "smoke"])
def test_every_part_asks_for_what_its_experiment_offers(name, scale):
    config = replace(HERE, where=replace(HERE.where, scale=scale))
    module = importlib.import_module(f"experiments.{gpu_pass.PARTS[name].module}")
    read = command_line(module.SCALES, gpu_pass.arguments(name, config))
    assert read.where.report == config.reports.resolve() / f"{name}.json"


def test_what_cannot_run_says_so_and_the_others_go_on(monkeypatch, tmp_path):
    part = gpu_pass.Part("no_such_experiment", {"smoke": ""})
    parts = {"absent": part._replace(needs="no_such_package"), "failing": part, "unnamed": part}
    parts["unnamed"] = part._replace(options={"smoke": "--source {imagenette}"})
    monkeypatch.setattr(gpu_pass, "PARTS", parts)
    config = replace(gpu_pass.SCALES["smoke"], where=replace(HERE.where, scale="smoke"), reports=tmp_path)
    with pytest.raises(SystemExit, match="no part wrote its report"):
        gpu_pass.main(config)
    found = {name: gpu_pass.run_part(name, config, 9) for name in parts}
    assert found == {
        "absent": "not run: needs no_such_package",
        "failing": "failed with 1",
        "unnamed": "not run: its photographs are not named",
    }

    def late(command, *, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", late)
    assert gpu_pass.run_part("failing", config, -5) == "not finished: the time ran out"
