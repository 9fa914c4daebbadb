"""The committed pages are what the committed reports make, and what they name exists."""

import importlib
import json
import re

import pytest

from experiments import pages
from experiments.pages import SECTIONS
from experiments.running import RESULTS, ROOT

DOCS = ROOT / "docs"
NOTES = (DOCS / "paper-notes.md").read_text()
NAMES = sorted(set(re.findall(r"`((?:jcbir|experiments)(?:\.\w+)+)`", NOTES)))
ROWS = [re.split(r"(?<!\\) \| ", line[2:-2]) for line in NOTES.splitlines() if line.startswith("| ")]
REPORTS = pages.read_reports(RESULTS)


@pytest.mark.parametrize("name", list(pages.PAGES))
def test_the_committed_page_is_what_the_reports_make(name):
    text = (DOCS / name).read_text()
    assert pages.PAGES[name](REPORTS, text) == text, f"make the page anew: {pages.COMMAND} {name}"


@pytest.mark.parametrize("name", list(pages.PAGES))
def test_a_figure_typed_by_hand_is_found(tmp_path, name):
    text = (DOCS / name).read_text()
    # Between marks, or in the whole page.
    mark = next((m for m in (f"written by {pages.COMMAND}) -->", ";.4f-->") if m in text), "")
    figure = re.compile(r"\d").search(text, text.index(mark) + len(mark))
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
    for number in range(1, 11):
        row = re.search(rf"^\| Eq\. {number} \|.*$", NOTES, re.M)
        assert row and "`jcbir." in row[0], f"equation {number}"


def test_the_notes_follow_the_article_and_judge_all_of_it():
    places = [row[0] for row in ROWS]
    said = "Eq. 1, Eq. 2, Eq. 3, Eq. 4, Eq. 5, Eq. 6, Eq. 7, Alg. 2, Fig. 3, Eq. 8, Eq. 9, Eq. 10, Fig. 4, Fig. 5"
    said = [
        "Fig. 1",
        "Fig. 2, Alg. 1",
        *said.split(", "),
        "Fig. 6",
        "Table 1",
        "Table 2",
        "Table 3",
        "Table 4",
        "Fig. 7",
    ]
    assert [places.index(place) for place in said] == sorted(places.index(place) for place in said)
    judged = [row for row in ROWS if len(row) == 5 and row[1] != "in the article"]
    assert len(judged) > 50
    for row in judged:
        assert re.match("confirmed|contradicted|left open|cannot be tested here", row[4]), row[0]
    # A verdict on a measured claim has its figure, or says where it stands.
    for row in judged:
        if row[0].startswith(("Fig. 4", "Fig. 5", "Fig. 6", "Table", "Fig. 7")) and not row[4].startswith("cannot"):
            assert "<!--.-->" in row[3], row[0]


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
    places = {
        "run:map/a, b/16;.2f": ("", "0.50"),
        "run:map/c%d/16;.1%": ("?", "75.0%"),
        "max run:map/*/16;.2f": ("0.1", "0.75"),
        "run:curve/1;d": ("9", "2"),
        "mean run:curve/*;.1f": ("2.3", "2.3"),
        "other:map;.2f": ("-", "not run"),
    }
    before, after = (
        " ".join(f"<!--{place}-->{texts[which]}<!--.-->" for place, texts in places.items()) for which in (0, 1)
    )
    assert pages.with_figures(reports, f"7 {before} | 8") == f"7 {after} | 8"
    assert pages.with_figures(reports, after) == after
    with pytest.raises(ValueError, match="must exist in the report"):
        pages.with_figures(reports, "<!--run:mpa;.2f-->1<!--.-->")
    with pytest.raises(ValueError, match="one value"):
        pages.with_figures(reports, "<!--run:curve/*;.2f-->1<!--.-->")


@pytest.mark.parametrize("name", ["paper-notes.md", "hashing.md"])
def test_no_line_begins_with_a_figure(name):
    """Markdown takes a comment at the beginning of a line for a block, and ends the paragraph before it."""
    assert not re.search(rf"^ *{pages.PLACE.pattern}", (DOCS / name).read_text(), re.M)


def test_the_soak_went_without_errors():
    assert REPORTS["service_soak"]["errors"] == 0
