"""How the cloud asks the authority."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from jcbir.errors import FormatError
from jcbir.protocol import wire
from jcbir.protocol.messages import Ranking, Refusal, ScoreReport
from jcbir.service.client import trusted_context
from jcbir.service.http import MEDIA_TYPE, DeclinedError

MOST_BYTES = 64 << 20


@contextlib.asynccontextmanager
async def open_upstream(
    url: str, *, certificate: Path | None, seconds: float, most: int, transport: httpx.AsyncBaseTransport | None
) -> AsyncIterator[httpx.AsyncClient]:
    """Keep connections to the authority for the length of a block.

    Args:
        url: where it listens.
        certificate: PEM file to trust; None trusts the system's issuers.
        seconds: most seconds to wait for an answer.
        most: most connections.
        transport: instead of the network.

    Yields:
        The connections.

    Example:
        >>> async def look():
        ...     link = {"certificate": None, "seconds": 5.0, "most": 4, "transport": None}
        ...     async with open_upstream("http://127.0.0.1:9", **link) as client:
        ...         return str(client.base_url), client.is_closed
        >>> asyncio.run(look())
        ('http://127.0.0.1:9', False)
    """
    context = trusted_context(url, certificate=certificate)
    async with httpx.AsyncClient(
        base_url=url,
        verify=context,
        timeout=httpx.Timeout(seconds, connect=min(seconds, 10.0)),
        limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
        transport=transport,
        trust_env=False,
    ) as client:
        yield client


async def ask_authority(client: httpx.AsyncClient, report: ScoreReport) -> Ranking:
    """Have a report ranked.

    Args:
        client: from `open_upstream`.
        report: the report.

    Returns:
        The authority's ranking.

    Raises:
        DeclinedError: what the authority refused, or that it cannot be reached.

    Example:
        >>> from jcbir.protocol.session import small_system
        >>> body = wire.to_bytes(small_system().ranking)
        >>> async def ask():
        ...     answers = httpx.MockTransport(lambda request: httpx.Response(200, content=body))
        ...     async with httpx.AsyncClient(base_url="http://authority", transport=answers) as client:
        ...         return await ask_authority(client, small_system().report)
        >>> asyncio.run(ask()) == small_system().ranking
        True
    """
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
            return wire.from_bytes(bytes(body), expect=Ranking)
        refusal = wire.from_bytes(bytes(body), expect=Refusal)
    except FormatError:
        raise DeclinedError(
            502, "bad-authority", f"the authority answered {response.status_code} and no message"
        ) from None
    later = response.headers.get("retry-after", "")
    if response.status_code in (429, 503):
        pause = float(later) if later.isdecimal() else 1.0
        raise DeclinedError(503, refusal.code, refusal.reason, retry_after=min(pause, 30.0))
    raise DeclinedError(response.status_code, refusal.code, refusal.reason)


__all__ = ["ask_authority", "open_upstream"]
