"""Entries of the log: from what the stream holds to values.

The form of results is docs/protocol.md's. Of the router's own entries the documents give the envelope
(`{"v":1,"entry":{…}}`, docs/architecture.md) and no fields: the names of fields are those that stand in a log.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Optional, Union

from . import Unsupported

RESULT_SUBJECT = "caf.exec.result.v1"
LOG_PREFIX = "beamline.router.v1.log."
STATUSES = ("success", "error", "timeout", "cancelled")
ID = re.compile(r"[A-Za-z0-9_.:-]{1,255}")
# A longer result is rejected unread (docs/protocol.md), from version 3 of the fold on.
MAX_RESULT_BYTES = 64 * 1024
MAX_LATENCY_MS = 86_400_000
MAX_COST = 1e9
KNOWN = {
    "tenant_id", "provider_id", "status", "request_id", "assignment_id", "latency_ms", "cost", "timestamp",
    "error_code", "error_message", "retry_after_ms", "job", "trace_id",
}


@dataclass(frozen=True)
class Message:
    """One message of the stream. `stamp` is the broker's, in milliseconds since the Unix epoch."""

    position: int
    stamp: int
    subject: str
    msg_id: Optional[str]
    body: bytes

    def to_json(self) -> dict[str, Any]:
        """For a file; `from_json` gives the message back."""
        return {**self.__dict__, "body": self.body.decode("latin-1")}

    @staticmethod
    def from_json(fields: dict[str, Any]) -> "Message":
        """What `to_json` wrote."""
        return Message(**{**fields, "body": fields["body"].encode("latin-1")})


@dataclass(frozen=True)
class Result:
    """How a provider call went, by its executor or, with `ended`, by the worker that pushed its assignment."""

    tenant: str
    provider: str
    status: str
    request_id: Optional[str]
    assignment_id: Optional[str]
    latency_ms: Optional[int]
    timestamp: Optional[int]
    error_code: Optional[str]
    retry_after_ms: int
    identity: tuple[str, str, str]
    ended: bool = False


@dataclass(frozen=True)
class Rejected:
    """A result that says nothing which could be judged."""

    status: str
    why: str


@dataclass(frozen=True)
class Policy:
    """A revision of a policy; without a document it was deleted."""

    tenant: str
    policy_id: str
    revision: tuple[int, int]
    document: Optional[dict[str, Any]]


@dataclass(frozen=True)
class Flag:
    """A revision of an emergency switch; `tenant` is `None` for the global one."""

    tenant: Optional[str]
    revision: tuple[int, int]
    enabled: bool
    latest: Optional[int]


@dataclass(frozen=True)
class Claim:
    """A request that wants to probe, or takes that back. `takes` is the claim whose slot it takes over, if any."""

    tenant: str
    provider: str
    request_id: str
    claim: int
    latest: int
    lease_ms: int
    takes: Optional[int]
    release: bool


@dataclass(frozen=True)
class Command:
    """A force (`to` is `open`, `closed` or `auto`) or a reset (`to` is `reset`)."""

    tenant: str
    provider: str
    to: str
    ttl_ms: Optional[int]
    latest: Optional[int]


@dataclass(frozen=True)
class FoldVersion:
    """The rules of this version of the fold hold from here on."""

    version: int


@dataclass(frozen=True)
class Nothing:
    """An entry that changes no breaker."""

    kind: str


Entry = Union[Result, Rejected, Policy, Flag, Claim, Command, FoldVersion, Nothing]


def decode(message: Message, version: int) -> Entry:
    """The entry that a message is, under the rules of a version of the fold."""
    if message.subject == RESULT_SUBJECT or message.subject.startswith(RESULT_SUBJECT + "."):
        return _result(message, version)
    if not message.subject.startswith(LOG_PREFIX):
        return Nothing("stranger")
    kind = message.subject[len(LOG_PREFIX):]
    try:
        envelope = json.loads(message.body)
        if envelope["v"] != 1:
            return Nothing("newer")
        return _own(kind, envelope["entry"])
    except (ValueError, KeyError, TypeError):
        # An entry that a worker does not know changes nothing there (docs/operations.md, Upgrading).
        return Nothing("unreadable")


def _own(kind: str, entry: Any) -> Entry:
    if kind == "policy":
        revision = (entry["created"], entry["revision"])
        return Policy(entry["tenant_id"], entry["policy_id"], revision, entry.get("document"))
    if kind == "flag":
        tenant = entry["tenant_id"] if entry["scope"] == "tenant" else None
        return Flag(tenant, (entry["created"], entry["revision"]), entry["circuit_breaker_enabled"], entry.get("latest"))
    if kind in ("claim", "release"):
        return Claim(
            entry["tenant_id"], entry["provider_id"], entry["request_id"], entry["claim"], entry.get("latest", 0),
            entry.get("lease_ms", 0), entry.get("takes"), kind == "release",
        )
    if kind in ("force", "reset"):
        to = "reset" if kind == "reset" else entry.get("to") or "auto"
        return Command(entry["tenant_id"], entry["provider_id"], to, entry.get("ttl_ms"), entry.get("latest"))
    if kind == "ended":
        tenant, assignment = entry["tenant_id"], entry["assignment_id"]
        return Result(
            tenant, entry["provider_id"], entry["status"], entry["request_id"], assignment, entry["elapsed_ms"], None,
            None, 0, ("id", tenant, assignment), ended=True,
        )
    if kind == "fold_version":
        return FoldVersion(entry["version"])
    if kind in ("step", "met", "tally"):
        raise Unsupported(f"entries of rollouts ({kind})")
    return Nothing(kind)


def _result(message: Message, version: int) -> Entry:
    if version >= 3 and len(message.body) > MAX_RESULT_BYTES:
        return Rejected("invalid", "longer than 64 KiB")
    if not message.body.lstrip().startswith(b"{"):
        raise Unsupported("results that are no JSON objects")
    try:
        fields = json.loads(message.body, object_pairs_hook=_once)
    except ValueError as error:
        return Rejected("invalid", str(error))
    named = message.subject[len(RESULT_SUBJECT) + 1:] or None
    status = fields.get("status")
    if status not in STATUSES:
        return Rejected("invalid", "status")
    tenant, provider = fields.get("tenant_id") or named, fields.get("provider_id")
    if not (isinstance(tenant, str) and ID.fullmatch(tenant)) or (named and tenant != named):
        return Rejected(status, "tenant_id")
    if not (isinstance(provider, str) and ID.fullmatch(provider)):
        return Rejected(status, "provider_id")
    for name, most in (("latency_ms", MAX_LATENCY_MS), ("cost", MAX_COST)):
        if fields.get(name) is not None and not _within(fields[name], most):
            return Rejected(status, name)
    assignment, code = fields.get("assignment_id"), fields.get("error_code")
    identity = ("id", tenant, assignment) if assignment else ("body", tenant, message.body.decode("latin-1"))
    return Result(
        tenant, provider, status, fields.get("request_id"), assignment, fields.get("latency_ms"),
        fields.get("timestamp") or None, None if code is None else str(code), fields.get("retry_after_ms") or 0,
        identity,
    )


def _within(value: Any, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= most


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A known field that is given twice is refused (docs/protocol.md, Headers and forms)."""
    names = [name for name, _ in pairs if name in KNOWN]
    if len(names) != len(set(names)):
        raise ValueError("a field is given twice")
    return dict(pairs)
