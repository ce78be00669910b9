"""The model against the examples that the documents give, one by one.

    python3 -m unittest discover -s tests/faults/unit
"""

import json
import pathlib
import sys
import unittest
from typing import Any, Optional

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from model import Unsupported  # noqa: E402
from model.entries import LOG_PREFIX, RESULT_SUBJECT, Message  # noqa: E402
from model.fold import Fold  # noqa: E402

# 12:00:00 of the examples' day; a multiple of every bucket's length that is used here.
NOON = 1_795_521_600_000
REFUSED = 1 << 62


class Log:
    """A log that is written entry by entry, and its fold."""

    def __init__(self, version: int = 3, **breaker: Any) -> None:
        self.fold, self.position, self.names = Fold(), 0, 0
        self.own(0, "fold_version", {"version": version, "identity_key": [1, 2]})
        self.policy(0, "acme", 1, **breaker)

    def add(self, at: int, subject: str, body: bytes, msg_id: Optional[str] = None) -> None:
        self.position += 1
        self.fold.apply(Message(self.position, NOON + at, subject, msg_id, body))

    def own(self, at: int, kind: str, entry: dict[str, Any]) -> None:
        """An entry of the router's."""
        self.add(at, LOG_PREFIX + kind, json.dumps({"v": 1, "entry": entry}).encode())

    def policy(self, at: int, tenant: str, revision: int, policy_id: str = "default", created: int = 5,
               gone: bool = False, providers: tuple[str, ...] = ("openai",), **breaker: Any) -> None:
        """A revision of a policy, enabled unless it says otherwise."""
        document = {
            "policy_id": policy_id, "providers": [{"name": name, "weight": 1} for name in providers],
            "circuit_breaker": {"enabled": True, **breaker},
        }
        entry = {"tenant_id": tenant, "policy_id": policy_id, "created": created, "revision": revision}
        self.own(at, "policy", entry if gone else {**entry, "document": document})

    def result(self, at: int, status: str, subject: str = RESULT_SUBJECT, tenant: Optional[str] = "acme",
               provider: str = "openai", **more: Any) -> str:
        """Reports a result: its disposition."""
        self.names += 1
        own = {"tenant_id": tenant, "provider_id": provider, "status": status, "assignment_id": f"a{self.names}"}
        body = {**own, **more}
        self.add(at, subject, json.dumps({k: v for k, v in body.items() if v is not None}).encode())
        return self.fold.results[-1].disposition

    def claim(self, at: int, request: str, latest: int = REFUSED, **more: Any) -> str:
        """Claims a slot: the verdict."""
        before = self.fold.claims.copy()
        self.names += 1
        entry = {"tenant_id": "acme", "provider_id": "openai", "request_id": request, "claim": self.names}
        self.own(at, "claim", {**entry, "latest": latest if latest == REFUSED else NOON + latest, "lease_ms": 0, **more})
        return next(iter(self.fold.claims - before))

    def force(self, at: int, to: Optional[str], ttl_ms: Optional[int] = None, kind: str = "force") -> None:
        """A force, its end (`None`) or a reset."""
        entry = {"tenant_id": "acme", "provider_id": "openai", "to": to, "ttl_ms": ttl_ms}
        self.own(at, kind, {name: value for name, value in entry.items() if value is not None})

    def flag(self, at: int, revision: int, enabled: bool, tenant: Optional[str] = None, created: int = 7) -> None:
        """A revision of a switch."""
        scope = {"scope": "tenant", "tenant_id": tenant} if tenant else {"scope": "global"}
        self.own(at, "flag", {**scope, "created": created, "revision": revision, "circuit_breaker_enabled": enabled})

    @property
    def breaker(self):
        return self.fold.breakers[("acme", "openai")]

    def told(self) -> list[tuple[int, str, str, str]]:
        """The transitions so far."""
        return [(t.told.at - NOON, t.told.before, t.told.after, t.told.reason) for t in self.fold.transitions]

    def opens(self, at: int) -> None:
        """Failures until it opens, at a moment."""
        while self.breaker.shown() != "open":
            self.result(at, "error")


class Examples(unittest.TestCase):
    """docs/breakers.md, Examples."""

    def test_five_consecutive_failures(self) -> None:
        log = Log(failure_threshold=5, timeout_ms=30_000)
        for at in (0, 500, 1000, 1500):
            self.assertEqual(log.result(at, "error"), "applied")
        self.assertEqual(log.breaker.shown(), "closed")
        log.result(2000, "timeout")
        self.assertEqual(log.breaker.deadline(), NOON + 32_000)
        self.assertEqual(log.result(2400, "error", latency_ms=1500), "late")
        self.assertEqual(log.claim(10_000, "A"), "refused")
        self.assertEqual(log.breaker.shown(), "open")
        self.assertEqual(log.claim(33_200, "A"), "granted")
        self.assertEqual([slot.deadline for slot in log.breaker.slots.values()], [NOON + 63_200])
        self.assertEqual([log.claim(33_300, name) for name in "BCD"], ["granted", "granted", "refused"])
        self.assertEqual(log.result(34_000, "success", request_id="A"), "applied")
        self.assertEqual(log.breaker.shown(), "half_open")
        self.assertEqual(log.result(34_100, "success", request_id="B"), "applied")
        self.assertEqual(log.result(34_600, "error", request_id="C", latency_ms=1300), "late")
        self.assertEqual(log.told(), [
            (2000, "closed", "open", "failure_threshold_exceeded"),
            (33_200, "open", "half_open", "timeout_elapsed"),
            (34_100, "half_open", "closed", "probes_succeeded"),
        ])
        self.assertEqual((log.breaker.row, log.breaker.window.total(NOON + 34_600).requests), (0, 0))

    def test_by_rate(self) -> None:
        for last, after in (("error", "open"), ("success", "closed")):
            log = Log()
            for n in range(9):
                log.result(n, "error" if n % 2 else "success")
            self.assertEqual(log.breaker.shown(), "closed")
            log.result(9, last)
            self.assertEqual(log.breaker.shown(), after)

    def test_slow_calls(self) -> None:
        log = Log(latency_threshold_ms=1000)
        for n in range(10):
            self.assertEqual(log.breaker.shown(), "closed")
            log.result(20_000 + n, "success", latency_ms=1000 + n % 2)
        self.assertEqual(log.told()[-1][1:], ("closed", "open", "latency_threshold_exceeded"))

    def test_backoff(self) -> None:
        log = Log(timeout_ms=10_000, backoff_multiplier=2, max_timeout_ms=60_000)
        log.opens(0)
        for seconds in (10, 20, 40, 60, 60):
            at = log.breaker.deadline() - NOON
            self.assertEqual(at - (log.breaker.opened_at - NOON), seconds * 1000)
            self.assertEqual(log.claim(at - 1, f"early{at}"), "refused")
            self.assertEqual(log.claim(at, f"r{at}"), "granted")
            log.result(at, "error", request_id=f"r{at}")
        self.assertEqual(log.breaker.trips, 6)

    def test_a_provider_that_says_when(self) -> None:
        log = Log()
        for n in range(4):
            log.result(n, "error", retry_after_ms=500_000)
        log.result(1000, "error", retry_after_ms=120_000)
        self.assertEqual(log.breaker.deadline(), NOON + 121_000)
        self.assertEqual(log.result(6000, "error", latency_ms=5500, retry_after_ms=150_000), "late")
        self.assertEqual(log.breaker.deadline(), NOON + 156_000)
        log.result(7000, "error", latency_ms=6500, retry_after_ms=3_600_000)
        self.assertEqual(log.breaker.deadline(), NOON + 301_000)

    def test_lost_probes(self) -> None:
        log = Log()
        log.opens(0)
        self.assertEqual([log.claim(60_000, name) for name in "ABCD"], ["granted"] * 3 + ["refused"])
        self.assertEqual(log.claim(89_999, "D"), "refused")
        self.assertEqual(log.claim(90_000, "D"), "granted")
        self.assertEqual(log.result(90_001, "success", request_id="A"), "ignored")
        self.assertEqual(log.breaker.successes, 0)


class Results(unittest.TestCase):
    """docs/protocol.md, Results, and docs/breakers.md, What a result does."""

    def test_what_is_rejected(self) -> None:
        log = Log()
        self.assertEqual(log.result(0, "success", tenant="nobody"), "rejected")
        self.assertEqual(log.result(0, "success", provider="nobody"), "rejected")
        self.assertEqual(log.result(0, "succeeded"), "rejected")
        self.assertEqual(log.result(0, "success", latency_ms=86_400_001), "rejected")
        self.assertEqual(log.result(0, "success", subject=f"{RESULT_SUBJECT}.globex"), "rejected")
        self.assertEqual(log.result(0, "success", subject=f"{RESULT_SUBJECT}.acme", tenant=None), "applied")
        self.assertEqual(log.result(0, "success", error_message="x" * 70_000), "rejected")
        log.add(0, RESULT_SUBJECT, b'{"tenant_id": "acme", "tenant_id": "acme"}')
        self.assertEqual(log.fold.results[-1].disposition, "rejected")

    def test_a_copy_counts_once(self) -> None:
        log = Log()
        self.assertEqual(log.result(0, "error", assignment_id="x"), "applied")
        self.assertEqual(log.result(1, "error", assignment_id="x"), "duplicate")
        self.assertEqual(log.breaker.row, 1)
        for disposition in ("applied", "duplicate"):
            log.add(2, RESULT_SUBJECT, b'{"tenant_id": "acme", "provider_id": "openai", "status": "success"}')
            self.assertEqual(log.fold.results[-1].disposition, disposition)

    def test_the_first_of_result_and_timeout_counts(self) -> None:
        log = Log()
        call = {"tenant_id": "acme", "provider_id": "openai", "request_id": "r"}
        ended = {**call, "status": "timeout", "elapsed_ms": 5000}
        log.own(6000, "ended", {**ended, "assignment_id": "x"})
        self.assertEqual(log.breaker.row, 1)
        self.assertEqual(log.result(6001, "success", assignment_id="x"), "late")
        self.assertEqual(log.result(6002, "success", assignment_id="x"), "duplicate")
        log.result(6003, "error", assignment_id="y")
        log.own(6004, "ended", {**ended, "assignment_id": "y"})
        self.assertEqual(log.breaker.row, 2)

    def test_what_counts_as_neither_is_ignored_however_late(self) -> None:
        log = Log(ignored_error_codes=["400"])
        self.assertEqual(log.result(0, "cancelled"), "ignored")
        self.assertEqual(log.result(0, "error", error_code=400), "ignored")
        log.opens(1000)
        self.assertEqual(log.result(1001, "cancelled", latency_ms=900), "ignored")
        self.assertEqual(log.result(1001, "success", latency_ms=900), "late")
        self.assertEqual(log.result(1001, "success"), "ignored")

    def test_a_timestamp_pulls_back_by_a_minute_at_most(self) -> None:
        log = Log(timeout_ms=1000)
        log.opens(0)
        self.assertEqual(log.result(59_000, "success", timestamp=NOON - 1), "late")
        self.assertEqual(log.result(60_000, "success", timestamp=NOON - 9_000_000), "ignored")

    def test_a_window_without_a_result_ends_the_row(self) -> None:
        log = Log(failure_threshold=2, error_rate_window_seconds=10)
        log.result(0, "error")
        log.result(10_000, "error")
        self.assertEqual((log.breaker.row, log.breaker.shown()), (1, "closed"))
        log.result(19_999, "error")
        self.assertEqual(log.breaker.shown(), "open")

    def test_a_bucket_counts_until_ten_buckets_later(self) -> None:
        log = Log(error_rate_window_seconds=10)
        log.result(900, "success")
        self.assertEqual(log.breaker.window.total(NOON + 9_999).requests, 1)
        self.assertEqual(log.breaker.window.total(NOON + 10_000).requests, 0)


class Probes(unittest.TestCase):
    """docs/breakers.md, How it recovers."""

    def half_open(self) -> Log:
        log = Log()
        log.opens(0)
        self.assertEqual(log.claim(60_000, "A"), "granted")
        return log

    def test_a_claim_past_its_latest_stamp_takes_no_slot(self) -> None:
        log = Log()
        self.assertEqual(log.claim(0, "A", latest=-1), "not needed")
        log.opens(0)
        self.assertEqual(log.claim(60_001, "A", latest=60_000), "refused")
        self.assertEqual(log.breaker.shown(), "open")

    def test_one_slot_a_request(self) -> None:
        log = self.half_open()
        self.assertEqual(log.claim(60_001, "A"), "refused")
        log.result(60_002, "success", request_id="A")
        self.assertEqual(log.claim(60_003, "A"), "granted")

    def test_a_release_frees_its_own_slot_alone(self) -> None:
        log = self.half_open()
        mine = next(iter(log.breaker.slots))
        entry = {"tenant_id": "acme", "provider_id": "openai", "request_id": "A"}
        log.own(60_001, "release", {**entry, "claim": mine + 1, "latest": 0, "lease_ms": 0})
        self.assertEqual(len(log.breaker.slots), 1)
        log.own(60_002, "release", {**entry, "claim": mine, "latest": 0, "lease_ms": 0})
        self.assertEqual((len(log.breaker.slots), log.breaker.shown()), (0, "half_open"))

    def test_a_claim_takes_over_a_slot_from_version_4_on(self) -> None:
        for version, verdict in ((3, "refused"), (4, "granted")):
            log = Log(version, half_open_max_calls=1)
            log.opens(0)
            log.claim(60_000, "A")
            mine = next(iter(log.breaker.slots))
            self.assertEqual(log.claim(60_001, "B", takes=mine), verdict)
            self.assertEqual([slot.request_id for slot in log.breaker.slots.values()], ["A" if version == 3 else "B"])

    def test_a_probe_that_counts_as_neither_frees_its_slot(self) -> None:
        log = self.half_open()
        self.assertEqual(log.result(60_001, "cancelled", request_id="A"), "ignored")
        self.assertEqual((len(log.breaker.slots), log.breaker.shown()), (0, "half_open"))

    def test_a_slow_success_opens_again(self) -> None:
        log = Log(latency_threshold_ms=1000)
        log.opens(0)
        log.claim(60_000, "A")
        self.assertEqual(log.result(62_000, "success", request_id="A", latency_ms=1001), "applied")
        self.assertEqual(log.told()[-1], (62_000, "half_open", "open", "half_open_failure"))


class Commands(unittest.TestCase):
    """docs/breakers.md, What operators can do."""

    def test_a_force_holds_until_auto_or_its_ttl(self) -> None:
        log = Log()
        log.force(0, "open")
        self.assertEqual(log.result(1, "success"), "ignored")
        self.assertEqual(log.claim(2, "A"), "refused")
        log.force(3, None, kind="reset")
        self.assertEqual(log.breaker.shown(), "open")
        log.force(4, None)
        self.assertEqual((log.breaker.shown(), log.breaker.trips), ("half_open", 0))
        log.force(5, "closed", ttl_ms=1000)
        self.assertEqual(log.result(6, "error"), "applied")
        self.assertEqual(log.result(2000, "success", latency_ms=996), "late")
        self.assertEqual(log.told(), [
            (0, "closed", "open", "forced"), (4, "open", "half_open", "force_lifted"),
            (5, "half_open", "closed", "forced"), (1005, "closed", "closed", "force_lifted"),
        ])

    def test_a_command_past_its_latest_stamp_changes_nothing(self) -> None:
        entry = {"tenant_id": "acme", "provider_id": "openai", "to": "open"}
        switch = {"scope": "global", "created": 7, "revision": 1, "circuit_breaker_enabled": False}
        for version, after in ((3, "open"), (4, "closed")):
            log = Log(version)
            log.own(1001, "force", {**entry, "latest": NOON + 1000})
            self.assertEqual(log.breaker.shown(), after)
        log.own(1002, "force", {**entry, "latest": NOON + 1002})
        log.own(1003, "flag", {**switch, "latest": NOON + 1002})
        self.assertEqual(log.breaker.shown(), "open")
        log.own(1003, "flag", {**switch, "latest": NOON + 1003})
        self.assertEqual(log.breaker.shown(), "closed")

    def test_a_reset_empties(self) -> None:
        log = Log()
        log.opens(0)
        log.force(10, None, kind="reset")
        self.assertEqual((log.breaker.shown(), log.breaker.trips, log.breaker.row), ("closed", 0, 0))
        self.assertEqual(log.told()[-1], (10, "open", "closed", "reset"))

    def test_the_flag_lies_before_a_force(self) -> None:
        log = Log()
        log.force(0, "open")
        log.flag(1, 1, False)
        self.assertEqual((log.breaker.shown(), log.result(2, "success")), ("closed", "applied"))
        log.flag(3, 1, True)
        self.assertEqual(log.breaker.shown(), "closed", "the same revision changes nothing")
        log.flag(4, 2, True)
        self.assertEqual(log.breaker.shown(), "open")
        log.flag(5, 3, False, tenant="globex")
        self.assertEqual(log.breaker.shown(), "open")

    def test_the_flag_leaves_no_evidence(self) -> None:
        log = Log()
        log.opens(0)
        log.flag(1, 1, False)
        log.flag(2, 2, True)
        self.assertEqual(log.told()[1:], [(1, "open", "closed", "flag")])
        self.assertEqual((log.breaker.shown(), log.breaker.row), ("closed", 0))


class Settings(unittest.TestCase):
    """docs/breakers.md, Changing settings while it runs, and docs/policies.md, Several policies, one provider."""

    def test_an_older_revision_changes_nothing(self) -> None:
        log = Log()
        log.policy(1, "acme", 7, timeout_ms=2000)
        log.policy(2, "acme", 6, timeout_ms=3000)
        self.assertEqual(log.breaker.settings.timeout_ms, 2000)
        log.policy(3, "acme", 1, created=6, timeout_ms=4000)
        self.assertEqual(log.breaker.settings.timeout_ms, 4000, "of a bucket that was made later")

    def test_the_deadline_is_worked_out_anew(self) -> None:
        log = Log()
        log.opens(0)
        log.policy(1, "acme", 2, timeout_ms=2000)
        self.assertEqual(log.breaker.deadline(), NOON + 2000)
        log.policy(3000, "acme", 3, timeout_ms=4000)
        self.assertEqual(log.claim(3001, "A"), "refused")

    def test_disabled_it_is_closed_and_counts(self) -> None:
        log = Log()
        log.opens(0)
        log.policy(1, "acme", 2, enabled=False)
        self.assertEqual(log.told()[-1], (1, "open", "closed", "disabled"))
        self.assertEqual(log.result(2, "error"), "applied")
        self.assertEqual(log.breaker.shown(), "closed")

    def test_the_newest_that_enables_it_holds(self) -> None:
        log = Log(timeout_ms=1000)
        log.policy(1, "acme", 2, policy_id="other", enabled=False, timeout_ms=2000)
        self.assertEqual(log.fold.in_force[("acme", "openai")].policy_id, "default")
        log.policy(2, "acme", 3, policy_id="third", timeout_ms=3000)
        self.assertEqual(log.breaker.settings.timeout_ms, 3000)
        log.policy(3, "acme", 4, policy_id="third", gone=True)
        self.assertEqual(log.breaker.settings.timeout_ms, 1000)

    def test_a_breaker_goes_with_the_last_policy_that_names_it(self) -> None:
        log = Log()
        log.opens(0)
        log.policy(1, "acme", 2, providers=("anthropic",))
        self.assertEqual(sorted(log.fold.breakers), [("acme", "anthropic")])
        log.policy(2, "acme", 3)
        self.assertEqual((log.breaker.shown(), log.breaker.trips), ("closed", 0))

    def test_what_the_model_does_not_know_it_refuses(self) -> None:
        with self.assertRaises(Unsupported):
            Log(jitter_ratio=0.1)
        with self.assertRaises(Unsupported):
            Log().own(0, "step", {})


if __name__ == "__main__":
    unittest.main()
