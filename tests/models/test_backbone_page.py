"""docs/backbones.md is what its command makes of the committed reports."""

import json
import pathlib

from experiments import backbone_page

ROOT = pathlib.Path(__file__).parents[2]


def test_the_page_is_made_from_the_reports():
    config = backbone_page.Config()
    reports = (json.loads((ROOT / path).read_text()) for path in (config.check, config.bench, config.layers))
    assert (ROOT / config.page).read_text() == backbone_page.page(*reports)
