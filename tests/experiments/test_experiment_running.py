"""Scales, run folders and the rule that a report comes from a clean tree."""

import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from experiments import learning, running
from experiments.assets import stamp
from experiments.learning import Learning
from experiments.running import Where


@dataclass(frozen=True)
class Config:
    """A configuration like those of the experiments."""

    where: running.At = running.PLACES
    learn: learning.Learn = learning.SMOKE
    rounds: int = 1


SCALES = {
    "smoke": Config(),
    "cpu": Config(learn=Learning(epochs=20, bits=(16, 32)), rounds=3),
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A repository of one commit in the place of the project's."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "code.py").write_text("1\n")
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    for command in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "one")):
        subprocess.run(["git", *command], cwd=root, check=True, capture_output=True)
    monkeypatch.setattr(running, "ROOT", root)
    return root


def at(tmp_path: Path, **options) -> Config:
    return Config(where=Where(runs=tmp_path / "runs", report=tmp_path / "results" / "a.json", **options))


def test_options_override_the_values_of_the_scale():
    assert running.command_line(SCALES, []) == SCALES["smoke"]
    cpu = replace(SCALES["cpu"], where=Where(scale="cpu"))
    assert running.command_line(SCALES, ["--scale", "cpu"]) == cpu
    found = running.command_line(SCALES, ["--epochs", "7", "--scale", "cpu", "--bits", "64"])
    assert found == replace(cpu, learn=Learning(epochs=7, bits=(64,)))
    with pytest.raises(SystemExit):
        running.command_line(SCALES, ["--scale", "huge"])
    # The first scale is the default.
    assert running.command_line({"cpu": Config(rounds=3)}, []) == Config(where=Where(scale="cpu"), rounds=3)


def test_the_folder_is_named_by_what_decides_the_results():
    def name(config):
        return running.digest(running.decisive_fields(config))

    there = Where(runs=Path("elsewhere"), report=Path("b.json"), allow_dirty=True)
    assert name(Config()) == name(Config(where=there, learn=Learning(source=Path("a"), features=Path("b"))))
    others = [Config(rounds=2), Config(learn=Learning(epochs=4)), Config(learn=Learning(dataset="corel5k"))]
    assert len({name(config) for config in [Config(), *others]}) == 4


def test_a_clean_tree_reports_with_its_commit(tree, tmp_path):
    config = at(tmp_path)
    run = running.begin("trial", config, packages=("pillow", "no-such-package"))
    assert run.folder.name == f"trial-{running.digest(running.decisive_fields(config))}"
    report = running.finish(run, {"map": 0.5})
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tree, check=True, capture_output=True, text=True).stdout
    assert report["environment"]["commit"] == head[:12] and not report["environment"]["dirty"]
    assert json.loads(config.where.report.read_text()) == report
    assert json.loads((run.folder / "metrics.json").read_text()) == {"map": 0.5}
    assert json.loads((run.folder / "config.json").read_text()) == report["config"]
    assert "jax" in json.loads((run.folder / "environment.json").read_text())["versions"]
    versions = report["environment"]["versions"]
    assert versions["pillow"] != versions["no-such-package"] == "not installed"
    # Where the files lay says nothing to a reader.
    assert str(tmp_path) not in json.dumps(report)


@pytest.mark.parametrize("name", ["code.py", "new.py"])
def test_a_dirty_tree_is_refused_before_anything_runs(tree, tmp_path, name):
    (tree / name).write_text("2\n")
    with pytest.raises(SystemExit, match="must be clean"):
        running.begin("trial", at(tmp_path))
    assert not (tmp_path / "runs").exists()
    report = running.finish(running.begin("trial", at(tmp_path, allow_dirty=True)), {})
    assert report["environment"]["dirty"]
    # Without a report nothing is claimed.
    running.begin("trial", Config(where=Where(runs=tmp_path / "runs")))


def test_a_tree_that_changes_while_it_runs_is_refused(tree, tmp_path):
    run = running.begin("trial", at(tmp_path))
    (tree / "code.py").write_text("2\n")
    with pytest.raises(SystemExit, match="must be clean"):
        running.finish(run, {})
    assert not (tmp_path / "results").exists()
    # The figures themselves are kept.
    assert (run.folder / "metrics.json").exists()


def test_a_tree_at_another_commit_is_refused(tree, tmp_path):
    run = running.begin("trial", at(tmp_path))
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, "commit", "-q", "--allow-empty", "-m", "two"], cwd=tree, check=True)
    with pytest.raises(SystemExit, match="must stay at"):
        running.finish(run, {})


def test_reports_do_not_make_the_tree_dirty(tree):
    (tree / "experiments" / "results").mkdir(parents=True)
    (tree / "experiments" / "results" / "a.json").write_text("{}")
    assert not running.tree_state()["dirty"]
    (tree / "experiments" / "b.py").write_text("")
    assert running.tree_state()["dirty"]


@pytest.fixture
def copy(tree, tmp_path, monkeypatch):
    """The same tree, stamped, copied without its repository."""
    (tree / "jcbir").mkdir()
    (tree / "jcbir" / "a.py").write_text("1\n")
    (tree / ".gitignore").write_text("stamp.json\n")
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    for command in (("add", "."), (*who, "commit", "-q", "-m", "module")):
        subprocess.run(["git", *command], cwd=tree, check=True, capture_output=True)
    monkeypatch.setattr(stamp, "ROOT", tree)
    stamp.main()
    assert not running.tree_state()["dirty"]
    place = tmp_path / "copy"
    shutil.copytree(tree, place, ignore=shutil.ignore_patterns(".git"))
    monkeypatch.setattr(running, "ROOT", place)
    monkeypatch.setattr(stamp, "ROOT", place)
    return place


def test_a_stamped_copy_reports_with_the_commit_it_is_of(tree, copy, tmp_path):
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tree, check=True, capture_output=True, text=True).stdout
    assert running.tree_state() == {"commit": head[:12], "dirty": False, "copy": True}
    report = running.finish(running.begin("trial", at(tmp_path)), {})
    assert report["environment"]["copy"] and report["environment"]["commit"] == head[:12]


def test_a_stamp_outweighs_a_repository_that_does_not_know_its_commit(copy):
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    for command in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "copied")):
        subprocess.run(["git", *command], cwd=copy, check=True, capture_output=True)
    assert running.tree_state()["copy"]
    assert not running.tree_state()["dirty"]


@pytest.mark.parametrize("name", ["jcbir/a.py", "jcbir/b.py"])
def test_a_copy_that_was_changed_is_dirty(copy, tmp_path, name):
    (copy / name).write_text("2\n")
    with pytest.raises(SystemExit, match="must be clean"):
        running.begin("trial", at(tmp_path))


def test_only_a_clean_tree_with_its_repository_is_stamped(tree, copy, monkeypatch):
    with pytest.raises(SystemExit, match="can be stamped"):
        stamp.main()
    monkeypatch.setattr(running, "ROOT", tree)
    monkeypatch.setattr(stamp, "ROOT", tree)
    (tree / "jcbir" / "b.py").write_text("")
    with pytest.raises(SystemExit, match="can be stamped"):
        stamp.main()


def test_a_copy_without_a_stamp_is_dirty(copy):
    (copy / running.STAMP).unlink()
    assert running.tree_state() == {"commit": None, "dirty": True}
