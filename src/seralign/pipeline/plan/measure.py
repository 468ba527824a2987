"""What a forward pass, an optimizer step and a sampled token cost here: seconds and peak memory, measured.

Each measurement has its seconds. It begins with short rows, and sizes rise by doubling: the next one is tried only
where growing in proportion would leave it below a limit of memory (looking ahead must not end the machine) and within
the seconds that are left. What is larger is extrapolated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache, TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import SaveStrategy

from seralign.config import TrainingConfig
from seralign.data.table import to_prompt
from seralign.data.table_columns import all_lengths, column_lengths, numbered_responses
from seralign.objectives import ObjectiveSum
from seralign.pipeline.context import Loop
from seralign.pipeline.plan.costs import (
    Costs,
    Line,
    SamplingCosts,
    StepCosts,
    fit_bytes,
    fit_seconds,
    forget_peak,
    memory_used,
    peak,
    slope_error,
)
from seralign.pipeline.plan.sizes import Budget, Guard, ladder
from seralign.policy.abilities import abilities
from seralign.policy.decoding import CACHE_BYTES
from seralign.policy.forward import inner_model
from seralign.policy.growing_cache import bytes_a_token, holds_keys_and_values_alone
from seralign.policy.load import mixed_precision
from seralign.policy.logprobs import response_logps
from seralign.policy.packing import make_batch
from seralign.policy.quiet import quiet_transformers
from seralign.policy.release import free
from seralign.policy.sampling import SamplingParams, sample
from seralign.policy.token_logps import TokenLogps
from seralign.rewards.responses import Responses
from seralign.training.arguments import training_arguments
from seralign.training.batches import PackDataset, loss_denominators
from seralign.training.moving import Moves, MovingReference
from seralign.training.plan import Pack, Plan
from seralign.training.trainer import PreferenceTrainer

# Tokens of prompt and of response of the first rows. One warms up: what it makes stays, the optimizer's state too, and
# it is no point of a line. Two more are a line, and tell how large the next one may be.
_SHORT_ROWS = (16, 16, 64)
# New tokens of the two samplings whose difference is the time of a step. No token ends them.
SHORT, LONG = 4, 16
_NO_END = frozenset({2**30})


def measure_passes(
    model: nn.Module, precision: str, responses: Responses, packs: Sequence[np.ndarray], limit: float, budget: Budget
) -> Costs:
    """Forward passes over packs of rising size, after short rows."""
    device, longest = next(model.parameters()).device, abilities(model).longest
    points: list[tuple[int, float, int]] = []
    guard = Guard.of(limit, memory_used(), budget)
    (prompt, response), *_ = responses.sequences(packs[0])
    short = [[(prompt[:tokens], response[:tokens])] for tokens in _SHORT_ROWS]
    for sequences in (*short, *map(responses.sequences, packs)):
        forget_peak()
        began = budget.now()
        made = make_batch(sequences, longest)
        tokens = made["input_ids"].numel()
        # Below that nothing can be told at all.
        if len(points) >= len(short) and not guard.allows(tokens, points[1:]):
            break
        batch = {name: value.to(device) for name, value in made.items()}
        with torch.no_grad(), mixed_precision(precision, model):
            response_logps(model, **batch).double().cpu()
        points.append((tokens, budget.now() - began, peak()))
    return _costs(points[1:] or points, guard.idle)


def measure_steps(
    load: Callable[[], nn.Module],
    loop: Loop,
    table: datasets.Dataset,
    packs: Sequence[np.ndarray],
    accumulation: int,
    objective: ObjectiveSum,
    config: TrainingConfig,
    scratch: Path,
    section: str,
    limit: float,
    budget: Budget,
    seconds: float,
    moves: Moves | None = None,
) -> StepCosts:
    """Optimizer steps of the real trainer, each over one pack of rising size (run twice where steps have several),
    after short rows. A reference that moves takes its memory; its passes are counted as such. The steps have so many
    seconds of the budget; loading comes on top."""
    began, idle = budget.now(), memory_used()
    model = load()
    moving = None if moves is None else MovingReference(model, moves)
    times = min(2, accumulation)
    # A step takes seconds whatever its rows: once the time is over, one warms up and one is timed.
    sizes = _SHORT_ROWS if budget.left else _SHORT_ROWS[1:]
    short = [_short_row(table, int(packs[0][0]), tokens) for tokens in sizes]
    rising = [*(np.array([len(table) + place]) for place in range(len(short))), *packs]
    table = datasets.concatenate_datasets([table, *short])
    plan = Plan([Pack(rows) for rows in rising for _ in range(times)], len(rising), times, 1)
    numbering = numbered_responses(table, objective.reads)
    reference = np.zeros(len(numbering)) if objective.uses_reference else None
    tokens = None
    if "tokens" in objective.needs:
        lengths = all_lengths(table, numbering)
        tokens = TokenLogps(np.zeros(lengths.sum(), dtype=np.float32), lengths)
    denominators = loss_denominators(table, plan, objective)
    data = PackDataset(table, plan.packs, objective, abilities(model).longest, reference, denominators, tokens)
    quiet = replace(config, report_to=[], eval_steps=None, log_steps=10**9)
    arguments = training_arguments(quiet, plan, scratch, section=section, heldout=False, seed=0)
    arguments.save_strategy = SaveStrategy.NO
    with quiet_transformers():
        trainer = PreferenceTrainer(
            objective=objective, model=model, args=arguments, train_dataset=data, processing_class=loop.tokenizer
        )
        tokens = [int(data[place * times]["input_ids"].numel()) for place in range(len(rising))]
        clock = _Clock(tokens, times, len(short), limit, budget, seconds)
        for callback in (ProgressCallback, PrinterCallback):
            trainer.remove_callback(callback)
        trainer.add_callback(clock)
        trainer.train()
    wall = budget.now() - began
    points = clock.points[1:] or clock.points
    optimizer: Any = trainer.optimizer
    state = sum(_bytes(value) for own in optimizer.state.values() for value in own.values())
    adapted = hasattr(model, "peft_config")
    saved = sum(_bytes(weight) for weight in model.parameters() if weight.requires_grad or not adapted)
    steps = sorted(clock.optimizer[1:] or clock.optimizer)
    state += 0 if moving is None else moving.size
    del trainer, model, optimizer, moving
    free()
    return StepCosts(
        _costs(points, idle),
        steps[len(steps) // 2],
        max(0.0, wall - clock.spent),
        clock.whole,
        saved,
        state,
    )


def _costs(points: Sequence[tuple[int, float, int]], idle: int) -> Costs:
    """Of (tokens, seconds, peak bytes)."""
    timed = [(tokens, seconds) for tokens, seconds, _ in points]
    line = fit_seconds(timed)
    return Costs(
        line,
        fit_bytes([(tokens, reached) for tokens, _, reached in points], idle),
        max(tokens for tokens, _ in timed),
        slope_error(timed, line),
    )


def _short_row(table: datasets.Dataset, row: int, tokens: int) -> datasets.Dataset:
    """A row with the first tokens of its prompt and its responses."""
    cells = table[row]
    cells["prompt_ids"] = cells["prompt_ids"][:tokens]
    cells["response_ids"] = [response[:tokens] for response in cells["response_ids"]]
    return datasets.Dataset.from_dict({name: [cell] for name, cell in cells.items()}, features=table.features)


class _Clock(TrainerCallback):
    """Times the steps of a training, and ends it before it becomes too large.

    ``points``: tokens of a pack, its seconds, and peak bytes before the optimizer's part; ``optimizer``: seconds of
    that part; ``spent``: seconds of all steps; ``whole``: peak bytes of the smallest step, which are those of the part.
    """

    def __init__(self, tokens: list[int], times: int, least: int, limit: float, budget: Budget, seconds: float) -> None:
        self.points: list[tuple[int, float, int]] = []
        self._steps: list[tuple[int, float, int]] = []
        self.optimizer: list[float] = []
        self.spent, self.whole, self._reached = 0.0, 0, 0
        self._tokens, self._times, self._least = tokens, times, least
        self._limit, self._seconds = limit, seconds
        self._now, self._budget = budget.now, budget
        self._began = self._stepping = self._now()
        self._guard: Guard | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        forget_peak()
        self._began, self._budget = self._now(), self._budget.part(self._seconds)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        _wait()
        self._stepping, self._reached = self._now(), peak()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        _wait()
        self.optimizer.append(self._now() - self._stepping)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        whole = self._now() - self._began
        self.spent += whole
        at = len(self.points)
        self.points.append((self._tokens[at], max(0.0, whole - self.optimizer[-1]) / self._times, self._reached))
        self._steps.append((self._tokens[at], whole - self.optimizer[-1], self._reached))
        if self._guard is None:  # the optimizer's state is there from now on
            self.whole = peak()
            self._guard = Guard(self._limit, memory_used(), self._budget, self._seconds)
        more = at + 1 < len(self._tokens)
        # Below that nothing can be told at all.
        if (
            more
            and at + 1 >= self._least
            and not self._guard.allows(self._tokens[at + 1], self._steps[1:], fixed=self.optimizer[-1])
        ):
            control.should_training_stop = True
        forget_peak()
        self._began = self._now()


def measure_sampling(
    model: nn.Module,
    loop: Loop,
    prompts: datasets.Dataset,
    params: SamplingParams,
    batch_size: int,
    prefill: Line,
    limit: float,
    budget: Budget,
) -> SamplingCosts:
    """A few tokens of responses to rising numbers of prompts, of the batch of usual length."""
    order = np.argsort(column_lengths(prompts, "ids"), kind="stable")
    start = max(0, (len(order) - batch_size) // 2)
    rows = [to_prompt(prompts[int(row)]) for row in order[start : start + batch_size]]
    width, token_bytes = len(rows[-1].ids), _token_bytes(model)
    times: list[tuple[int, float, float]] = []
    points: list[tuple[int, float, int]] = []
    guard = Guard.of(limit, memory_used(), budget)
    for number, batch in enumerate([rows[:1], *([rows[at] for at in step] for step in ladder(range(len(rows))))]):
        if not guard.allows(len(batch), points):
            break
        spent = []
        forget_peak()
        for tokens in (SHORT, LONG):
            began = budget.now()
            sample(model, loop.tokenizer, batch, replace(params, max_new_tokens=tokens), _NO_END, 0)
            spent.append(budget.now() - began)
        points.append((len(batch), sum(spent), peak()))
        step = max(1e-9, spent[1] - spent[0]) / (LONG - SHORT)
        if number:
            times.append((len(batch), step, max(0.0, spent[0] - SHORT * step) / (len(batch) * width)))
    timed = [(size * params.samples, step) for size, step, _ in times or [(1, points[0][1] / LONG, 0.0)]]
    steps = fit_seconds(timed)
    device = next(model.parameters()).device
    return SamplingCosts(
        prompt=times[-1][2] if times else 0.0,
        step=steps.base,
        row=steps.slope,
        prefill=Line(max(prefill.base, guard.idle), prefill.slope),
        bytes=fit_bytes([(size * params.samples, reached) for size, _, reached in points], guard.idle),
        measured=width + LONG,
        largest=max(size * params.samples for size, _, _ in points),
        error=slope_error(timed, steps),
        token_bytes=token_bytes,
        most_bytes=CACHE_BYTES if device.type != "cuda" else torch.cuda.get_device_properties(device).total_memory // 4,
    )


@torch.no_grad()
def _token_bytes(model: nn.Module) -> int:
    """Bytes that the cache holds for one token of one row; 0 where it does not grow with tokens alone."""
    inner = inner_model(model)
    if not holds_keys_and_values_alone(inner.config):
        return 0
    ids = torch.zeros(1, 2, dtype=torch.long, device=next(model.parameters()).device)
    cache = getattr(inner(input_ids=ids, use_cache=True), "past_key_values", None)
    return bytes_a_token(cache) if isinstance(cache, DynamicCache) else 0


def _bytes(value: Any) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
