"""The committed pages are what the committed reports make, and what they name exists."""

import importlib
import json
import re

import pytest

from experiments import pages
from experiments.pages import SECTIONS
from experiments.running import RESULTS, ROOT

DOCS = ROOT / "docs"
NAMES = sorted(set(re.findall(r"`(jcbir(?:\.\w+)+)`", (pages.EXPERIMENTS / "paper_notes.md").read_text())))


REPORTS = pages.read_reports(RESULTS)


@pytest.mark.parametrize("name", list(pages.PAGES))
def test_the_committed_page_is_what_the_reports_make(name):
    text = (DOCS / name).read_text()
    assert pages.PAGES[name](REPORTS, text) == text, f"make the page anew: {pages.COMMAND} {name}"


@pytest.mark.parametrize("name", list(pages.PAGES))
def test_a_figure_typed_by_hand_is_found(tmp_path, name):
    text = (DOCS / name).read_text()
    mark = f"written by {pages.COMMAND}) -->"
    figure = re.compile(r"\d").search(text, text.index(mark) + len(mark) if mark in text else 0)
    typed = f"{text[: figure.start()]}{(int(figure[0]) + 1) % 10}{text[figure.end() :]}"
    (tmp_path / name).write_text(typed)
    with pytest.raises(SystemExit, match=re.escape(name)):
        pages.main(pages.Writing((name,), docs=tmp_path, check=True))
    assert (tmp_path / name).read_text() == typed
    if name not in ("results.md", "reports.md"):
        pages.main(pages.Writing((name,), docs=tmp_path))
        assert (tmp_path / name).read_text() == text


def test_an_unknown_page_is_named():
    with pytest.raises(SystemExit, match=r"got nothing\.md"):
        pages.main(pages.Writing(("nothing.md",)))


def test_pictures_of_the_pages_exist():
    for page in ("results.md", "reports.md", "paper-notes.md"):
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
    about = pages.describe(name)
    assert set(about) >= {"summary", "Command", "Hardware", "Time", "Expected", "Paper", "Status"}
    assert f"python -m experiments.{name}" in about["Command"]
    assert "full: not run" in about["Status"] or list(RESULTS.glob(f"{name}_full*.json"))
    assert set(importlib.import_module(f"experiments.{name}").SCALES) == {"smoke", "cpu", "full"}


def test_a_new_report_of_a_bench_makes_its_page():
    """What `begin` records of the machine stands where older reports said it in places of their own."""
    older = REPORTS["bench_metrics"]
    environment = {"cores": 7, "load": 3.0, "versions": older["versions"] | {"flax": "1"}}
    newer = {name: older[name] for name in older if name not in ("cores", "versions", "load_average", "machine")}
    page = pages.metrics({"bench_metrics": newer | {"environment": environment}}, (DOCS / "metrics.md").read_text())
    assert ", 7 cores, jax" in page and "load average 3.0" in page


def test_committed_reports_come_from_clean_trees():
    for path in RESULTS.glob("*.json"):
        found = json.loads(path.read_text())
        if pages.experiment_of(found):
            assert not found["environment"]["dirty"], f"{path.name} was made from uncommitted code"
            assert found["scale"] != "smoke", f"{path.name} is of a smoke run"


def test_places_are_filled_from_the_reports():
    reports = {"run": {"map": {"a, b": {"16": 0.5}, "c/d": {"16": 0.75}}, "curve": [1, 2, 4]}}
    text = "{{run:map/a, b/16|.2f}} {{run:map/c%d/16|.1%}} {{max run:map/*/16|.2f}} "
    text += "{{run:curve/1|d}} {{mean run:curve/*|.1f}}"
    assert pages.with_figures(text, reports) == "0.50 75.0% 0.75 2 2.3"
    assert pages.with_figures("{{other:map|.2f}}", reports) == "not run"
    with pytest.raises(ValueError, match="must exist in the report"):
        pages.with_figures("{{run:mpa|.2f}}", reports)
    with pytest.raises(ValueError, match="one value"):
        pages.with_figures("{{run:curve/*|.2f}}", reports)


def test_the_soak_went_without_errors():
    assert REPORTS["service_soak"]["errors"] == 0
