"""The page on other people's backbones does what it says."""

import pathlib
import re

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "bring-your-own-backbone.md"


def test_example_runs_and_separates():
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len([line for line in program.splitlines() if line.strip()]) <= 32
    names = {}
    exec(program, names)
    distances = names["distances"]
    within = max(distances[:8, :8].max(), distances[8:, 8:].max())
    assert within < distances[:8, 8:].min()
