"""The code on the ranking pages runs as it stands there."""

import pathlib
import re

import pytest

from jcbir.ranking import SCHEMES

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def run(page):
    """Execute the Python blocks of a page in one scope; how many there were."""
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.S | re.M)
    scope = {}
    for block in blocks:
        exec(compile(block, page, "exec"), scope)
    return len(blocks)


@pytest.mark.slow
def test_the_page_runs(capsys):
    assert run("ranking.md") == 2
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("[ 17 ") or first.startswith("[17 ")
    assert second.startswith("9666560 151040 Operations(build_encryptions=18880")


def test_the_page_on_your_own_scheme_runs(capsys, monkeypatch):
    # Puts the table back as it was.
    monkeypatch.setitem(SCHEMES, "single", None)
    assert run("bring-your-own-scheme.md") == 1
    assert SCHEMES["single"].name == "single"
    assert capsys.readouterr().out == "[7]\n"
