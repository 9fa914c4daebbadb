"""The committed pages are what the committed reports make, and what they name exists."""

import importlib
import json
import re

import pytest

from experiments import report
from experiments.report_tables import SECTIONS
from experiments.running import RESULTS, ROOT

DOCS = ROOT / "docs"
NAMES = sorted(set(re.findall(r"`(jcbir(?:\.\w+)+)`", (report.EXPERIMENTS / "paper_notes.md").read_text())))


def test_the_committed_pages_are_what_the_reports_make():
    reports = report.read_reports(RESULTS)
    again = "make the pages anew: python -m experiments.report"
    assert (DOCS / "results.md").read_text() == report.results_page(reports), again
    notes = (report.EXPERIMENTS / "paper_notes.md").read_text()
    assert (DOCS / "paper-notes.md").read_text() == report.fill(notes, reports), again


def test_pictures_of_the_pages_exist():
    for page in ("results.md", "paper-notes.md"):
        for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", (DOCS / page).read_text()):
            assert (DOCS / target).exists(), f"{page} shows {target}"


@pytest.mark.parametrize("name", NAMES)
def test_what_the_notes_name_exists(name):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, function = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), function))


def test_every_equation_of_the_paper_has_its_function():
    text = (DOCS / "paper-notes.md").read_text()
    for number in range(1, 11):
        row = re.search(rf"^\| {number} \|.*$", text, re.M)
        assert row and "`jcbir." in row[0], f"equation {number}"


@pytest.mark.parametrize("name", list(SECTIONS))
def test_every_experiment_says_what_to_expect(name):
    about = report.describe(name)
    assert set(about) >= {"summary", "Command", "Hardware", "Time", "Expected", "Paper", "Status"}
    assert f"python -m experiments.{name}" in about["Command"]
    assert "full: not run" in about["Status"] or list(RESULTS.glob(f"{name}_full*.json"))
    scales = importlib.import_module(f"experiments.{name}").SCALES
    assert {scale: config.where.scale for scale, config in scales.items()} == {s: s for s in ("smoke", "cpu", "full")}


def test_committed_reports_come_from_clean_trees():
    for path in RESULTS.glob("*.json"):
        found = json.loads(path.read_text())
        if report.report_of(path.stem, found):
            assert not found["environment"]["dirty"], f"{path.name} was made from uncommitted code"
            assert found["scale"] != "smoke", f"{path.name} is of a smoke run"


def test_places_are_filled_from_the_reports():
    reports = {"run": {"map": {"a, b": {"16": 0.5}, "c/d": {"16": 0.75}}, "curve": [1, 2, 4]}}
    text = "{{run:map/a, b/16|.2f}} {{run:map/c%d/16|.1%}} {{max run:map/*/16|.2f}} "
    text += "{{run:curve/1|d}} {{mean run:curve/*|.1f}}"
    assert report.fill(text, reports) == "0.50 75.0% 0.75 2 2.3"
    assert report.fill("{{other:map|.2f}}", reports) == "not run"
    with pytest.raises(ValueError, match="must exist in the report"):
        report.fill("{{run:mpa|.2f}}", reports)
    with pytest.raises(ValueError, match="one value"):
        report.fill("{{run:curve/*|.2f}}", reports)


def test_check_finds_a_stale_page(tmp_path):
    for page in ("results.md", "paper-notes.md"):
        (tmp_path / page).write_text((DOCS / page).read_text())
    report.main(report.Config(docs=tmp_path, check=True))
    (tmp_path / "results.md").write_text("other")
    with pytest.raises(SystemExit, match=r"results\.md"):
        report.main(report.Config(docs=tmp_path, check=True))
