"""Tells demonstrations from sampled answers, for label.yaml."""

from __future__ import annotations

from typing import Any


def demonstrated(prompt: Any, response: Any, row: dict[str, Any]) -> bool:
    """Whether the response is a demonstration: `seralign sample` names the model of each of its answers."""
    return row.get("model") is None
