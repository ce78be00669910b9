"""The sliding window of a breaker (docs/breakers.md, When it opens)."""

from dataclasses import dataclass

BUCKETS = 10


@dataclass
class Counts:
    """What a window, or one of its buckets, counts."""

    requests: int = 0
    failures: int = 0
    slow: int = 0


class Window:
    """Ten buckets on fixed multiples of a tenth of the window's length; one counts until ten buckets later."""

    def __init__(self, length_ms: int) -> None:
        self.bucket_ms = length_ms // BUCKETS
        self.buckets: dict[int, Counts] = {}

    def count(self, now: int, failure: bool, slow: bool) -> None:
        """Adds one result."""
        at = now // self.bucket_ms
        self.buckets = {begin: counts for begin, counts in self.buckets.items() if at - begin < BUCKETS}
        bucket = self.buckets.setdefault(at, Counts())
        bucket.requests += 1
        bucket.failures += failure
        bucket.slow += slow

    def total(self, now: int) -> Counts:
        """What counts at a moment."""
        at, sum_of = now // self.bucket_ms, Counts()
        for begin, counts in self.buckets.items():
            if at - begin < BUCKETS:
                sum_of.requests += counts.requests
                sum_of.failures += counts.failures
                sum_of.slow += counts.slow
        return sum_of

    def empty(self) -> None:
        """Forgets all."""
        self.buckets = {}

    def resized(self, length_ms: int, now: int) -> "Window":
        """With another length: keeps the old buckets that begin within the new window."""
        fresh = Window(length_ms)
        first = (now // fresh.bucket_ms - (BUCKETS - 1)) * fresh.bucket_ms
        for begin, counts in self.buckets.items():
            if begin * self.bucket_ms >= first:
                bucket = fresh.buckets.setdefault(begin * self.bucket_ms // fresh.bucket_ms, Counts())
                bucket.requests += counts.requests
                bucket.failures += counts.failures
                bucket.slow += counts.slow
        return fresh
