"""Exponential back-off: how long to wait before the next attempt.

Retry libraries such as stamina and tenacity wrap one call that ends with a result or gives up. The loops of the
platform never give up, and start again from the first delay whenever a stream makes progress. Some are pure decisions
that compare a due time with the clock. They need only the formula, so it is here, once.
"""

import random
from dataclasses import dataclass
from datetime import timedelta

_MAX_DOUBLINGS = 30
"""Keeps `2 ** failures` small when something fails for days."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double from `first_s` to `limit_s`, both in seconds.

    `jitter` is the fraction by which a delay may be shortened at random, so that clients which failed together do not
    return together: with 0.5 each delay lies between half and all of its value. The default 0 is exact."""

    first_s: float
    limit_s: float
    jitter: float = 0.0

    def delay_s(self, failures: int) -> float:
        """Return the delay in seconds after `failures` failures in a row; 0 for none."""
        if failures <= 0:
            return 0.0
        delay = min(self.first_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), self.limit_s)
        return delay * random.uniform(1.0 - self.jitter, 1.0) if self.jitter else delay

    def delay(self, failures: int) -> timedelta:
        """Return `delay_s` as a timedelta."""
        return timedelta(seconds=self.delay_s(failures))
