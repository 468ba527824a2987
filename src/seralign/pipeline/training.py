"""The training stage: reference log-probabilities in the trainer's own packs, then the trainer."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import datasets
import numpy as np

from seralign import distributed
from seralign.config import RunConfig, TrainingConfig
from seralign.data.table import example_ids, training_columns
from seralign.objectives import ObjectiveSum
from seralign.objectives.checked import try_objective
from seralign.pipeline.context import Loop, Policy
from seralign.pipeline.heldout import keep_heldout, known_heldout
from seralign.pipeline.inputs import FORWARD
from seralign.policy.identity import PolicySource, weights_digest
from seralign.progress import say
from seralign.records import content_id
from seralign.rewards.cached_logprobs import logps
from seralign.rewards.responses import Responses
from seralign.runs import StageRecord
from seralign.runs.figures import TrainFigures
from seralign.runs.files import write_json, write_table
from seralign.runs.layout import LOGS, POLICY, REFERENCE, REFERENCE_HELDOUT, SCRATCH
from seralign.runs.sealed import is_sealed, read_sealed_table, write_sealed_table
from seralign.training.arguments import check_rates, check_settings
from seralign.training.batches import row_sizes
from seralign.training.plan import Pack, Plan, count_steps, plan_training
from seralign.training.train import TrainingData, heldout_packs, train


def train_stage(
    loop: Loop,
    name: str,
    *,
    start: Policy,
    reference: Policy | None,
    pairs: datasets.Dataset,
    pairs_digest: str,
    heldout: datasets.Dataset,
    objective: ObjectiveSum,
    config: TrainingConfig,
    section: str = "training",
) -> StageRecord:
    """Train ``start`` on ``pairs`` and save the policy; its digest is among the figures.

    ``section`` is where ``config`` is in the run's configuration.
    """
    inputs = {"pairs": pairs_digest, "start": start.digest, section: content_id(asdict(config))}
    inputs |= loop.settings(*FORWARD, "policy.lora", "seed") | loop.tokenizer_inputs
    # Supervised training before the rounds has a loss of its own.
    inputs |= loop.settings("objective") if section == "training" else {}
    if reference is not None and objective.uses_reference:
        inputs["reference"] = reference.digest

    def work(folder: Path) -> TrainFigures:
        table = training_columns(pairs)
        plan = plan_training(
            row_sizes(table, objective.reads),
            config,
            loop.seed(name),
            packed_length=loop.packed_length,
            world_size=distributed.world_size(),
            section=section,
        )
        check_rates(config, plan.steps, section)
        held = training_columns(heldout) if len(heldout) else None
        held_packs = None if held is None else heldout_packs(held, objective, config, loop.packed_length)
        own = held_own = None
        if reference is not None and objective.uses_reference:
            first = first_packs(plan)
            own = _reference(loop, folder / REFERENCE, table, objective.reads, first, start, reference)
            if held is not None and held_packs is not None:
                file = folder / REFERENCE_HELDOUT
                held_own = _reference(loop, file, held, objective.reads, held_packs, start, reference)
        before = None
        if held is not None and held_packs is not None and objective.compares:
            before = known_heldout(loop, start, held, held_packs)
        data = TrainingData(table, plan, own, held, held_packs, held_own, before)
        fresh_adapter = loop.config.policy.lora if start.source.adapter is None else None
        seed = loop.seed(name, "training")
        _seed_everything(seed)
        model = loop.load(start, loop.config.policy.dtype, trainable=True, lora=fresh_adapter)
        measured = train(
            model,
            loop.tokenizer,
            data,
            objective,
            config,
            folder,
            section=section,
            seed=seed,
            label=f"training, {name}",
            log_folder=loop.run.root / LOGS / name,
        )
        digest = _saved_digest(loop, folder / POLICY, start)
        if held is not None and held_packs is not None and objective.compares:
            for step, policy in ((0, start), (plan.steps, replace(start, digest=digest))):
                if step in measured.heldout_values:
                    keep_heldout(loop, policy, held, held_packs, measured.heldout_values[step])
        if digest == start.digest:
            say(
                f"warning: {name} changed no weight: its updates were too small for the weights' data type; raise "
                f"{section}.learning_rate, or give policy.dtype: float32"
            )
        return TrainFigures(
            steps=measured.steps,
            pairs=measured.pairs,
            train=measured.train,
            heldout_first=measured.heldout_first,
            heldout=measured.heldout,
            digest=digest,
        )

    return loop.stage(name, inputs, work)


def check_sections(config: RunConfig) -> None:
    """Refuse settings of a training that cannot be honoured, before the run begins.

    Raises:
        ConfigError: as ``check_settings`` and ``try_objective``.
    """
    try_objective(config.objective)
    check_settings(config.training, "training")
    if config.sft is not None:
        check_settings(config.sft, "sft")


def check_trainings(config: RunConfig, *, demonstrations: int, pairs: int) -> None:
    """Refuse a training that would change nothing, before any model runs.

    Args:
        config: The run.
        demonstrations: Rows that ``sft`` trains on.
        pairs: Rows that round 1 trains on.

    Raises:
        ConfigError: no step of a training has a learning rate above 0.
    """
    if config.sft is not None:
        check_rates(config.sft, count_steps(demonstrations, config.sft, "sft"), "sft")
    check_rates(config.training, count_steps(pairs, config.training, "training"), "training")


def first_packs(plan: Plan) -> list[Pack]:
    """The packs in which rows come first: the first epoch's, as the trainer will run them."""
    seen: set[int] = set()
    first = []
    for pack in plan.packs:
        if not seen.issuperset(pack.rows.tolist()):
            first.append(pack)
            seen.update(pack.rows.tolist())
    return first


def _reference(
    loop: Loop,
    file: Path,
    table: datasets.Dataset,
    reads: Literal["all", "first"],
    packs: list[Pack],
    start: Policy,
    reference: Policy,
) -> np.ndarray:
    """Reference log-probabilities [R] of the responses that training reads, kept in the stage for one that is resumed.

    Where training starts from the reference itself they are those of the trainer's very packs, so that margins at
    step 0 are zero to the last bit. An example that training never comes to (``max_steps`` below an epoch) is not
    scored: null in the file, NaN in the array.
    """
    responses = Responses(table, reads)
    part, numbering = file.parent / SCRATCH / f"{file.stem}.sealed", responses.numbering
    if not distributed.broadcast(is_sealed(part)):
        policy = loop.training_policy(reference)
        found = logps(
            responses,
            [numbering.of_rows(pack.rows) for pack in packs],
            policy,
            loop.cache,
            exact=start.digest == reference.digest,
        )
        if distributed.is_main():
            columns = {"example_id": example_ids(table), "logps": numbering.as_lists(found)}
            write_sealed_table(part, columns)
        distributed.barrier()
    stored = read_sealed_table(part)
    if distributed.is_main():
        write_table(file, {name: stored[name] for name in stored.column_names})
    return numbering.from_lists(stored["logps"])


def _saved_digest(loop: Loop, folder: Path, start: Policy) -> str:
    """The digest of what was saved; one process reads the files, and names an adapter's base as the user did."""
    if not distributed.is_main():
        return distributed.broadcast("")
    settings = folder / "adapter_config.json"
    source = PolicySource(start.source.model, adapter=str(folder)) if settings.is_file() else PolicySource(str(folder))
    named = str(loop.config.policy.model)
    if settings.is_file() and not Path(named).is_dir():
        # PEFT writes the folder that the hub's files were kept in, which nobody else has.
        content = json.loads(settings.read_text(encoding="utf-8"))
        write_json(settings, content | {"base_model_name_or_path": named, "revision": loop.config.policy.revision})
    return distributed.broadcast(weights_digest(source))


def _seed_everything(seed: int) -> None:
    # The fresh adapter's weights are drawn when the model is loaded, before the trainer seeds itself.
    from transformers import set_seed

    set_seed(seed)
