"""A run before it runs: its work, what that costs here, and what will not fit."""

from seralign.pipeline.plan.plan import RunPlan, plan_run

__all__ = ["RunPlan", "plan_run"]
