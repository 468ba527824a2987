"""Rounds and stages in their order, recorded and resumable: the only place that knows the order."""

from seralign.loop.sera import RunResult, train

__all__ = ["RunResult", "train"]
