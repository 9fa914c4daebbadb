"""docs/service.md is true: its code runs, and it names every code, limit and metric that the services have."""

import dataclasses
import pathlib
import re

from jcbir.protocol.refusals import REFUSALS
from jcbir.service import authority, cloud
from jcbir.service.client import ROUTES

ROOT = pathlib.Path(cloud.__file__).parent
PAGE = (ROOT.parent.parent / "docs" / "service.md").read_text()
SOURCES = {path.name: path.read_text() for path in ROOT.glob("*.py")}


def test_every_code_is_there_with_its_status():
    rows = {row.split("|")[1].strip(): row for row in PAGE.splitlines() if re.match(r"\| \d{3} \|", row)}
    declined = {pair for text in SOURCES.values() for pair in re.findall(r'DeclinedError\((\d+), "([a-z-]+)"', text)}
    assert len(declined) > 10
    for status, code in declined:
        assert f"`{code}`" in rows[status], (status, code)
    for error in REFUSALS:
        assert f"`{error.code}`" in PAGE


def test_every_limit_route_and_metric_is_there():
    limits = re.compile("most_|_bytes|_budget|_rate|pace|_seconds|_stock")
    for settings in (cloud.CloudSettings, authority.AuthoritySettings):
        for field in dataclasses.fields(settings):
            if limits.search(field.name):
                assert f"`{field.name}" in PAGE, field.name
    metrics = {
        name
        for text in SOURCES.values()
        for name in re.findall(r'telemetry\.(?:count|observe|gauge)\("([a-z_]+)"', text)
    }
    assert len(metrics) > 8
    for name in metrics:
        assert name in PAGE, name
    for route in {*ROUTES.values(), "/v1/queries", "/v1/reports", "/v1/card", "/health", "/metrics"}:
        assert route in PAGE
