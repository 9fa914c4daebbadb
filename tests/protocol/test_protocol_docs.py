"""The examples of docs/protocol.md run, one after the other, as a reader would run them."""

import pathlib
import re

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "protocol.md"


def test_the_examples_run():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) == 6
    exec(compile("\n".join(blocks), str(PAGE), "exec"), {})
