"""The programs of the ranking pages print what the pages say."""

import pytest


@pytest.mark.slow
def test_the_page_prints_what_it_says(run_page):
    first, second = run_page("ranking.md")["printed"].splitlines()
    assert first.startswith("[ 17 ") or first.startswith("[17 ")
    assert second.startswith("9666560 151040 Operations(build_encryptions=18880")


def test_the_page_on_your_own_scheme_finds_its_image(run_page):
    assert run_page("bring-your-own-scheme.md")["printed"] == "[7]\n"
