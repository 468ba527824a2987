"""The objectives by name. To add one, write a file here and a line in ``OBJECTIVES``. Imports no torch."""

from __future__ import annotations

from seralign.objectives.abr import ABR
from seralign.objectives.aihf import AIHF
from seralign.objectives.alpha_po import AlphaPO
from seralign.objectives.aot import AOT, UnpairedAOT
from seralign.objectives.apo_down import APODown
from seralign.objectives.apo_zero import APOZero
from seralign.objectives.base import Objective, ResponseValues
from seralign.objectives.bco import BCO
from seralign.objectives.bmc import BMC
from seralign.objectives.cdpo import ConservativeDPO
from seralign.objectives.cpo import CPO
from seralign.objectives.discopop import DiscoPOP
from seralign.objectives.dpo import DPO
from seralign.objectives.dpo_norm import NormalizedDPO
from seralign.objectives.dpop import DPOPositive
from seralign.objectives.exo import EXO
from seralign.objectives.f_dpo import FDPO
from seralign.objectives.ipo import IPO
from seralign.objectives.ipo_norm import NormalizedIPO
from seralign.objectives.irepo import IREPO
from seralign.objectives.kto import KTO
from seralign.objectives.ld_dpo import LDDPO
from seralign.objectives.nca import NCA
from seralign.objectives.nll import NLL
from seralign.objectives.orpo import ORPO
from seralign.objectives.plackett_luce import PlackettLuce
from seralign.objectives.r_dpo import LengthRegularizedDPO
from seralign.objectives.reward import Reward, RewardRanking, RewardScores
from seralign.objectives.robust import RobustDPO
from seralign.objectives.sft import SFT
from seralign.objectives.simpo import SimPO
from seralign.objectives.slic import SLiC
from seralign.objectives.slic_hf import SLiCHF
from seralign.objectives.sppo import SPPO
from seralign.objectives.sums import ObjectiveSum, Term, one, sum_name
from seralign.objectives.tpo import TPO, NormalizedTPO
from seralign.objectives.unlikelihood import Unlikelihood
from seralign.objectives.wpo import WPO

__all__ = [
    "ABR",
    "AIHF",
    "AOT",
    "BCO",
    "BMC",
    "CPO",
    "DPO",
    "EXO",
    "FDPO",
    "IPO",
    "IREPO",
    "KTO",
    "LDDPO",
    "NCA",
    "NLL",
    "OBJECTIVES",
    "ORPO",
    "SFT",
    "SPPO",
    "TPO",
    "WPO",
    "APODown",
    "APOZero",
    "AlphaPO",
    "ConservativeDPO",
    "DPOPositive",
    "DiscoPOP",
    "LengthRegularizedDPO",
    "NormalizedDPO",
    "NormalizedIPO",
    "NormalizedTPO",
    "Objective",
    "ObjectiveSum",
    "PlackettLuce",
    "ResponseValues",
    "Reward",
    "RewardRanking",
    "RewardScores",
    "RobustDPO",
    "SLiC",
    "SLiCHF",
    "SimPO",
    "Term",
    "Unlikelihood",
    "UnpairedAOT",
    "one",
    "sum_name",
]

OBJECTIVES: dict[str, type[Objective]] = {
    "dpo": DPO,
    "cdpo": ConservativeDPO,
    "robust": RobustDPO,
    "dpo_norm": NormalizedDPO,
    "ld_dpo": LDDPO,
    "r_dpo": LengthRegularizedDPO,
    "dpop": DPOPositive,
    "wpo": WPO,
    "bmc": BMC,
    "f_dpo": FDPO,
    "ipo": IPO,
    "ipo_norm": NormalizedIPO,
    "irepo": IREPO,
    "slic": SLiC,
    "slic_hf": SLiCHF,
    "exo": EXO,
    "nca": NCA,
    "sppo": SPPO,
    "bco": BCO,
    "aot": AOT,
    "aot_unpaired": UnpairedAOT,
    "apo_zero": APOZero,
    "apo_down": APODown,
    "discopop": DiscoPOP,
    "simpo": SimPO,
    "alpha_po": AlphaPO,
    "cpo": CPO,
    "orpo": ORPO,
    "unlikelihood": Unlikelihood,
    "plackett_luce": PlackettLuce,
    "tpo": TPO,
    "tpo_l": NormalizedTPO,
    "abr": ABR,
    "aihf": AIHF,
    "kto": KTO,
    "nll": NLL,
    "sft": SFT,
    "reward": Reward,
    "reward_ranking": RewardRanking,
    "reward_scores": RewardScores,
}
