"""docs/lattice.md is true: its example runs, its parameter table is what the library computes."""

import math
import pathlib
import re

import pytest

from jcbir.lattice import public

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "lattice.md").read_text()


@pytest.mark.slow
def test_the_example_finds_its_image(run_page):
    assert run_page("lattice.md")["distances"].argmin() == 7


def test_the_table_is_what_the_library_computes():
    table = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| ([\d,]+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert [int(row[0]) for row in table] == [8, 16, 32, 64, 128, 256, 512]
    for bits, lanes, flood, sentinels, images, rest in table:
        v = public.parameters(bits=int(bits))
        found = public.bounds(v)
        assert (v.lanes, v.flood, v.sentinels, f"{v.images:,}") == (int(lanes), int(flood), int(sentinels), images)
        margins = f"{found.margin_q:.2f} / {found.margin_reply:.2f}"
        per_code = f"{v.block_bytes / v.images:,.0f}"
        assert rest == f"{found.t:.1f} | {found.flooding:.1f} | {margins} | {per_code}"


def test_the_statistical_loss_is_as_stated():
    """A million images, 2^20 queries, k = 64: by Hellinger for two uniform numbers, by the triangle for one."""
    v = public.parameters(bits=64)
    shifts = -(-1_000_000 // v.images) * v.width * 2**20
    deviation = v.t * math.sqrt(10.5 * v.polys * v.degree) * math.sqrt(10.5 + 1 / 12)
    apart = 2.0**v.flood / deviation
    two = math.sqrt(2 * shifts * math.log(apart) / (4 * apart**2))
    one = shifts * math.sqrt(2 / math.pi) / (2 * apart)
    assert "it is 2^-39 with E" in PAGE and -40 < math.log2(two) < -39
    assert "instead of two: 2^-24" in PAGE and -25 < math.log2(one) < -24
