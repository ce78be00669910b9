"""One breaker, by docs/breakers.md: its states, what each input does, and what is told of it.

Each method is one kind of entry; `now` is the entry's stamp. `told` collects transitions until the fold takes them.
"""

from dataclasses import dataclass, field
from typing import Optional

from .entries import Result
from .settings import MILLION, Settings
from .window import Window

# How far a result's own timestamp may pull back the beginning of its call.
TIMESTAMP_PULL_MS = 60_000
NEVER = -(1 << 62)


@dataclass
class Slot:
    """A probe's lease."""

    request_id: str
    deadline: int


@dataclass
class Told:
    """A transition, or a command that left the state as it was."""

    at: int
    before: str
    after: str
    reason: str
    trips: int
    open_until: Optional[int] = None
    requests: Optional[int] = None
    failures: Optional[int] = None


@dataclass
class Breaker:
    """The breaker of one tenant and provider."""

    settings: Settings
    flag_off: bool
    state: str = "closed"
    boundary: int = NEVER
    row: int = 0
    last_applied: Optional[int] = None
    trips: int = 0
    reopenings: int = 0
    opened_at: int = 0
    hold_until: int = 0
    successes: int = 0
    slots: dict[int, Slot] = field(default_factory=dict)
    force: Optional[tuple[str, Optional[int]]] = None
    told: list[Told] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.window = Window(self.settings.window_ms)

    # What it shows.

    def shown(self) -> str:
        """The flag lies before a force, a force before the breaker's own judgement."""
        if self.flag_off:
            return "closed"
        if self.force:
            return self.force[0]
        return self.state if self.settings.enabled else "closed"

    def judges(self) -> bool:
        """Whether its own state moves."""
        return not self.flag_off and self.force is None and self.settings.enabled

    def deadline(self) -> int:
        """When an open circuit may be probed."""
        s = self.settings
        grown = min(int(s.timeout_ms * s.backoff_multiplier ** self.reopenings), s.max_timeout_ms)
        return max(self.opened_at + grown, min(self.hold_until, self.opened_at + s.max_timeout_ms))

    # Inputs.

    def advance(self, now: int) -> None:
        """What time has ended by now: a force's ttl, leases."""
        if self.force and self.force[1] is not None and self.force[1] <= now:
            self._end_force(self.force[1])
        if self.judges():
            self.slots = {claim: slot for claim, slot in self.slots.items() if slot.deadline > now}

    def result(self, now: int, result: Result) -> str:
        """Its disposition."""
        self.advance(now)
        s = self.settings
        began = now if result.timestamp is None else min(now, max(result.timestamp, now - TIMESTAMP_PULL_MS))
        began -= result.latency_ms or 0
        cancelled = result.status == "cancelled" and "cancelled" not in s.failure_statuses
        ignored_code = result.status != "success" and result.error_code in s.ignored_error_codes
        neither = cancelled or ignored_code
        failure = not neither and result.status in s.failure_statuses
        slow = s.latency_threshold_ms is not None and (result.latency_ms or 0) > s.latency_threshold_ms
        hint = now + result.retry_after_ms if failure and result.retry_after_ms else 0

        probe = self._slot_of(result.request_id)
        if probe is not None:
            del self.slots[probe]
            if neither:
                return "ignored"
            self._probed(now, failure, slow, hint)
            return "applied"
        if neither:
            return "ignored"
        if began < self.boundary:
            if hint and self.judges() and self.state == "open":
                self._hold(hint)
            return "late"
        if self.judges():
            if self.state != "closed":
                return "ignored"
            self._judge(now, failure, slow, hint)
            return "applied"
        if not self.flag_off and self.force and self.force[0] == "open":
            return "ignored"
        self._count(now, failure, slow)
        return "applied"

    def claim(self, now: int, claim: int, request_id: str, latest: int, lease_ms: int) -> str:
        """`granted`, `refused` or `not needed`."""
        self.advance(now)
        shown = self.shown()
        if shown == "closed":
            return "not needed"
        if self.force or now > latest or self._slot_of(request_id) is not None:
            return "refused"
        if self.state == "open":
            if now < self.deadline():
                return "refused"
            self._move(now, "half_open", "timeout_elapsed")
            self.slots, self.successes = {}, 0
        elif len(self.slots) >= self.settings.half_open_max_calls:
            return "refused"
        lease = max(self.settings.probe_timeout_ms, lease_ms)
        self.slots[claim] = Slot(request_id, now + lease)
        return "granted"

    def release(self, now: int, claim: int) -> None:
        """Frees that claim's slot and no other."""
        self.advance(now)
        if self.judges():
            self.slots.pop(claim, None)

    def command(self, now: int, to: str, ttl_ms: Optional[int]) -> None:
        """A force, its end, or a reset."""
        self.advance(now)
        if to == "auto":
            if self.force:
                self._end_force(now)
        elif to == "reset":
            if not self.force:
                before = self.shown()
                self._clear()
                self.trips = 0
                self._tell(now, before, "reset")
        else:
            before = self.shown()
            self.force = (to, None if ttl_ms is None else now + ttl_ms)
            self._tell(now, before, "forced")

    def switch(self, now: int, off: bool) -> None:
        """The emergency flag, as it now is for this breaker."""
        if off == self.flag_off:
            return
        self.advance(now)
        before = self.shown()
        self.flag_off = off
        if self.force is None:
            self._clear()
        if self.shown() != before:
            self._tell(now, before, "flag")

    def change(self, now: int, settings: Settings) -> None:
        """Other settings: they change no evidence, but for `enabled` and the window's length."""
        if settings == self.settings:
            return
        self.advance(now)
        before, old, self.settings = self.shown(), self.settings, settings
        if settings.window_ms != old.window_ms:
            self.window = self.window.resized(settings.window_ms, now)
            if self.last_applied is not None and now - self.last_applied >= settings.window_ms:
                self.row = 0
        if settings.enabled != old.enabled and self.force is None:
            self._clear()
            if self.shown() != before:
                self._tell(now, before, "disabled")

    # Steps.

    def _slot_of(self, request_id: Optional[str]) -> Optional[int]:
        if request_id is None or not self.judges() or self.state != "half_open":
            return None
        return next((claim for claim, slot in self.slots.items() if slot.request_id == request_id), None)

    def _count(self, now: int, failure: bool, slow: bool) -> None:
        self.window.count(now, failure, slow)
        self.last_applied = now

    def _judge(self, now: int, failure: bool, slow: bool, hint: int) -> None:
        """A result of an ordinary call while closed."""
        s = self.settings
        if self.last_applied is not None and now - self.last_applied >= s.window_ms:
            self.row = 0
        self._count(now, failure, slow)
        self.row = self.row + 1 if failure else 0
        total = self.window.total(now)
        enough = total.requests >= s.minimum_requests
        if failure and self.row >= s.failure_threshold:
            reason = "failure_threshold_exceeded"
        elif enough and total.failures * MILLION >= s.error_rate * total.requests:
            reason = "error_rate_threshold_exceeded"
        elif enough and s.latency_threshold_ms is not None and total.slow * MILLION >= s.slow_rate * total.requests:
            reason = "latency_threshold_exceeded"
        else:
            return
        self._open(now, reason, hint)

    def _probed(self, now: int, failure: bool, slow: bool, hint: int) -> None:
        """The result of a probe."""
        self._count(now, failure, slow)
        if failure or slow:
            self.reopenings += 1
            self._open(now, "half_open_failure", hint)
            return
        self.successes += 1
        if self.successes >= self.settings.success_threshold:
            before = self.shown()
            self._clear()
            self._tell(now, before, "probes_succeeded")

    def _open(self, now: int, reason: str, hint: int) -> None:
        total = self.window.total(now)
        self.trips += 1
        self.opened_at, self.hold_until, self.slots = now, 0, {}
        if hint:
            self._hold(hint)
        self._move(now, "open", reason)
        told = self.told[-1]
        told.open_until, told.requests, told.failures = self.deadline(), total.requests, total.failures

    def _hold(self, until: int) -> None:
        """A retry hint; it never shortens, and is cut by the setting of its time."""
        self.hold_until = max(self.hold_until, min(until, self.opened_at + self.settings.max_timeout_ms))

    def _move(self, now: int, state: str, reason: str) -> None:
        before, self.state = self.shown(), state
        self._tell(now, before, reason)

    def _clear(self) -> None:
        """Closed, and without evidence."""
        self.state, self.row, self.reopenings, self.successes = "closed", 0, 0, 0
        self.slots, self.last_applied = {}, None
        self.window = Window(self.settings.window_ms)

    def _end_force(self, at: int) -> None:
        assert self.force is not None
        before, was = self.shown(), self.force[0]
        self.force = None
        self._clear()
        if was == "open" and self.settings.enabled and not self.flag_off:
            self.state = "half_open"
        self._tell(at, before, "force_lifted")

    def _tell(self, at: int, before: str, reason: str) -> None:
        self.boundary = at
        self.told.append(Told(at, before, self.shown(), reason, self.trips))
