"""Blinders made ahead, while no query waits: each one is handed out once."""

import asyncio
from collections.abc import Awaitable, Callable

BATCH = 32
_PAUSE_SECONDS = 0.05


class Stock:
    """A stock of blinder rows that fills itself up in the background.

    Attributes:
        width: bytes of a row.
        target: rows to keep in stock.
    """

    def __init__(
        self, make: Callable[[int], Awaitable[bytes]], *, width: int, target: int, idle: Callable[[], bool]
    ) -> None:
        self.width, self.target = width, target
        self._make, self._idle = make, idle
        self._rows = bytearray()

    @property
    def count(self) -> int:
        """Rows in stock."""
        return len(self._rows) // self.width

    def take(self, count: int) -> bytes:
        """Hand out up to `count` rows; they leave the stock."""
        size = min(count, self.count) * self.width
        rows = bytes(self._rows[len(self._rows) - size :])
        del self._rows[len(self._rows) - size :]
        return rows

    async def keep_filling(self) -> None:
        """Fill up whenever nothing else waits, forever."""
        while True:
            if self.count < self.target and self._idle():
                self._rows += await self._make(min(BATCH, self.target - self.count))
            else:
                await asyncio.sleep(_PAUSE_SECONDS)


__all__ = ["BATCH", "Stock"]
