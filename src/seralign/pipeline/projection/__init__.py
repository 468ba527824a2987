"""Projections of runs onto GPUs that are not here: memory, time and money from stated formulas (docs/planning.md)."""

from seralign.pipeline.projection.project import Projection, project_run

__all__ = ["Projection", "project_run"]
