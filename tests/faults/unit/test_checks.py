"""The checks against a recording of a real run (`worker-kills`, in its short form): it passes as it is, and each damage
done to it is seen. A checker that nobody has seen fail proves nothing."""

import copy
import gzip
import json
import pathlib
import sys
import unittest
from dataclasses import replace
from typing import Callable

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[2] / ".tools" / "python")]

from checks.checks import judge  # noqa: E402
from checks.recording import Recording  # noqa: E402
from model.entries import RESULT_SUBJECT, Message  # noqa: E402
from model.fold import Fold  # noqa: E402

STALE_MS = 4_000
TEXT = gzip.decompress((HERE / "recorded.json.gz").read_bytes()).decode()


class Damage(unittest.TestCase):
    """What each damage makes fail."""

    def setUp(self) -> None:
        self.recording = Recording.from_json(TEXT)

    def fails(self, *checks: str) -> None:
        """At least these checks fail."""
        faults, _ = judge(self.recording, STALE_MS)
        self.assertLessEqual(set(checks), set(faults), faults)

    def result(self, wanted: Callable[[dict], bool]) -> int:
        """Where in the log a result stands."""
        return next(
            at for at, message in enumerate(self.recording.log)
            if message.subject.startswith(RESULT_SUBJECT) and not (message.msg_id or "").endswith(":copy")
            and wanted(json.loads(message.body))
        )

    def test_intact_it_passes(self) -> None:
        faults, figures = judge(self.recording, STALE_MS)
        self.assertEqual(faults, {})
        for name in ("results", "duplicates", "late", "transitions", "probes", "decisions"):
            self.assertGreater(figures[name], 0, name)

    def test_a_lost_result_is_seen(self) -> None:
        del self.recording.log[self.result(lambda body: body["status"] == "error")]
        self.fails("acknowledged", "metered", "counted")

    def test_a_result_that_counts_twice_is_seen(self) -> None:
        at = self.result(lambda body: body["status"] == "error")
        first = self.recording.log[at]
        body = {**json.loads(first.body), "assignment_id": "another"}
        self.recording.log.insert(at + 1, replace(first, body=json.dumps(body).encode()))
        self.fails("metered", "counted")

    def test_a_result_that_nobody_sent_is_seen(self) -> None:
        last = self.recording.log[-1]
        self.recording.log.append(Message(last.position + 1, last.stamp, RESULT_SUBJECT, "t0:strange", b"{}"))
        self.fails("acknowledged", "rejected", "breakers")

    def test_a_flipped_status_is_seen(self) -> None:
        def opening(body: dict) -> bool:
            return body["status"] in ("error", "timeout") and body["provider_id"] == "alpha"
        at = self.result(opening)
        message = self.recording.log[at]
        body = {**json.loads(message.body), "status": "success"}
        self.recording.log[at] = replace(message, body=json.dumps(body).encode())
        self.fails("counted")

    def test_a_flipped_result_that_opens_a_breaker_is_seen(self) -> None:
        opened = next(t for t in Fold().all(self.recording.log).transitions if t.told.after == "open")
        at = next(n for n, message in enumerate(self.recording.log) if message.position == opened.position)
        body = {**json.loads(self.recording.log[at].body), "status": "success"}
        self.recording.log[at] = replace(self.recording.log[at], body=json.dumps(body).encode())
        self.fails("events", "counted")

    def test_entries_in_another_order_are_seen(self) -> None:
        opened = next(t for t in Fold().all(self.recording.log).transitions if t.told.after == "half_open")
        at = next(n for n, message in enumerate(self.recording.log) if message.position == opened.position)
        claim = self.recording.log.pop(at)
        self.recording.log.insert(at - 40, replace(claim, stamp=self.recording.log[at - 40].stamp))
        self.fails("events")

    def test_a_missing_and_a_second_usage_event_are_seen(self) -> None:
        whole = list(self.recording.usage)
        self.recording.usage = whole[1:]
        self.fails("metered")
        self.recording.usage = [*whole, whole[7]]
        self.fails("metered")
        self.recording.usage = [*whole, {**whole[7], "assignment_id": "none"}]
        self.fails("metered")

    def test_a_missing_a_second_and_a_changed_event_are_seen(self) -> None:
        whole = self.recording.events
        self.recording.events = whole[:3] + whole[4:]
        self.fails("events")
        self.recording.events = [*whole, whole[3]]
        self.fails("events")
        changed = copy.deepcopy(whole)
        next(event for event in changed if event["to"] == "open")["open_until"] += 1
        self.recording.events = changed
        self.fails("events")

    def test_a_breaker_that_a_worker_shows_otherwise_is_seen(self) -> None:
        for field, value in (("state", "half_open"), ("trips", 99), ("window_failures", 99), ("flag_off", True)):
            self.recording = Recording.from_json(TEXT)
            self.recording.workers[1].breakers[0][field] = value
            self.fails("breakers")

    def test_a_digest_that_differs_is_seen(self) -> None:
        self.recording.workers[0].digest += 1
        self.fails("digests")
        self.recording = Recording.from_json(TEXT)
        looks = list(self.recording.looks.values())
        both = looks[0][-1]
        looks[1].append(replace(both, digest=both.digest + 1))
        self.fails("digests")

    def test_a_counter_that_is_one_off_is_seen(self) -> None:
        worker = next(worker for worker in self.recording.workers if worker.results is not None)
        assert worker.results
        worker.results["success applied"] += 1
        self.fails("counted")

    def test_an_admission_to_an_open_breaker_is_seen(self) -> None:
        fold = Fold().all(self.recording.log)
        key, refusal = next(
            (key, refusal) for key, refusals in fold.refusals.items() for refusal in refusals
            if refusal.until is not None and refusal.until - refusal.since > 900
        )
        assert refusal.until
        admitted = replace(
            next(one for one in self.recording.decisions if one.provider), tenant=key[0], provider=key[1], probe=False,
            asked=refusal.until - 100, got=refusal.until - 90,
        )
        self.recording.decisions.append(replace(admitted, position=refusal.since_position))
        self.fails("decisions")
        # By time alone: the worker had not applied that it opened, for longer than it may.
        self.recording.decisions[-1] = replace(admitted, position=refusal.since_position - 1)
        faults, _ = judge(self.recording, 500)
        self.assertIn("decisions", faults)
        faults, _ = judge(self.recording, 60_000)
        self.assertNotIn("decisions", faults)

    def test_a_probe_without_a_grant_is_seen(self) -> None:
        probe = next(one for one in self.recording.decisions if one.probe)
        self.recording.log = [m for m in self.recording.log if not (
            m.subject.endswith(".claim") and json.loads(m.body)["entry"]["request_id"] == probe.request_id
        )]
        self.fails("probes")


if __name__ == "__main__":
    unittest.main()
