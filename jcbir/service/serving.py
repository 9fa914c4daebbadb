"""Run an application on a socket: uvicorn, TLS by certificate files, deadlines for headers, JSON logs, clean ends."""

import asyncio
import errno
import os
import resource
import ssl
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 15.0


def serve(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    certificate: str | os.PathLike[str] | None = None,
    private_key: str | os.PathLike[str] | None = None,
    header_seconds: float = HEADER_SECONDS,
    idle_seconds: int = 10,
    drain_seconds: int = 30,
    most_connections: int = 1024,
) -> None:
    """Serve until SIGTERM or SIGINT; then take no new request, finish the ones at hand, and return.

    Args:
        app: from `cloud.create_app` or `authority.create_app`.
        host: address to listen on.
        port: port to listen on.
        certificate: PEM file with the certificate chain; without one there is no TLS.
        private_key: PEM file with its private key.
        header_seconds: most seconds from connecting, or from the last answer, to the end of a request's headers.
        idle_seconds: seconds an idle connection is kept.
        drain_seconds: most seconds that shutting down waits for requests at hand.
        most_connections: connections beyond are answered 503.

    Raises:
        ValueError: see `check_certificate`.

    Example:
        >>> from starlette.applications import Starlette
        >>> serve(Starlette(), certificate="no/such.pem", private_key="no/such.key")
        Traceback (most recent call last):
        ...
        FileNotFoundError: [Errno 2] no such file: 'no/such.pem'
    """
    check_certificate(certificate, private_key)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="asyncio",
        http=_hasty_protocol(header_seconds),
        ws="none",
        lifespan="on",
        ssl_certfile=None if certificate is None else str(Path(certificate)),
        ssl_keyfile=None if private_key is None else str(Path(private_key)),
        access_log=False,
        log_config=_log_config(),
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=idle_seconds,
        timeout_graceful_shutdown=drain_seconds,
        limit_concurrency=most_connections,
        h11_max_incomplete_event_size=16384,
    )
    _allow_files()
    uvicorn.Server(config).run()


def check_certificate(certificate: str | os.PathLike[str] | None, private_key: str | os.PathLike[str] | None) -> None:
    """Check the files that TLS is to be served with, before anything listens.

    Args:
        certificate: PEM file with the certificate chain, or None for no TLS.
        private_key: PEM file with its private key, or None.

    Raises:
        ValueError: one without the other, or they are no certificate and the private key of it.
        FileNotFoundError: one is not there.

    Example:
        >>> check_certificate("cloud.pem", None)
        Traceback (most recent call last):
        ...
        ValueError: certificate: must come with a private key file, and it with a certificate, got one of them
    """
    if certificate is None and private_key is None:
        return
    if certificate is None or private_key is None:
        raise ValueError("certificate: must come with a private key file, and it with a certificate, got one of them")
    for file in (certificate, private_key):
        # The library's error would not name it.
        if not os.path.exists(file):
            raise FileNotFoundError(errno.ENOENT, "no such file", os.fspath(file))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, private_key)
    except ssl.SSLError as error:
        raise ValueError(f"certificate: must belong to {private_key}, got {certificate} ({error.reason})") from None


def _allow_files() -> int:
    """Let this process, and the workers it starts, open as many files as the system lets them; each map holds one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def _hasty_protocol(header_seconds: float) -> type[asyncio.Protocol]:
    """Make an HTTP/1.1 protocol that closes connections whose headers do not arrive in time.

    uvicorn by itself waits forever for the rest of a header.
    """

    class HastyProtocol(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait_for_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._wait_for_headers()

        def _wait_for_headers(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = self.loop.call_later(header_seconds, self._expire)

        def _expire(self) -> None:
            # Headers are complete once a cycle runs; its body has deadlines of its own.
            if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
                self.transport.close()

    return HastyProtocol


def _log_config() -> dict[str, Any]:
    own = {"handlers": ["stderr"], "level": "INFO", "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "jcbir.service._telemetry.JsonFormatter"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "loggers": dict.fromkeys(("jcbir.service", "uvicorn", "uvicorn.error"), own),
    }
