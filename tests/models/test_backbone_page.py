"""docs/backbones.md is what its command makes of the committed reports."""

import pathlib

from experiments import backbone_page

ROOT = pathlib.Path(__file__).parents[2]


def test_the_page_is_made_from_the_reports():
    config = backbone_page.Config()
    places = {name: ROOT / path for name, path in vars(config).items()}
    made = backbone_page.page(*backbone_page.reports(backbone_page.Config(**places)))
    assert places["page"].read_text() == made
