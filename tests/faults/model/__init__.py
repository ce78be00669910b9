"""An independent model of the log, written from docs/protocol.md, docs/breakers.md, docs/policies.md and
docs/operations.md alone.

The router's fold and this one share no line and no author's habit: what both derive from the same entries is what the
documents say, and a difference is a fault of one of the three. So nothing here may be taken from `src/ledger` or
`src/breaker`. Where the documents leave a choice open, the model says so beside the choice.

The model reads a log from its first entry. It does not know rollouts (`step`, `met`, `tally`), protobuf results, clocks
that are set back, or jitter, whose hash no document states: it raises `Unsupported` rather than guess.
"""


class Unsupported(Exception):
    """The log holds something that the model does not know."""
