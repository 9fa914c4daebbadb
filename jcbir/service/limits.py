"""Rate limits: a token bucket for each client address and each grant, in bounded memory."""

from collections import OrderedDict
from typing import NamedTuple

MOST_KEYS = 1 << 16


class Rate(NamedTuple):
    """How often something may be asked.

    Attributes:
        per_second: requests a second in the long run; 0 switches the limit off.
        burst: requests at once after a pause.
    """

    per_second: float
    burst: float


class Buckets:
    """Token buckets by name; the ones not used longest are forgotten first.

    Attributes:
        rate: of each bucket.
    """

    def __init__(self, rate: Rate, *, most: int = MOST_KEYS) -> None:
        self.rate = rate
        self._most = most
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, name: str, now: float) -> float:
        """Take one token: 0 if there was one, else the seconds until there is."""
        if not self.rate.per_second:
            return 0.0
        level, since = self._levels.pop(name, (self.rate.burst, now))
        level = min(self.rate.burst, level + max(0.0, now - since) * self.rate.per_second)
        allowed = level >= 1
        self._levels[name] = (level - 1 if allowed else level, now)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)
        return 0.0 if allowed else (1 - level) / self.rate.per_second


__all__ = ["Buckets", "Rate"]
