"""Every page of docs/ runs as it stands there, and the site is made of all of them."""

import json
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
# Pages that compile whole networks or the lattice's transforms.
LONG = {"hashing.md", "lattice.md", "models.md", "ranking.md", "training-elsewhere.md"}


def pages_with_programs():
    for name in PAGES:
        if "```python\n" in (ROOT / "docs" / name).read_text():
            yield pytest.param(name, marks=[pytest.mark.slow] if name in LONG else [])
    yield "../README.md"


@pytest.mark.parametrize("name", list(pages_with_programs()))
def test_the_page_runs(name, run_page):
    assert run_page(name)["blocks"]


@pytest.mark.slow
def test_the_tour_ends_with_what_it_shows(run_page, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names = run_page("tour.ipynb")
    assert len(names["answer"].matches) == 4
    cells = json.loads((ROOT / "docs/tour.ipynb").read_text())["cells"]
    outputs = [output for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3


def test_the_readme_says_what_its_program_gives(run_page):
    names = run_page("../README.md")
    assert names["to_signed_ints"](names["total"], modulus=names["key"].public.n) == [21, -1]
    assert "'mAP@1000[retrieved,expected]'" in names["printed"]


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M))
    assert listed == set(PAGES)


def test_every_package_is_in_the_navigation():
    listed = set(re.findall(r"jcbir\.(\w+): api/\1\.md$", (ROOT / "mkdocs.yml").read_text(), re.M))
    found = {p.stem for p in (ROOT / "jcbir").iterdir() if p.is_dir() or p.suffix == ".py"}
    assert listed == {name for name in found if not name.startswith("_")} - {"cli"}


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}" for name in PAGES)])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / target).exists(), target
