"""Rounds and stages in their order, recorded and resumable: the only place that knows the order."""

from seralign.pipeline.run import RunResult, train

__all__ = ["RunResult", "train"]
