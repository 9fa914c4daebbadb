"""The first snippet of the README gives the numbers that its comment says."""

import ast
import re
from pathlib import Path


def test_the_sum_of_encrypted_numbers_is_what_the_comment_says():
    page = (Path(__file__).parents[1] / "README.md").read_text()
    block = next(b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "to_signed_ints(" in b)
    *lines, last = block.rstrip().splitlines()
    expression, comment = last.split("  # ")
    names: dict = {}
    exec("\n".join(lines), names)
    assert eval(expression, names) == ast.literal_eval(comment)
