"""The checks: each compares a part of a recording with the model, and returns what is wrong, in words."""

from collections import Counter, defaultdict
from typing import Any, Callable, Optional

from harness.load import Ack, Decision
from model.entries import RESULT_SUBJECT, Message
from model.fold import Fold, Refusal
from .recording import Recording, Shown

# How far the clock by which a worker shows a window may be from this one's.
CLOCK_MS = 1500
# How long after a log was put back a worker may decide by the lost one: it reconnects, and then looks.
NOTICE_MS = 5_000
# Faults of one kind that are named one by one.
NAMED = 4


class Model:
    """The log of a recording, folded."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.fold = Fold().all(recording.log)
        self.by_position: dict[int, Message] = {message.position: message for message in recording.log}

    def was_lost(self, at: int, notice: int = 0) -> bool:
        """Whether what happened then may be missing in the log, since that was put back or deleted."""
        return any(since <= at <= until + notice for since, until in self.recording.lost)

    def by_lost_log(self, one: Decision) -> bool:
        """Whether a decision may have been made by a log that is lost."""
        return self.was_lost(one.asked, NOTICE_MS) or self.was_lost(one.got, NOTICE_MS)


def acknowledged(model: Model) -> list[str]:
    """Each acknowledged result is in the log, and each result in the log was sent."""
    faults: list[str] = []
    names: Counter[str] = Counter()
    for message in model.recording.log:
        if message.subject.startswith(RESULT_SUBJECT) and message.msg_id:
            names[message.msg_id] += 1
    for ack in model.recording.sent:
        if ack.position is None or ack.acknowledged is None:
            faults.append(f"{ack.msg_id} was never acknowledged")
        elif ack.msg_id not in names and not model.was_lost(ack.acknowledged):
            at = model.by_position.get(ack.position)
            stands = (at.msg_id or at.subject) if at else "nothing"
            faults.append(f"{ack.msg_id} was acknowledged at {ack.position}, where {stands} stands")
    sent = {ack.msg_id for ack in model.recording.sent}
    faults += [f"{name} stands in the log and was not sent" for name in names if name.removesuffix(":copy") not in sent]
    return faults


def metered(model: Model) -> list[str]:
    """Exactly one usage event for each result that is metered, none for others."""
    wanted = {(one.tenant, one.assignment_id): one for one in model.fold.results if one.metered()}
    found = Counter((event["tenant_id"], event.get("assignment_id")) for event in model.recording.usage)
    sent: dict[tuple[Any, Any], Ack] = {(ack.tenant, ack.assignment_id): ack for ack in model.recording.sent}
    faults = [
        f"no usage event for {key} at {one.position} ({one.disposition})"
        for key, one in wanted.items() if key not in found
    ]
    for key, count in found.items():
        if count > 1:
            faults.append(f"{count} usage events for {key}")
        ack = sent.get(key)
        excused = ack is not None and ack.acknowledged is not None and model.was_lost(ack.acknowledged)
        if key not in wanted and not excused:
            faults.append(f"a usage event for {key}, which the log does not hold or rejects")
    return faults


def rejected(model: Model) -> list[str]:
    """No result that executors sent is rejected: all tenants and providers have policies."""
    return [
        f"the result {one.msg_id} at {one.position} is rejected: no policy names its provider before it in the log"
        for one in model.fold.results if one.disposition == "rejected"
    ]


def counted(model: Model) -> list[str]:
    """Workers whose counters run since before the load count every result once, as it was judged."""
    faults = []
    for worker in model.recording.workers:
        if worker.results is None:
            continue
        wanted = Counter(
            f"{one.status} {one.disposition}" for one in model.fold.results if one.position > worker.counted_from
        )
        if dict(wanted) != worker.results:
            pairs = {
                name: (worker.results.get(name, 0), wanted.get(name, 0))
                for name in wanted.keys() | worker.results.keys()
            }
            differs = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
            faults.append(f"{worker.name} counts results otherwise than the model (counted, model's): {differs}")
    return faults


def breakers(model: Model) -> list[str]:
    """Each worker at the log's end shows each breaker as the model has it."""
    faults = []
    for worker in model.recording.workers:
        if worker.position != model.fold.position:
            faults.append(f"{worker.name} is at {worker.position} of {model.fold.position}")
            continue
        found = {(one["tenant_id"], one["provider_id"]): one for one in worker.breakers}
        if found.keys() != model.fold.breakers.keys():
            faults.append(f"{worker.name} has other breakers: {sorted(found.keys() ^ model.fold.breakers.keys())[:6]}")
        for key in sorted(found.keys() & model.fold.breakers.keys()):
            differs = _differs(model, worker, key, found[key])
            if differs:
                faults.append(f"{worker.name} shows of {'/'.join(key)} (shown, model's): {differs}")
    return faults


def _differs(model: Model, worker: Shown, key: tuple[str, str], one: dict) -> dict:
    breaker = model.fold.breakers[key]
    forced = one["forced"] and (one["forced"]["state"], one["forced"].get("until"))
    compared = {
        "state": (one["state"], breaker.shown()),
        "trips": (one["trips"], breaker.trips),
        "forced": (forced, breaker.force),
        "flag_off": (one["flag_off"], breaker.flag_off),
        "policy_id": (one["policy_id"], model.fold.in_force[key].policy_id),
        "enabled": (one["settings"]["enabled"], breaker.settings.enabled),
        "timeout_ms": (one["settings"]["timeout_ms"], breaker.settings.timeout_ms),
        "failure_threshold": (one["settings"]["failure_threshold"], breaker.settings.failure_threshold),
    }
    if breaker.judges():
        compared["success_count"] = (one["success_count"], breaker.successes if breaker.state == "half_open" else 0)
        if breaker.state == "open":
            compared["open_until"] = _within(
                one["timeout_remaining_ms"], max(0, breaker.deadline() - worker.until - CLOCK_MS),
                max(0, breaker.deadline() - worker.since + CLOCK_MS),
            )
    # A window shrinks while nothing comes: what is shown lies between those of a little before and a little after.
    early, late = breaker.window.total(worker.since - CLOCK_MS), breaker.window.total(worker.until + CLOCK_MS)
    for name, shown in (("requests", "window_requests"), ("failures", "window_failures"), ("slow", "window_slow")):
        compared[shown] = _within(one[shown], getattr(late, name), getattr(early, name))
    return {name: pair for name, pair in compared.items() if pair[0] != pair[1]}


def _within(value: int, least: int, most: int) -> tuple:
    return (value, value if least <= value <= most else f"{least} to {most}")


def events(model: Model) -> list[str]:
    """Each transition stands in the stream of events once, with what the model says of it."""
    found: dict[tuple, list[dict]] = defaultdict(list)
    for event in model.recording.events:
        if model.was_lost(event["timestamp"]):
            continue  # Of a log that is lost, which had the same positions.
        name = tuple(event[field] for field in ("position", "tenant_id", "provider_id", "from", "to", "reason"))
        found[name].append(event)
    wanted = {transition.name(): transition for transition in model.fold.transitions}
    faults = [f"no event for {name}" for name in wanted if name not in found]
    for name, told in found.items():
        if len(told) > 1:
            faults.append(f"{len(told)} events for {name}")
        if name not in wanted:
            faults.append(f"an event for {name}, which is no transition")
            continue
        of_model = wanted[name].told
        compared: dict[str, tuple[Any, Any]] = {"trips": (told[0]["trips"], of_model.trips)}
        if of_model.open_until is not None:
            window = told[0]["window"]
            compared["open_until"] = (told[0]["open_until"], of_model.open_until)
            compared["requests"] = (window["requests"], of_model.requests)
            compared["failures"] = (window["failures"], of_model.failures)
        differs = {field: pair for field, pair in compared.items() if pair[0] != pair[1]}
        if differs:
            faults.append(f"the event for {name} differs (told, model's): {differs}")
    return faults


def decisions(model: Model, stale_ms: int, named_ms: Optional[dict[str, int]] = None) -> list[str]:
    """No enforced admission to a breaker that refuses: at once by the position that the worker had applied, and after
    the bound by time, whatever it had applied. A decision that says that it is `stale` is excused from the second."""
    faults = []
    for one in model.recording.decisions:
        if one.provider is None or one.probe or model.by_lost_log(one):
            continue
        bound = (named_ms or {}).get(one.caller, stale_ms)
        for refusal in model.fold.refusals.get((one.tenant, one.provider), []):
            if refusal.until is not None and refusal.until <= one.got:
                continue
            if one.position is not None and one.position >= refusal.since_position:
                faults.append(_admitted(one, refusal, "its position holds that"))
            elif not one.stale and one.asked - refusal.since > bound:
                faults.append(_admitted(one, refusal, f"for {one.asked - refusal.since} ms, more than {bound}"))
    return faults


def _admitted(one: Decision, refusal: Refusal, why: str) -> str:
    return (
        f"{one.caller} was sent to {one.tenant}/{one.provider} at position {one.position}, {refusal.state} since "
        f"{refusal.since_position}: {why}"
    )


def probes(model: Model) -> list[str]:
    """Each probe has a slot that the log granted, and no more are in flight than the cap."""
    faults = []
    for one in model.recording.decisions:
        if one.probe and not model.by_lost_log(one):
            grants = model.fold.grants.get(one.request_id, [])
            if (one.tenant, one.provider) not in [grant.key for grant in grants]:
                faults.append(f"the probe {one.request_id} of {one.tenant}/{one.provider} has no grant in the log")
    for grants in model.fold.grants.values():
        faults += [
            f"{grant.in_flight} probes of {'/'.join(grant.key)} at {grant.position}, the cap is {grant.cap}"
            for grant in grants if grant.in_flight > grant.cap
        ]
    return faults


def digests(model: Model) -> list[str]:
    """Workers at one position have one digest, at the end and at every look; those of a lost log are left out."""
    at_end = {worker.name: worker.digest for worker in model.recording.workers}
    faults = [f"digests differ at {model.fold.position}: {at_end}"] if len(set(at_end.values())) > 1 else []
    since = max((until + NOTICE_MS for _, until in model.recording.lost), default=0)
    found: dict[int, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name, looks in model.recording.looks.items():
        for look in looks:
            if look.at > since:
                found[look.position][look.digest].add(name)
    faults += [
        f"digests differ at {position}: { {digest: sorted(names) for digest, names in by_digest.items()} }"
        for position, by_digest in sorted(found.items()) if len(by_digest) > 1
    ]
    return faults


CHECKS: list[Callable[[Model], list[str]]] = [
    acknowledged, rejected, metered, counted, breakers, events, probes, digests,
]


def judge(recording: Recording, stale_ms: int, named_ms: Optional[dict[str, int]] = None,
          without: tuple[str, ...] = ()) -> tuple[dict[str, list[str]], dict[str, int]]:
    """What is wrong, by check, and figures that say how much was looked at."""
    model = Model(recording)
    faults = {check.__name__: check(model) for check in CHECKS if check.__name__ not in without}
    faults["decisions"] = decisions(model, stale_ms, named_ms)
    return {name: found for name, found in faults.items() if found}, figures(model)


def figures(model: Model) -> dict[str, int]:
    """How much there was to look at: a scenario in which nothing moved proves nothing."""
    by_disposition = Counter(one.disposition for one in model.fold.results)
    sent: list[Ack] = model.recording.sent
    return {
        "entries": len(model.recording.log),
        "results": len(model.fold.results),
        "acknowledged": sum(ack.position is not None for ack in sent),
        "repeated": sum(ack.tries > 1 for ack in sent),
        "duplicates": by_disposition["duplicate"],
        "late": by_disposition["late"],
        "usage": len(model.recording.usage),
        "transitions": len(model.fold.transitions),
        "probes": model.fold.claims["granted"],
        "decisions": len(model.recording.decisions),
    }


def lines(faults: dict[str, list[str]]) -> list[str]:
    """The faults as lines, the first few of each check."""
    shown = []
    for name, found in faults.items():
        shown += [f"{name}: {fault}" for fault in found[:NAMED]]
        if len(found) > NAMED:
            shown.append(f"{name}: and {len(found) - NAMED} more")
    return shown
