"""How the cloud asks the authority."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from jcbir.errors import FormatError
from jcbir.protocol import wire
from jcbir.protocol.messages import Ranking, Refusal, ScoreReport
from jcbir.protocol.refusals import OverBudgetError
from jcbir.service._http import MEDIA_TYPE, DeclinedError
from jcbir.service.client import check_url, trusted_context

MOST_BYTES = 64 << 20
PROBE_SECONDS = 5.0
# The pool looks at each of its connections for every request: more cost more than they bring.
CONNECTIONS = 16


@contextlib.asynccontextmanager
async def open_authority(
    url: str,
    *,
    certificate: Path | None,
    insecure_http: bool,
    seconds: float,
    transport: httpx.AsyncBaseTransport | None,
) -> AsyncIterator[httpx.AsyncClient]:
    """Keep connections to the authority for the length of a block."""
    if transport is None:
        check_url(url, insecure_http=insecure_http)
    context = trusted_context(url, certificate=certificate)
    async with httpx.AsyncClient(
        base_url=url,
        verify=context,
        timeout=httpx.Timeout(seconds, connect=min(seconds, 10.0)),
        limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
        transport=transport,
        trust_env=False,
    ) as client:
        yield client


async def is_up(client: httpx.AsyncClient) -> bool:
    """Whether the authority answers, and is one."""
    try:
        health = (await client.get("/health", timeout=PROBE_SECONDS)).json()
    except (httpx.HTTPError, ValueError):
        return False
    return isinstance(health, dict) and health.get("service") == "authority" and health.get("ok") is True


async def ask_authority(client: httpx.AsyncClient, report: ScoreReport) -> Ranking:
    """Have a report ranked."""
    content = await asyncio.to_thread(wire.to_bytes, report)
    body = bytearray()
    try:
        headers = {"content-type": MEDIA_TYPE}
        async with client.stream("POST", "/v1/reports", content=content, headers=headers) as response:
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > MOST_BYTES:
                    raise DeclinedError(502, "bad-authority", f"the authority sent more than {MOST_BYTES} bytes")
    except httpx.HTTPError:
        raise DeclinedError(503, "no-authority", "the authority does not answer", retry_after=2.0) from None
    try:
        if response.status_code == 200:
            return wire.from_bytes(memoryview(body), expect=Ranking)
        refusal = wire.from_bytes(memoryview(body), expect=Refusal)
    except FormatError:
        raise DeclinedError(
            502, "bad-authority", f"the authority answered {response.status_code} and no message"
        ) from None
    if response.status_code in (429, 503) and refusal.code != OverBudgetError.code:
        raise DeclinedError(503, refusal.code, refusal.reason, retry_after=min(max(refusal.retry_after, 1), 30))
    raise DeclinedError(response.status_code, refusal.code, refusal.reason, retry_after=refusal.retry_after or None)
