"""docs/threat-model.md names what holds it: every test it names exists, every figure is the report's."""

import json
import pathlib
import re

from experiments.attacks import protocol

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
REPORT = json.loads((ROOT / "experiments" / "results" / "attacks_protocol.json").read_text())
FIGURES = {
    key: str(value) for attack in REPORT["attacks"].values() for key, value in attack.items() if key != "seconds"
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
    said = dict(re.findall(r"`(\w+_(?:before|after|remaining))` (\d[\d.]*\d)", PAGE)) | pairs
    assert {name: FIGURES.get(name) for name in said} == said
    # Whatever an attack reports stands on the page.
    assert FIGURES.keys() - said.keys() == set()


def test_the_report_is_of_the_full_scale_and_a_clean_tree():
    assert REPORT["scale"] == "full" and not REPORT["environment"]["dirty"]
    assert REPORT["config"]["key_bits"] == protocol.SCALES["full"].key_bits
