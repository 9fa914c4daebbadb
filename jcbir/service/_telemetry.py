"""What a service tells its operator: counters for Prometheus, one JSON line for each request; no body, no secret."""

import asyncio
import bisect
import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

import jcbir

LOGGER = "jcbir.service"
HELP = {
    "authority_up": "1 while the authority answers, else 0.",
    "blinder_pool": "Blinders made ahead that are left.",
    "blinders_total": "Blinders used, by where they came from.",
    "body_bytes": "Bytes of request bodies in memory.",
    "build_info": "Always 1; the version is a label.",
    "delivered_images_total": "Sealed images handed over.",
    "forged_scores_total": "Reports whose sentinels were wrong.",
    "images": "Images held.",
    "pending_queries": "Queries at hand.",
    "pending_reports": "Reports at hand.",
    "predicted_work_seconds": "Seconds of work at hand, by prediction.",
    "refusals_total": "Refusals by code.",
    "request_duration_seconds": "Time from a request to the end of its answer.",
    "requests_total": "Requests by route and status.",
    "score_duration_seconds": "Time a query spent with the workers, waiting for one included.",
    "waiting_jobs": "Jobs that wait for a worker.",
    "worker_deaths_total": "Workers lost and replaced.",
}
"""What each metric is, without the prefix of its service."""

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
Labels = tuple[tuple[str, str], ...]


class Telemetry:
    """Counters, histograms of seconds, and gauges read when asked.

    Attributes:
        times: whether seconds are shown: those of work under a secret key are nobody's business.
    """

    def __init__(self, prefix: str, *, times: bool = True) -> None:
        self._prefix, self.times = prefix, times
        self._counts: dict[tuple[str, Labels], float] = defaultdict(float)
        self._times: dict[tuple[str, Labels], list[float]] = {}
        self._gauges: dict[str, Callable[[], float]] = {}

    def count(self, name: str, *, amount: int = 1, **labels: str) -> None:
        """Add to a counter."""
        self._counts[name, tuple(sorted(labels.items()))] += amount

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add a duration to a histogram."""
        if not self.times:
            return
        # One cell for each bound, one beyond all of them, and the sum.
        cells = self._times.setdefault((name, tuple(sorted(labels.items()))), [0.0] * (len(BOUNDS) + 2))
        cells[bisect.bisect_left(BOUNDS, seconds)] += 1
        cells[-1] += seconds

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Name a value that is read when somebody asks."""
        self._gauges[name] = read

    def text(self) -> str:
        """All of it in Prometheus' text format 0.0.4."""
        lines: list[str] = []
        for kind, names in (
            ("counter", sorted({name for name, _ in self._counts})),
            ("histogram", sorted({name for name, _ in self._times})),
            ("gauge", sorted(self._gauges)),
        ):
            for name in names:
                # What counts up elsewhere is read like a gauge.
                shown = "counter" if name.endswith("_total") else kind
                lines += [f"# HELP {self._prefix}_{name} {HELP[name]}", f"# TYPE {self._prefix}_{name} {shown}"]
                lines += self._lines(kind, name)
        name = f"{self._prefix}_build_info"
        lines += [f"# HELP {name} {HELP['build_info']}", f"# TYPE {name} gauge"]
        lines.append(f'{name}{{version="{jcbir.__version__}"}} 1')
        return "\n".join(lines) + "\n"

    def _lines(self, kind: str, name: str) -> list[str]:
        full = f"{self._prefix}_{name}"
        if kind == "gauge":
            return [f"{full} {self._gauges[name]():g}"]
        if kind == "counter":
            return [f"{full}{_braces(key)} {value:g}" for (n, key), value in self._counts.items() if n == name]
        lines = []
        for (n, key), cells in self._times.items():
            if n != name:
                continue
            total = 0.0
            for bound, cell in zip((*map(str, BOUNDS), "+Inf"), cells[:-1], strict=True):
                total += cell
                lines.append(f"{full}_bucket{_braces((*key, ('le', bound)))} {total:g}")
            lines += [f"{full}_sum{_braces(key)} {cells[-1]:g}", f"{full}_count{_braces(key)} {total:g}"]
        return lines


class StalledError(Exception):
    """Whoever asked does not read the answer."""


class Watch:
    """Middleware around everything: times each request, counts and logs it, and gives up on a reader that stalls.

    Attributes:
        app: the application inside.
    """

    def __init__(self, app: ASGIApp, *, telemetry: Telemetry, routes: frozenset[str], send_seconds: float) -> None:
        self.app = app
        self._telemetry, self._routes, self._send_seconds = telemetry, routes, send_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, seen = time.monotonic(), {"status": 0, "sent": 0, "received": 0}

        async def timed_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
            seen["sent"] += len(message.get("body", b""))
            try:
                async with asyncio.timeout(self._send_seconds):
                    await send(message)
            except TimeoutError:
                raise StalledError from None

        async def counted_receive() -> Message:
            message = await receive()
            seen["received"] += len(message.get("body", b""))
            return message

        try:
            await self.app(scope, counted_receive, timed_send)
        except StalledError:
            # Nothing more can be said; the server closes the connection.
            log_event("stalled", client=client_name(scope))
        finally:
            route = scope["path"] if scope["path"] in self._routes else "other"
            seconds = time.monotonic() - started
            self._telemetry.count("requests_total", route=route, status=str(seen["status"] or 500))
            self._telemetry.observe("request_duration_seconds", seconds, route=route)
            log_event(
                "request", route=route, client=client_name(scope), seconds=round(seconds, 4), **seen,
                **scope.get("jcbir", {}),
            )  # fmt: skip


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, event, fields; of an exception its type and where, not its values."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            line["at"] = _places(record.exc_info[2])
        return json.dumps(line, ensure_ascii=True)


def log_event(event: str, *, level: int = logging.INFO, **fields: str | int | float | bool) -> None:
    """Log one thing that happened."""
    logging.getLogger(LOGGER).log(level, event, extra={"fields": fields})


def client_name(scope: Scope) -> str:
    """Name who asks."""
    return (scope.get("client") or ("unknown", 0))[0]


def _braces(labels: Labels) -> str:
    # Label values are routes, statuses and codes of our own: nothing needs escaping.
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}" if labels else ""


def _places(traceback) -> list[str]:
    places = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{code.co_qualname}:{traceback.tb_lineno}")
        traceback = traceback.tb_next
    return places[-12:]
