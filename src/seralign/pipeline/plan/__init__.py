"""Plans of runs: their work, what that costs on this machine, and what will not fit."""

from seralign.pipeline.plan.plan import RunPlan, plan_run

__all__ = ["RunPlan", "plan_run"]
