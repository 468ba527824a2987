"""Heads by name. A model maps a pack to a value for each response; policies and reward models differ in the head alone.

To add one, write a file here and a line in ``HEADS``. An objective names the head that it trains.
"""

from __future__ import annotations

from seralign.policy.heads.base import Head, ResponseModel
from seralign.policy.heads.language_model import LANGUAGE_MODEL
from seralign.policy.heads.reward import REWARD

__all__ = ["HEADS", "LANGUAGE_MODEL", "REWARD", "Head", "ResponseModel"]

HEADS: dict[str, Head] = {head.name: head for head in (LANGUAGE_MODEL, REWARD)}
