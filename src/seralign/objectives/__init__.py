"""The objectives by name. To add one, write a file here and a line in ``OBJECTIVES``. Imports no torch."""

from __future__ import annotations

from seralign.objectives.base import Objective, ResponseValues
from seralign.objectives.dpo import DPO
from seralign.objectives.ipo import IPO
from seralign.objectives.sft import SFT
from seralign.objectives.simpo import SimPO
from seralign.objectives.slic import SLiC
from seralign.objectives.sums import ObjectiveSum, Term, one, sum_name

__all__ = [
    "DPO",
    "IPO",
    "OBJECTIVES",
    "SFT",
    "Objective",
    "ObjectiveSum",
    "ResponseValues",
    "SLiC",
    "SimPO",
    "Term",
    "one",
    "sum_name",
]

OBJECTIVES: dict[str, type[Objective]] = {
    "dpo": DPO,
    "ipo": IPO,
    "slic": SLiC,
    "simpo": SimPO,
    "sft": SFT,
}
