"""The fold over a whole log: identities, policies, flags and every breaker (docs/protocol.md, docs/breakers.md)."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Iterable, Optional, Union

from .breaker import Breaker, Told
from .entries import Claim, Command, Flag, FoldVersion, Message, Policy, Rejected, Result, decode
from .settings import InForce, Policies

Key = tuple[str, str]
# Beyond these the router may forget identities (docs/protocol.md, Results): a model that remembers all would differ.
REMEMBERED = 1_000_000


@dataclass(frozen=True)
class Transition:
    """What an event of a breaker has to say."""

    position: int
    tenant: str
    provider: str
    told: Told

    def name(self) -> tuple[int, str, str, str, str, str]:
        """What makes it this one."""
        return (self.position, self.tenant, self.provider, self.told.before, self.told.after, self.told.reason)


@dataclass(frozen=True)
class Judged:
    """What became of a result."""

    position: int
    stamp: int
    tenant: Optional[str]
    assignment_id: Optional[str]
    msg_id: Optional[str]
    status: str
    disposition: str

    def metered(self) -> bool:
        """One usage event for each result that is neither rejected nor a duplicate."""
        return self.disposition not in ("rejected", "duplicate")


@dataclass
class Refusal:
    """A time in which a breaker refuses whoever is no probe. `until` is `None` while it lasts."""

    state: str
    since: int
    since_position: int
    until: Optional[int] = None


@dataclass(frozen=True)
class Grant:
    """A claim that got a slot."""

    position: int
    stamp: int
    key: Key
    in_flight: int
    cap: int


@dataclass
class Fold:
    """The state of all breakers after the entries applied so far, and what they brought about."""

    position: int = 0
    stamp: int = 0
    version: int = 1
    policies: Policies = field(default_factory=Policies)
    in_force: dict[Key, InForce] = field(default_factory=dict)
    breakers: dict[Key, Breaker] = field(default_factory=dict)
    flags: dict[Optional[str], tuple[tuple[int, int], bool]] = field(default_factory=dict)
    seen: dict[tuple[str, str, str], str] = field(default_factory=dict)
    results: list[Judged] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)
    refusals: dict[Key, list[Refusal]] = field(default_factory=dict)
    grants: dict[str, list[Grant]] = field(default_factory=dict)
    claims: Counter = field(default_factory=Counter)
    kinds: Counter = field(default_factory=Counter)

    def all(self, messages: Iterable[Message]) -> "Fold":
        """Applies all of a log."""
        for message in messages:
            self.apply(message)
        return self

    def apply(self, message: Message) -> None:
        """Applies one entry."""
        self.position = message.position
        # Time goes back by less than five minutes without an effect: the documents name none.
        self.stamp = max(self.stamp, message.stamp)
        entry = decode(message, self.version)
        self.kinds[type(entry).__name__] += 1
        if isinstance(entry, Result):
            self._result(message, entry)
        elif isinstance(entry, Rejected):
            self._judged(message, None, entry.status, "rejected")
        elif isinstance(entry, Policy):
            self._policy(entry)
        elif isinstance(entry, Flag):
            self._flag(entry)
        elif isinstance(entry, Claim):
            self._claim(entry)
        elif isinstance(entry, Command):
            self._command(entry)
        elif isinstance(entry, FoldVersion):
            self.version = max(self.version, entry.version)

    def finish(self, now: int) -> None:
        """Ends what time alone has ended by now, for comparing with what workers show then."""
        self.stamp = max(self.stamp, now)
        for key, breaker in self.breakers.items():
            breaker.advance(self.stamp)
            self._take(key)

    def _result(self, message: Message, result: Result) -> None:
        key = (result.tenant, result.provider)
        breaker = self.breakers.get(key)
        if breaker is None:
            # A rejected result is not remembered: the documents do not say so, but a copy that comes once a policy
            # names the provider could not count otherwise.
            if not result.ended:
                self._judged(message, result, result.status, "rejected")
            return
        before = self.seen.get(result.identity)
        if before is None:
            self.seen[result.identity] = "ended" if result.ended else "result"
            assert len(self.seen) < REMEMBERED
            disposition = breaker.result(self.stamp, result)
            self._take(key)
        elif before == "ended" and not result.ended:
            self.seen[result.identity] = "result"
            disposition = "late"
        else:
            disposition = "duplicate"
        if not result.ended:
            self._judged(message, result, result.status, disposition)

    def _judged(self, message: Message, result: Optional[Result], status: str, disposition: str) -> None:
        tenant, assignment = (result.tenant, result.assignment_id) if result else (None, None)
        self.results.append(
            Judged(message.position, message.stamp, tenant, assignment, message.msg_id, status, disposition)
        )

    def _policy(self, entry: Policy) -> None:
        if not self.policies.put(entry.tenant, entry.policy_id, entry.revision, entry.document):
            return
        wanted = {(entry.tenant, p): found for p, found in self.policies.of_tenant(entry.tenant).items()}
        for key in [key for key in self.breakers if key[0] == entry.tenant and key not in wanted]:
            self._end_refusal(key, self.stamp)
            del self.breakers[key], self.in_force[key]
        for key, found in sorted(wanted.items()):
            if key in self.breakers:
                self.breakers[key].change(self.stamp, found.settings)
            else:
                self.breakers[key] = Breaker(found.settings, self._is_off(entry.tenant))
            self.in_force[key] = found
            self._take(key)

    def _flag(self, entry: Flag) -> None:
        standing = self.flags.get(entry.tenant)
        if (standing and entry.revision <= standing[0]) or self._is_late(entry):
            return
        self.flags[entry.tenant] = (entry.revision, entry.enabled)
        for key, breaker in sorted(self.breakers.items()):
            breaker.switch(self.stamp, self._is_off(key[0]))
            self._take(key)

    def _is_late(self, entry: Union[Command, Flag]) -> bool:
        """Whether it comes past the latest stamp that it bears, which counts from version 4 of the fold on."""
        return self.version >= 4 and entry.latest is not None and self.stamp > entry.latest

    def _is_off(self, tenant: str) -> bool:
        """A tenant's breakers work if the global flag and its own are both on."""
        return any(not self.flags[scope][1] for scope in (None, tenant) if scope in self.flags)

    def _claim(self, entry: Claim) -> None:
        key = (entry.tenant, entry.provider)
        breaker = self.breakers.get(key)
        if breaker is None:
            return
        if entry.release:
            breaker.release(self.stamp, entry.claim)
        else:
            if self.version >= 4 and entry.takes is not None:
                # One step: the slot that comes too late for its request is released, and the claim judged.
                breaker.release(self.stamp, entry.takes)
            verdict = breaker.claim(self.stamp, entry.claim, entry.request_id, entry.latest, entry.lease_ms)
            self.claims[verdict] += 1
            if verdict == "granted":
                cap = breaker.settings.half_open_max_calls
                grant = Grant(self.position, self.stamp, key, len(breaker.slots), cap)
                self.grants.setdefault(entry.request_id, []).append(grant)
        self._take(key)

    def _command(self, entry: Command) -> None:
        key = (entry.tenant, entry.provider)
        breaker = self.breakers.get(key)
        if breaker is None or self._is_late(entry):
            return
        breaker.command(self.stamp, entry.to, entry.ttl_ms)
        self._take(key)

    def _take(self, key: Key) -> None:
        """Takes what a breaker told, and follows when it refuses."""
        breaker = self.breakers[key]
        for told in breaker.told:
            self.transitions.append(Transition(self.position, *key, told))
            self._end_refusal(key, told.at)
            if told.after != "closed":
                self.refusals.setdefault(key, []).append(Refusal(told.after, told.at, self.position))
        breaker.told.clear()

    def _end_refusal(self, key: Key, at: int) -> None:
        last = self.refusals.get(key, [])[-1:]
        if last and last[0].until is None:
            last[0].until = at
