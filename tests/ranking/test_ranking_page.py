"""The code on docs/ranking.md runs as it stands there."""

import pathlib
import re

import pytest

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "ranking.md"


@pytest.mark.slow
def test_the_page_runs(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.S | re.M)
    assert len(blocks) == 2
    scope = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), scope)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("[ 17 ") or first.startswith("[17 ")
    assert second.startswith("9666560 151040 Operations(build_encryptions=18880")
