"""The scenarios, in the order in which they run."""

from . import leaders, network, paths, storage, restore, processes, races  # noqa: F401
from .stage import SCENARIOS, Options, Scenario, Stage, Verdict

__all__ = ["SCENARIOS", "Options", "Scenario", "Stage", "Verdict"]
