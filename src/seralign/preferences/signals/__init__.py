"""Signals by name. To add one, write a file here and a line in ``SIGNALS``."""

from __future__ import annotations

from seralign.preferences.signals.base import Asked, Asker, Check, NoValue, Reader, Signal
from seralign.preferences.signals.command import Command
from seralign.preferences.signals.comparison import Comparison
from seralign.preferences.signals.compiles import Compiles
from seralign.preferences.signals.error import Error
from seralign.preferences.signals.form import Format
from seralign.preferences.signals.function import Function
from seralign.preferences.signals.json_text import Json
from seralign.preferences.signals.judge import JudgeSignal
from seralign.preferences.signals.length import Length
from seralign.preferences.signals.match import Match
from seralign.preferences.signals.ranking import Ranking
from seralign.preferences.signals.ratings import Ratings
from seralign.preferences.signals.regex_match import Regex
from seralign.preferences.signals.reward_model import RewardModelSignal
from seralign.preferences.signals.scorer import ScorerSignal
from seralign.preferences.signals.unit_tests import UnitTests
from seralign.preferences.signals.votes import Votes

__all__ = ["SIGNALS", "Asked", "Asker", "Check", "Function", "NoValue", "Reader", "Signal"]

SIGNALS: dict[str, type] = {
    "comparison": Comparison,
    "votes": Votes,
    "ratings": Ratings,
    "ranking": Ranking,
    "match": Match,
    "error": Error,
    "json": Json,
    "regex": Regex,
    "length": Length,
    "format": Format,
    "compiles": Compiles,
    "unit_tests": UnitTests,
    "command": Command,
    "scorer": ScorerSignal,
    "reward_model": RewardModelSignal,
    "judge": JudgeSignal,
}
