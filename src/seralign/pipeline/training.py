"""The training stage: reference log-probabilities in the trainer's own packs, then the training."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import datasets
import numpy as np
from transformers import set_seed

from seralign import distributed
from seralign.config import RunConfig, TrainingConfig
from seralign.data.table_columns import training_columns
from seralign.objectives import SFT, ObjectiveSum, one
from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.forecast.foreseen import table_rows
from seralign.pipeline.forecast.work import StageWork
from seralign.pipeline.heldout import keep_heldout, known_heldout
from seralign.pipeline.inputs import FORWARD
from seralign.pipeline.reference import first_packs, reference_logps, reference_token_logps
from seralign.pipeline.rows import Rows
from seralign.pipeline.stage import Context
from seralign.policy.heads import HEADS
from seralign.policy.identity import PolicySource, weights_digest
from seralign.policy.memory import is_out_of_memory
from seralign.policy.release import free
from seralign.policy.token_logps import TokenLogps
from seralign.progress import say
from seralign.records import content_id
from seralign.runs.figures import TrainFigures
from seralign.runs.files import write_json
from seralign.runs.layout import LOGS, POLICY, REFERENCE, REFERENCE_HELDOUT, SCRATCH
from seralign.training.arguments import check_rates
from seralign.training.batches import row_sizes
from seralign.training.mismatched import with_mismatched
from seralign.training.moving import moves_of
from seralign.training.plan import Pack, plan_training, response_packs
from seralign.training.train import TrainingData, heldout_packs, train

if TYPE_CHECKING:
    from seralign.pipeline.forecast.forecast import Forecast


@dataclass(frozen=True)
class Training:
    """The stage that trains a policy and saves it.

    Args:
        name: Name of the stage.
        start: Role of the policy to start from.
        rows: Training rows.
        reference: Role of the reference; None for supervised training.
        section: Section of the configuration with its settings; ``sft`` is supervised training.
        as_long_as: Trainings whose total number of steps it takes; by default the settings decide.
    """

    name: str
    start: str
    rows: Rows
    reference: str | None = None
    section: Literal["training", "sft"] = "training"
    as_long_as: tuple[str, ...] = ()

    def inputs(self, context: Context) -> dict[str, str]:
        """Rows, both policies, and all settings of training."""
        loop, config = context.loop, self._config(context)
        start = context.policy(self.start)
        inputs = {"pairs": self.rows.digest(context), "start": start.digest, self.section: content_id(asdict(config))}
        inputs |= loop.settings(*FORWARD, "policy.lora", "seed") | loop.tokenizer_inputs
        # Supervised training before the rounds has its own loss.
        inputs |= loop.settings("objective") if self.section == "training" else {}
        reference = self._reference(context)
        if reference is None:
            return inputs
        inputs |= loop.settings("reference.sync_steps", "reference.mixup")
        return inputs | {"reference": reference.digest}

    def work(self, context: Context, folder: Path) -> TrainFigures:
        """Score the rows under the reference, train, and save the policy; the figures include its digest.

        Where memory is not enough, the training resumes from its last checkpoint with half of the token budget. The
        budget decides how many examples are computed together and nothing else, so the result is the same but for
        rounding.

        Raises:
            Exception: Memory is not enough for the longest example, or for a process of several.
        """
        config = self._config(context)
        while True:
            try:
                return self._trained(context, folder, config)
            except Exception as error:
                if not is_out_of_memory(error) or distributed.world_size() > 1:
                    raise
                config = self._smaller(context, config, error)
            # Outside of the handler, which keeps the frames of the training and so its model.
            free()
            for part in (folder / SCRATCH).glob("*.sealed"):  # log-probabilities of the packs as they were
                part.unlink()

    def _smaller(self, context: Context, config: TrainingConfig, error: Exception) -> TrainingConfig:
        """Settings with half of the token budget; the error where that would divide no pack."""
        table = self._responses(context.loop, self.rows.table(context))
        tokens = config.tokens_per_pack // 2
        if config.tokens_per_pack <= row_sizes(table, self.objective(context.loop).reads).packed.max():
            raise error
        say(
            f"warning: {self.name}: out of memory: {self.section}.tokens_per_pack is halved to {tokens}, and the "
            "training resumes from its last checkpoint. The result is the same but for rounding"
        )
        return replace(config, tokens_per_pack=tokens)

    def _trained(self, context: Context, folder: Path, config: TrainingConfig) -> TrainFigures:
        loop, objective = context.loop, self.objective(context.loop)
        table = self._responses(loop, self.rows.table(context), folder)
        plan = plan_training(
            row_sizes(table, objective.reads),
            config,
            loop.seed(self.name),
            packed_length=loop.packed_length,
            world_size=distributed.world_size(),
            section=self.section,
        )
        check_rates(config, plan.steps, self.section)
        heldout = context.tables.heldout
        held = self._responses(loop, heldout, folder) if len(heldout) else None
        held_packs = None if held is None else heldout_packs(held, objective, config, loop.packed_length)
        start, reference = context.policy(self.start), self._reference(context)
        moves = None if reference is None else moves_of(loop.config.reference)
        own = held_own = _NOT_READ
        if reference is not None and moves is None:
            scored = partial(_scored, loop, objective, start, reference)
            own = scored(folder / REFERENCE, table, first_packs(plan))
            if held is not None and held_packs is not None:
                held_own = scored(folder / REFERENCE_HELDOUT, held, held_packs)
        before, head = None, HEADS[objective.head]
        # The values of a head that begins with this training are nobody's.
        if held is not None and held_packs is not None and objective.compares and objective.samples:
            before = known_heldout(loop, start, held, held_packs)
        data = TrainingData(
            table, plan, own.logps, held, held_packs, held_own.logps, before, moves, own.tokens, held_own.tokens
        )
        fresh_adapter = loop.config.policy.lora if start.source.adapter is None else None
        seed = loop.seed(self.name, "training")
        # A new adapter's weights are drawn when the model is loaded, before the trainer sets its seed.
        set_seed(seed)
        how = {"lora": fresh_adapter, "head": head, "divided": loop.divided(config.precision)}
        model = loop.load(start, loop.config.policy.dtype, trainable=True, **how)
        tokenizer = head.prepare(model, loop.tokenizer, loop.end_tokens)
        measured = train(
            model,
            tokenizer,
            data,
            objective,
            config,
            folder,
            section=self.section,
            seed=seed,
            label=f"training, {self.name}",
            log_folder=loop.run.root / LOGS / self.name,
        )
        digest = saved_digest(loop, folder / POLICY, start)
        if held is not None and held_packs is not None and objective.compares:
            for step, policy in ((0, start), (plan.steps, replace(start, digest=digest))):
                if (step or objective.samples) and step in measured.heldout_values:
                    keep_heldout(loop, policy, held, held_packs, measured.heldout_values[step])
        warn_unchanged(self.name, digest, start, self.section)
        return TrainFigures(
            steps=measured.steps,
            pairs=measured.pairs,
            train=measured.train,
            heldout_first=measured.heldout_first,
            heldout=measured.heldout,
            digest=digest,
        )

    def cost(self, forecast: Forecast) -> StageWork:
        """Steps over the packs of the rows, and passes for the reference and for held-out pairs."""
        loop, heldout, objective = forecast.loop, forecast.context.tables.heldout, self.objective(forecast.loop)
        steps = sum(forecast.works[name].count for name in self.as_long_as)
        config, rows = self._settings(forecast.config, steps), self.rows.foreseen(forecast)
        if "mismatched" in objective.needs:  # of labels, which no review changes
            rows = table_rows(self._responses(loop, forecast.context.tables.pairs), objective.reads)
        heldout = self._responses(loop, heldout) if len(heldout) else heldout
        plan = plan_training(
            rows.sizes, config, loop.seed(self.name), packed_length=loop.packed_length, section=self.section
        )
        held = table_rows(heldout, objective.reads) if len(heldout) else None
        held_packs = heldout_packs(heldout, objective, config, loop.packed_length) if len(heldout) else []
        passes, start = [], forecast.policy(self.start)
        moves = None if self.reference is None or not objective.uses_reference else moves_of(forecast.config.reference)
        if self.reference is not None and objective.uses_reference and moves is None:
            reference = forecast.policy(self.reference)
            key, exact = loop.training_policy(reference).key, start.digest == reference.digest
            for data, packs in ((rows, first_packs(plan)), (held, held_packs)):
                if data is None:
                    continue
                todo = response_packs(packs, data.numbering)
                if "tokens" not in objective.needs:  # which are in no cache
                    todo = forecast.cache.missing(key, data.keys, todo, exact=exact)
                if todo:
                    own = [data.rows_of(pack) for pack in todo]
                    passes.append(forecast.row_passes(self.section, data, own))
        loads = 1 + len(passes)
        # Passes over the rows of every step without gradient: under a reference that moves, and to see the whole step.
        more = (moves is not None) + ("step" in objective.needs)
        if more:
            passes.append(forecast.row_passes(self.section, rows, [pack.rows for pack in plan.packs] * more))
        if held is not None:
            times = 1 if config.eval_steps is None else math.ceil(plan.steps / config.eval_steps)
            both = response_packs(held_packs, held.numbering)
            before, after = (loop.training_policy(each).key for each in (start, replace(start, digest=self.name)))
            is_known = objective.compares and not forecast.cache.missing(before, held.keys, both, exact=True)
            times += not is_known
            times *= 1 if moves is None else 2
            if objective.compares:
                forecast.cache.missing(after, held.keys, both, exact=True)
            passes.append(forecast.row_passes(self.section, held, [pack.rows for pack in held_packs] * times))
        steps_work = forecast.steps(self.section, rows, plan)
        note = f"{len(rows)} rows"
        return StageWork(self.name, plan.steps, "steps", steps_work, tuple(passes), loads=loads, note=note)

    def objective(self, loop: Loop) -> ObjectiveSum:
        """The run's objective, or that of supervised training."""
        return loop.objective if self.section == "training" else one("sft", SFT())

    def _responses(self, loop: Loop, table: datasets.Dataset, folder: Path | None = None) -> datasets.Dataset:
        """What the trainer reads of a table, with all responses that the objective needs."""
        config, examples = loop.config, training_columns(table)
        objective, most = self.objective(loop), config.data.max_length
        return with_mismatched(examples, objective, config.seed, most, "data.pairs", folder)

    def _reference(self, context: Context) -> Policy | None:
        """The reference, if the objective uses it."""
        is_read = self.reference is not None and self.objective(context.loop).uses_reference
        return context.policy(str(self.reference)) if is_read else None

    def _config(self, context: Context) -> TrainingConfig:
        done = [name for name in self.as_long_as if context.run.exists(name)]
        return self._settings(context.config, sum(context.run.figures(name, TrainFigures).steps for name in done))

    def _settings(self, config: RunConfig, steps: int) -> TrainingConfig:
        settings = config.training if self.section == "training" else config.sft
        assert settings is not None
        return replace(settings, max_steps=steps, epochs=None) if self.as_long_as else settings


@dataclass(frozen=True)
class _Scored:
    """Log-probabilities of responses [R] under the reference, and those of their tokens, as far as they are read."""

    logps: np.ndarray | None = None
    tokens: TokenLogps | None = None


_NOT_READ = _Scored()


def _scored(
    loop: Loop,
    objective: ObjectiveSum,
    start: Policy,
    reference: Policy,
    file: Path,
    table: datasets.Dataset,
    packs: list[Pack],
) -> _Scored:
    if "tokens" in objective.needs:
        return _Scored(*reference_token_logps(loop, file, table, objective.reads, packs, reference))
    return _Scored(reference_logps(loop, file, table, objective.reads, packs, start, reference))


def warn_unchanged(name: str, digest: str, start: Policy, section: str) -> None:
    """Warn of a training that changed no weight."""
    if digest == start.digest:
        say(
            f"warning: {name} changed no weight, because its updates were too small for the weights' data type; raise "
            f"{section}.learning_rate, or set policy.dtype: float32"
        )


def saved_digest(loop: Loop, folder: Path, start: Policy) -> str:
    """The digest of the saved policy; one process reads the files, and names an adapter's base as the user did."""
    if not distributed.is_main():
        return distributed.broadcast("")
    settings = folder / "adapter_config.json"
    source = PolicySource(start.source.model, adapter=str(folder)) if settings.is_file() else PolicySource(str(folder))
    named = str(loop.config.policy.model)
    if settings.is_file() and not Path(named).is_dir():
        # PEFT writes the local folder of the hub's cache, which exists only on this machine.
        content = json.loads(settings.read_text(encoding="utf-8"))
        write_json(settings, content | {"base_model_name_or_path": named, "revision": loop.config.policy.revision})
    return distributed.broadcast(weights_digest(source))
