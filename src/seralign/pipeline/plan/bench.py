"""Measures what the work of a run costs, on its own data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from seralign.config import LOCAL, BootstrapConfig, EvaluationConfig, PolicyConfig, SamplingConfig, TrainingConfig
from seralign.objectives import SFT, one
from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.data import Tables
from seralign.pipeline.forecast.rewarded import SECTION
from seralign.pipeline.plan.costs import Costs, SamplingCosts, StepCosts, forget_peak, memory_used, peak
from seralign.pipeline.plan.estimate import Measured
from seralign.pipeline.plan.measure import measure_passes, measure_sampling, measure_steps
from seralign.pipeline.plan.sizes import Budget, ladder
from seralign.pipeline.rows import beside_demonstrations, demonstrations, first_pairs
from seralign.policy.abilities import abilities
from seralign.policy.load import load_model
from seralign.policy.release import free
from seralign.progress import say
from seralign.rewards.responses import Responses, plan_scoring
from seralign.sampling import params_of
from seralign.training.batches import row_sizes
from seralign.training.mismatched import with_mismatched
from seralign.training.moving import moves_of
from seralign.training.plan import plan_training

# Wall time of all measurements together, at most. Loading the model comes on top, once for each of them.
SECONDS = 24.0
# Shares of the seconds: steps get more, since most of the time of a run goes there.
_STEPS, _OTHERS = 3, 1


@dataclass(frozen=True)
class Bench:
    """Measures the work of a run: its data, and the policy that it begins with, within a budget of wall time.

    When the budget is over, what is left is measured at its shortest sizes only.
    """

    loop: Loop
    tables: Tables
    base: Policy
    budget: Budget

    def measure(self, memory: int) -> tuple[Measured, int]:
        """What the run's work costs, in rising order of memory, and the longest sequence in packed rows."""
        config, now = self.loop.config, self.budget.now
        began, idle = now(), memory_used()
        scoring = self.loop.scoring_policy(self.base)
        loaded = (scoring.weights, scoring.precision)
        model, most = self._load(*loaded)
        loading, longest = now() - began, abilities(model).longest
        kinds = {"scoring": loaded}
        kinds |= {name: (config.policy.dtype, part.precision) for name, part in self._sections().items()}
        kinds |= {"training": (config.policy.dtype, config.training.precision)}
        say("timing forward passes")
        sections, distinct = self._sections(), len(set(kinds.values()))
        samples = self._sampled is not None
        # The model is loaded again for each kind, for sampling, and for the steps of each section.
        loads = distinct - 1 + samples + len(sections)
        seconds = max(0.0, min(SECONDS, self.budget.left - loads * loading))
        part = seconds / (_STEPS * len(sections) + _OTHERS * (distinct + samples))
        by_kind: dict[tuple[str, str], Costs] = {}
        for kind in dict.fromkeys(kinds.values()):
            if kind != loaded:
                del model
                free()
                model, most = self._load(*kind)
                loaded = kind
            costs = self._passes(model, kind[1], memory, self.budget.part(_OTHERS * part))
            by_kind[kind] = replace(costs, loading_bytes=most)
        del model
        free()
        passes = {name: by_kind[kind] for name, kind in kinds.items()}
        sampling = self._sampling(passes["scoring"], memory, _OTHERS * part)
        steps = {
            name: self.steps(name, settings, config.policy, memory, _STEPS * part)
            for name, settings in sections.items()
        }
        return Measured(passes, steps, sampling, loading, idle), longest

    def steps(
        self, section: str, settings: TrainingConfig, policy: PolicyConfig, memory: int, seconds: float
    ) -> StepCosts:
        """What optimizer steps of a section cost with these settings, tried for so many seconds."""
        say(f"timing steps of {section}")
        loop, tables = self.loop, self.tables
        table, objective, name = first_pairs(loop.objective, tables), loop.objective, "round-1/train"
        if section == "sft":
            table = demonstrations(tables)
            objective, name = one("sft", SFT()), "sft"
        elif objective.joins_demonstrations:
            table = beside_demonstrations(table, tables)
        table = with_mismatched(table, objective, loop.config.seed, loop.config.data.max_length, "data.pairs")
        sizes = row_sizes(table, objective.reads)
        plan = plan_training(sizes, settings, loop.seed(name), packed_length=loop.packed_length, section=section)
        packs = _rising([pack.rows for pack in plan.packs], lambda rows: int(sizes.packed[rows].sum()))
        load = partial(
            load_model,
            self.base.source,
            policy,
            policy.dtype,
            trainable=True,
            lora=policy.lora,
        )
        scratch = loop.run.root / "steps"
        return measure_steps(
            load,
            loop,
            table,
            packs,
            plan.accumulation,
            objective,
            settings,
            scratch,
            section,
            _half_way(memory),
            self.budget,
            seconds,
            moves_of(loop.config.reference) if section == "training" and objective.uses_reference else None,
        )

    def _load(self, weights: str, precision: str) -> tuple[Any, int]:
        """The model as scoring loads it, and the peak bytes of loading it. It has an adapter if the policies that the
        run trains will have one."""
        config = self.loop.config.policy
        forget_peak()
        model = load_model(self.base.source, config, weights, lora=config.lora, scores_in=precision)
        return model, peak()

    def _passes(self, model: Any, precision: str, memory: int, budget: Budget) -> Costs:
        responses = Responses(self.tables.pairs)
        packs = plan_scoring(responses, self.loop.config.scoring.tokens_per_pack, self.loop.packed_length)
        rising = _rising(packs, lambda pack: int(responses.whole_lengths[pack].sum()))
        return measure_passes(model, precision, responses, rising, _half_way(memory), budget)

    @property
    def _sampled(self) -> BootstrapConfig | EvaluationConfig | None:
        """The section whose sampling is measured: the first that samples in this process; None where none does."""
        config, tables = self.loop.config, self.tables
        sections: list[tuple[BootstrapConfig | EvaluationConfig, int]] = []
        if config.bootstrap is not None and config.bootstraps:
            sections.append((config.bootstrap, len(tables.prompts)))
        if config.evaluation.prompts:
            sections.append((config.evaluation, len(tables.heldout_prompts)))
        if config.rlhf is not None and not any(prompts for _, prompts in sections):
            sampling = SamplingConfig(max_new_tokens=config.rlhf.limit, batch_size=config.training.batch_size)
            samples = max(2, config.rlhf.responses)
            sections.append((BootstrapConfig(samples=samples, sampling=sampling), len(tables.prompts)))
        return next((section for section, prompts in sections if prompts and section.sampling.engine == LOCAL), None)

    def _sampling(self, passes: Costs, memory: int, seconds: float) -> SamplingCosts | None:
        """What sampling costs, tried for so many seconds after loading."""
        section = self._sampled
        if section is None:
            return None
        is_bootstrap = isinstance(section, BootstrapConfig)
        prompts = self.tables.prompts if is_bootstrap else self.tables.heldout_prompts
        say("timing sampling")
        params = replace(params_of(section.sampling, section.samples if is_bootstrap else 1), max_new_tokens=1)
        model, batch_size = self.loop.sampled_policy(self.base).load(), section.sampling.batch_size
        found = measure_sampling(
            model, self.loop, prompts, params, batch_size, passes.bytes, _half_way(memory), self.budget.part(seconds)
        )
        del model
        free()
        return found

    def _sections(self) -> dict[str, TrainingConfig]:
        config = self.loop.config
        first = {"sft": config.sft} if config.sft is not None else {}
        return first | {"training" if config.rlhf is None else SECTION: config.training}


def _rising(packs: Sequence[np.ndarray], tokens: Callable[[np.ndarray], int]) -> list[np.ndarray]:
    """What to measure: parts of the largest pack and two packs of usual size, smallest first."""
    ordered = sorted(packs, key=tokens)
    usual = [ordered[len(ordered) * part // 3] for part in (1, 2)] if len(ordered) > 2 else []
    return sorted([*ladder(ordered[-1]), *usual], key=tokens)


def _half_way(memory: int) -> float:
    used = memory_used()
    return used + (memory - used) / 2
