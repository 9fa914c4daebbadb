"""What a release says of itself: one version everywhere, and whose every file is that is not code."""

import pathlib
import re
from fnmatch import fnmatchcase

import jcbir

ROOT = pathlib.Path(__file__).resolve().parents[1]
CODE = {".py", ".pyi", ".typed", ".pyc"}
TEXT = {".css", ".md", ".json", ".toml", ".yml", ".service"}


def noticed():
    return re.findall(r"^((?:jcbir|docs|experiments|tests)/\S+)$", (ROOT / "NOTICE").read_text(), re.M)


def carried():
    """Data in the package, where texts count too, and whatever else is not text in the source distribution."""
    for folder in ("jcbir", "docs", "experiments", "tests"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix not in (CODE if folder == "jcbir" else CODE | TEXT):
                yield path.relative_to(ROOT).as_posix()


def test_notice_names_every_file_that_is_not_code_and_nothing_else():
    found, lines = sorted(carried()), noticed()
    unnamed = [name for name in found if not any(fnmatchcase(name, line) for line in lines)]
    assert not unnamed, f"NOTICE: must say whose these are: {unnamed}"
    gone = [line for line in lines if not any(fnmatchcase(name, line) for name in found)]
    assert not gone, f"NOTICE: names what is not there: {gone}"


def test_changelog_and_citation_name_the_version():
    version = re.escape(jcbir.__version__)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(), re.M)
    released = re.search(rf"^## \[{version}\] - (\d{{4}}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert released and f'date-released: "{released[1]}"' in (ROOT / "CITATION.cff").read_text()
