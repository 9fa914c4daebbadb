"""The tables of docs/service.md as an OpenAPI contract, held against both services by schemathesis."""

import pathlib
import re
import urllib.parse

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis import checks
from service_rig import refusal, running

from jcbir.protocol import wire
from jcbir.service.http import MEDIA_TYPE

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "service.md").read_text()
BINARY = {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}
REFUSED = [int(status) for status in re.findall(r"^\| (\d{3}) \|", PAGE, re.M)]
SETTINGS = hypothesis.settings(max_examples=40, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))


def frames():
    """Bodies: anything at all, and frames whose checksum is right around anything."""
    numbers = [number for number, _, _ in wire.MESSAGES.values()]

    def sealed(number, body):
        head = wire.HEADER.pack(wire.MAGIC, wire.VERSION, number, 0, len(body))
        return head + body + wire._checksum(head, body)

    return st.binary(max_size=200) | st.builds(sealed, st.sampled_from(numbers), st.binary(max_size=200))


def contract(side):
    """An OpenAPI document of one service, read off the page's tables of routes and of statuses."""
    rows = re.findall(r"^\| (cloud|authority|both) \| (`[^|]*`) \| ([^|]*)\| ([^|]*) \|$", PAGE, re.M)
    refusals = {str(status): {"description": "a Refusal", "content": BINARY} for status in REFUSED}
    paths = {}
    for where, routes, body, answer in rows:
        for method, path in re.findall(r"`(GET|POST) (/[a-z0-9/]+)`", routes):
            if where not in (side, "both"):
                continue
            content = BINARY
            if "JSON" in answer or "text" in answer:
                content = {"application/json" if "JSON" in answer else "text/plain": {"schema": {}}}
            operation = {"responses": {**refusals, "200": {"description": answer.strip(), "content": content}}}
            if body.strip():
                operation["requestBody"] = {"required": True, "content": BINARY}
            paths.setdefault(path, {})[method.lower()] = operation
    return {"openapi": "3.1.0", "info": {"title": side, "version": "1"}, "paths": paths}


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    with running(tmp_path_factory.mktemp("pair"), cloud={"workers": 1}) as pair:
        pair.publish()
        yield pair


schemathesis.openapi.media_type(MEDIA_TYPE, frames())
cloud, authority = (schemathesis.openapi.from_dict(contract(side)) for side in ("cloud", "authority"))


def hold(rig, side, case):
    """Send a case; the answer must be one that the page names, and a refusal a readable one."""
    told = case.as_transport_kwargs(base_url="http://service")
    query = urllib.parse.urlencode(told["params"], doseq=True)
    path = told["url"].removeprefix("http://service") + (f"?{query}" if query else "")
    response = rig.send(side, told["method"], path, told.get("data", b""), dict(told["headers"]))
    # A frame that is right in form may still be no order of this owner.
    case.validate_response(response, excluded_checks=[checks.positive_data_acceptance])
    if response.status_code != 200 and told["method"] != "HEAD":
        assert refusal(response).code


def test_the_contract_has_every_route(rig):
    for side in ("cloud", "authority"):
        known = {route.path: set(route.methods) - {"HEAD"} for route in getattr(rig, side).app.routes}
        told = {path: {method.upper() for method in operations} for path, operations in contract(side)["paths"].items()}
        assert told == known


@cloud.parametrize()
@SETTINGS
def test_cloud(case, rig):
    hold(rig, "cloud", case)


@authority.parametrize()
@SETTINGS
def test_authority(case, rig):
    hold(rig, "authority", case)
