"""Align language models with preference pairs: SeRA and direct preference optimization, in rounds.

    import seralign

    config = seralign.load_config("run.yaml", {"rounds": 3})
    result = seralign.train(config)
    model = AutoModelForCausalLM.from_pretrained(result.policy)

Names are imported when they are first used: ``import seralign`` does not load torch.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# Arrow reads this variable when it is imported, and its Parquet writer uses that pool whatever
# ``pyarrow.set_memory_pool`` says. Arrow's own allocator keeps freed memory: 20 MB after a table of 200,000 ids.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

if TYPE_CHECKING:
    from seralign.config import RunConfig, load_config
    from seralign.config.evaluate import EvaluateConfig, load_evaluate_config
    from seralign.errors import SeralignError
    from seralign.objectives import DPO, IPO, SFT, Objective, ResponseValues, SimPO, SLiC
    from seralign.pipeline import RunResult, train
    from seralign.pipeline.evaluate.run import EvaluationResult, evaluate
    from seralign.policy.logprobs import response_logps
    from seralign.records import Example, Prompt
    from seralign.report.figures import run_figures
    from seralign.rewards.scored_pairs import ScoredPairs
    from seralign.rewards.selection import select
    from seralign.runs import Run, read_run
    from seralign.training.trainer import PreferenceTrainer

_WHERE = {
    "DPO": "objectives",
    "IPO": "objectives",
    "Objective": "objectives",
    "EvaluateConfig": "config.evaluate",
    "EvaluationResult": "pipeline.evaluate.run",
    "Example": "records",
    "PreferenceTrainer": "training.trainer",
    "Prompt": "records",
    "ResponseValues": "objectives",
    "Run": "runs",
    "SFT": "objectives",
    "SLiC": "objectives",
    "RunConfig": "config",
    "RunResult": "pipeline",
    "ScoredPairs": "rewards.scored_pairs",
    "SeralignError": "errors",
    "SimPO": "objectives",
    "evaluate": "pipeline.evaluate.run",
    "load_config": "config",
    "load_evaluate_config": "config.evaluate",
    "read_run": "runs",
    "response_logps": "policy.logprobs",
    "run_figures": "report.figures",
    "select": "rewards.selection",
    "train": "pipeline",
}

__all__ = [
    "DPO",
    "IPO",
    "SFT",
    "EvaluateConfig",
    "EvaluationResult",
    "Example",
    "Objective",
    "PreferenceTrainer",
    "Prompt",
    "ResponseValues",
    "Run",
    "RunConfig",
    "RunResult",
    "SLiC",
    "ScoredPairs",
    "SeralignError",
    "SimPO",
    "evaluate",
    "load_config",
    "load_evaluate_config",
    "read_run",
    "response_logps",
    "run_figures",
    "select",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'seralign' has no attribute {name!r}")
    return getattr(importlib.import_module(f"seralign.{_WHERE[name]}"), name)
