"""Breaker settings: from a policy's document to checked values, and which policy's hold (docs/policies.md)."""

from dataclasses import dataclass
from typing import Any, Optional

from . import Unsupported

# Thresholds are kept to six decimals (docs/breakers.md, When it opens).
MILLION = 1_000_000


@dataclass(frozen=True)
class Settings:
    """`circuit_breaker` of a policy with every default of docs/breakers.md filled in. Shares are millionths."""

    enabled: bool = False
    failure_threshold: int = 5
    error_rate: int = MILLION // 2
    window_ms: int = 60_000
    minimum_requests: int = 10
    timeout_ms: int = 60_000
    success_threshold: int = 2
    half_open_max_calls: int = 3
    probe_timeout_ms: int = 30_000
    latency_threshold_ms: Optional[int] = None
    slow_rate: int = MILLION // 2
    backoff_multiplier: float = 1.0
    max_timeout_ms: int = 300_000
    enforce_percent: int = 100
    failure_statuses: frozenset[str] = frozenset(("error", "timeout"))
    ignored_error_codes: frozenset[str] = frozenset()

    @staticmethod
    def of(document: dict[str, Any]) -> "Settings":
        """Those of a document that was found valid before it was put."""
        block = document.get("circuit_breaker") or {}
        if block.get("jitter_ratio"):
            raise Unsupported("jitter, whose hash is not documented")
        plain = {
            name: block[name]
            for name in (
                "enabled", "failure_threshold", "minimum_requests", "timeout_ms", "success_threshold",
                "half_open_max_calls", "probe_timeout_ms", "latency_threshold_ms", "backoff_multiplier",
                "max_timeout_ms", "enforce_percent",
            )
            if block.get(name) is not None
        }
        if block.get("error_rate_threshold") is not None:
            plain["error_rate"] = round(block["error_rate_threshold"] * MILLION)
        if block.get("slow_call_rate_threshold") is not None:
            plain["slow_rate"] = round(block["slow_call_rate_threshold"] * MILLION)
        if block.get("error_rate_window_seconds") is not None:
            plain["window_ms"] = block["error_rate_window_seconds"] * 1000
        for name in ("failure_statuses", "ignored_error_codes"):
            if block.get(name) is not None:
                plain[name] = frozenset(block[name])
        return Settings(**plain)


def providers(document: dict[str, Any]) -> set[str]:
    """Whom a document names: those that are drawn, and the targets of its fallbacks."""
    named = {provider["name"] for provider in document.get("providers") or []}
    named |= set(document.get("weights") or {})
    rules = document.get("fallbacks") or document.get("fallback") or []
    return named | {rule["to"] for rule in rules if isinstance(rule, dict) and "to" in rule}


@dataclass(frozen=True)
class InForce:
    """The settings that hold for one breaker, and the policy that they come from."""

    settings: Settings
    policy_id: str


class Policies:
    """The policies in force: of each the newest revision that the log held, by (made, revision).

    A revision is compared with the last one of the same policy only. A deleted policy keeps its last revision, so that
    an older document does not come back.
    """

    def __init__(self) -> None:
        self.revisions: dict[tuple[str, str], tuple[int, int]] = {}
        self.documents: dict[tuple[str, str], dict[str, Any]] = {}

    def put(self, tenant: str, policy_id: str, revision: tuple[int, int], document: Optional[dict[str, Any]]) -> bool:
        """Whether the revision is newer than the one that stands, and so holds now."""
        key = (tenant, policy_id)
        if key in self.revisions and revision <= self.revisions[key]:
            return False
        self.revisions[key] = revision
        if document is None:
            self.documents.pop(key, None)
        else:
            self.documents[key] = document
        return True

    def of_tenant(self, tenant: str) -> dict[str, InForce]:
        """Each provider that a policy of the tenant names, with the settings of its breaker."""
        found: dict[str, tuple[bool, tuple[int, int], InForce]] = {}
        for (owner, policy_id), document in self.documents.items():
            if owner != tenant:
                continue
            settings = Settings.of(document)
            rank = (settings.enabled, self.revisions[(owner, policy_id)], InForce(settings, policy_id))
            for provider in providers(document):
                if provider not in found or rank[:2] > found[provider][:2]:
                    found[provider] = rank
        return {provider: rank[2] for provider, rank in found.items()}
