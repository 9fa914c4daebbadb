"""Each fault of the list can still be put in, and names tests that exist."""

import json
import re

import pytest

from experiments import mutants, pages
from experiments.running import RESULTS, ROOT

MUTANTS = mutants.read_mutants()


@pytest.mark.parametrize("package", sorted({mutant.package for mutant in MUTANTS}))
def test_every_fault_can_be_put_in(package):
    for mutant in (mutant for mutant in MUTANTS if mutant.package == package):
        before = (ROOT / mutant.file).read_text()
        assert mutants.apply(mutant, before) != before and mutant.breaks
        for test in mutant.tests:
            file, _, name = test.partition("::")
            text = (ROOT / file).read_text()
            assert not name or re.search(rf"^(?:async )?def {name}\(", text, re.M), f"{test} does not exist"


def test_every_package_has_its_faults():
    packages = {path.stem for path in (ROOT / "jcbir").iterdir() if (path / "__init__.py").exists()}
    assert {mutant.package for mutant in MUTANTS} >= packages | {"codes", "errors"}
    assert len({(mutant.file, mutant.edits) for mutant in MUTANTS}) == len(MUTANTS)


def test_a_text_that_is_not_there_once_is_named():
    mutant = mutants.Mutant("codes", "nothing", "jcbir/codes.py", (("a = 1", "a = 2"),), ())
    assert mutants.apply(mutant, "a = 1\n") == "a = 2\n"
    for text in ("", "a = 1\na = 1\n"):
        with pytest.raises(ValueError, match=r"jcbir/codes\.py: must hold once"):
            mutants.apply(mutant, text)
    with pytest.raises(SyntaxError):
        mutants.apply(mutant._replace(edits=(("a = 1", "a = "),)), "a = 1\n")


def test_a_fault_is_taken_out_again(tmp_path):
    (tmp_path / "code.py").write_text("a = 1\n")
    before = (tmp_path / "code.py").stat()
    with mutants.mutated(tmp_path, mutants.Mutant("", "", "code.py", (("1", "2"),), ())):
        assert (tmp_path / "code.py").read_text() == "a = 2\n"
    assert (tmp_path / "code.py").read_text() == "a = 1\n"
    assert (tmp_path / "code.py").stat().st_mtime_ns == before.st_mtime_ns


def test_the_summary_counts_by_package():
    listed = [mutants.Mutant(name, "b", "f", (), ()) for name in ("x", "x", "y")]
    found = mutants.summary(listed, ["t::a", "", "t::b"])
    assert found["packages"] == {"x": {"faults": 2, "noticed": 1}, "y": {"faults": 1, "noticed": 1}}
    assert [fault["noticed_by"] for fault in found["faults"]] == ["t::a", "", "t::b"]


def test_the_page_counts_first_tries_where_they_were_kept():
    tries = {"x": [True, False, None], "y": [None], "z": [True]}
    listed = [mutants.Mutant(name, "b", "f", (), (), "", first) for name, each in tries.items() for first in each]
    found = mutants.summary(listed, ["t::a"] * len(listed))
    lines = pages.faults({**json.loads((RESULTS / "mutants.json").read_text()), **found}).splitlines()
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert rows[2:5] == [["x", "3", "3", "1 of 2"], ["y", "1", "1", ""], ["z", "1", "1", "1 of 1"]]
    assert rows[5] == ["all", "5", "5 (100.0%)", "2 of 3 (66.7%)"]


def test_the_copy_has_what_the_tests_are_run_with():
    """Faults are noticed under the same strictness, and not because a fixture is missing."""
    with mutants.copied_tree() as tree:
        assert (tree / "conftest.py").read_bytes() == (ROOT / "conftest.py").read_bytes()
