"""docs/threat-model.md names what holds it: every test it names exists, every figure is the report's."""

import json
import pathlib
import re

import pytest

from experiments.attacks import distances, lattice_blame, lattice_forgery, protocol
from experiments.running import decisive_fields

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
EXPERIMENTS = {
    "attacks_protocol": protocol,
    "attacks_distances": distances,
    "attacks_lattice_forgery": lattice_forgery,
    "attacks_lattice_blame": lattice_blame,
}
REPORTS = {name: json.loads((ROOT / "experiments" / "results" / f"{name}.json").read_text()) for name in EXPERIMENTS}
FIGURES = {
    key: str(value)
    for report in REPORTS.values()
    for attack in report["attacks"].values()
    for key, value in attack.items()
    if key != "seconds"
}


def test_every_test_that_the_page_names_exists():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 40
    assert {name for name in named if f"def {name}(" not in sources} == set()


def test_every_figure_of_the_page_is_the_reports():
    rows = re.findall(r"^\|.*\| `(\w+)` \| ([\d.]*) ?\| ([\d.]*) ?\|$", PAGE, re.M)
    pairs = {
        f"{name}_{rule}": cell
        for name, *cells in rows
        for rule, cell in zip(("before", "after"), cells, strict=True)
        if cell
    }
    said = dict(re.findall(r"`(\w+_(?:before|after|remaining))` (\d(?:[\d.]*\d)?)", PAGE)) | pairs
    assert {name: FIGURES.get(name) for name in said} == said
    # Whatever an attack reports stands on the page.
    assert FIGURES.keys() - said.keys() == set()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_reports_are_of_the_full_scale_and_a_clean_tree(name):
    report = REPORTS[name]
    assert report["scale"] == "full" and not report["environment"]["dirty"]
    assert report["config"] == decisive_fields(EXPERIMENTS[name].SCALES["full"])
