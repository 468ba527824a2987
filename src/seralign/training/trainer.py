"""A ``transformers.Trainer`` for preference objectives: one forward pass per pack, exact means, metrics."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Trainer

from seralign import distributed
from seralign.errors import ConfigError
from seralign.objectives import ObjectiveSum
from seralign.objectives.base import StepValues
from seralign.objectives.checked import losses_of, term_key
from seralign.policy.heads import LANGUAGE_MODEL, Head
from seralign.policy.logprobs import response_token_logps, summed
from seralign.policy.precision import exact_dtype
from seralign.training.batches import PackDataset, model_inputs, numbers, response_values
from seralign.training.finite import FiniteCheck
from seralign.training.metrics import MetricSums, add_metrics
from seralign.training.moving import MovingReference
from seralign.training.shards import divided_on_processors
from seralign.training.steps import RunningState, StepView, step_view


class PreferenceTrainer(Trainer):
    """Trains a model on packs of examples that were planned in advance.

    Everything except the loss and its metrics comes from ``transformers.Trainer``: optimizer, schedule, mixed
    precision, gradient accumulation, checkpoints, resuming, trackers, FSDP, DeepSpeed. For each term of the objective,
    the loss of a step is the weighted mean over its examples (tokens, for ``sft``). The weights are relative to the
    mean weight of the table. The loss does not depend on packing, accumulation or the number of processes.

    Args:
        objective: The loss.
        section: Where its settings are in the configuration, for messages: ``training`` or ``sft``.
        head: What the model says of each response of a pack: a log-probability, or a reward.
        running: The state of the objective's terms. To be carried from step to step, it is one of the callbacks, too.
        moving: The reference, where it moves with the training; one of the callbacks, too.
        first_values: Values of the held-out responses [R] before the first step, if they are known. The
            evaluation at step 0 then uses them and does not run the model.
        kwargs: Arguments of ``Trainer``. ``train_dataset`` and ``eval_dataset`` must be
            ``seralign.training.batches.PackDataset``, and the batch size of ``args`` must be 1 (one pack).
    """

    def __init__(
        self,
        objective: ObjectiveSum,
        *,
        section: str = "training",
        head: Head = LANGUAGE_MODEL,
        running: RunningState | None = None,
        moving: MovingReference | None = None,
        first_values: np.ndarray | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_collator=_only, **kwargs)
        self.objective = objective
        self.section = section
        self.head = head
        self.running = RunningState(objective) if running is None else running
        self.moving = moving
        self._views, self._collisions = "step" in objective.needs, "collisions" in objective.needs
        self._tokens = bool({"tokens", "collisions", "edits"} & objective.needs)
        # The view of the step whose number it is.
        self._view: tuple[int, StepView] | None = None
        # Values of the held-out responses [R], by step.
        self.heldout_values = dict[int, np.ndarray]()
        self._first_values = first_values
        self._finite = FiniteCheck(section, scaled=self.args.fp16)
        self.loss_is_scaled_for_ga = True
        self._sums = MetricSums(objective)

    def create_accelerator_and_postprocess(self) -> None:
        """Create the accelerator, which also divides models on processors."""
        super().create_accelerator_and_postprocess()
        divided_on_processors(self)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The share of this pack in the loss of the step. Gradients are averaged over processes, hence the factor."""
        packs: PackDataset = self.train_dataset  # pyright: ignore
        view = self._step_view(model, packs, int(inputs["pack"])) if self._views else None
        values, inputs = self._forward(model, self._with_reference(model, inputs))
        losses = self._pack(inputs, values, self._sums, packs.of_pairs, view, seen=True)
        sums = zip(self.objective.terms, losses, inputs["denominators"], strict=True)
        loss = sum(term.weight * loss / denominator for term, loss, denominator in sums) * distributed.world_size()
        return (loss, {}) if return_outputs else loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Loss and metrics on the held-out packs, over all processes, each example counted once."""
        packs: PackDataset = self.eval_dataset if eval_dataset is None else eval_dataset  # pyright: ignore
        at_first = eval_dataset is None and self.state.global_step == 0 and not self._tokens
        known = self._first_values if at_first else None
        # DeepSpeed's engine also sets the precision.
        model: Any = self.model_wrapped if self.is_deepspeed_enabled else self.model
        was_training = model.training
        model.eval()
        sums, found = MetricSums(self.objective), dict[int, np.ndarray]()
        kept: list[tuple[int, dict[str, Tensor], Tensor]] = []
        for start in range(0, len(packs), distributed.world_size()):
            at = start + distributed.rank()
            pack = min(at, len(packs) - 1)
            inputs = self._prepare_inputs(packs[pack])
            if at >= len(packs):  # processes that share a model (FSDP) must run it the same number of times
                inputs["weight"] = torch.zeros_like(inputs["weight"])
            if known is None:
                values, inputs = self._without_gradient(model, self._with_reference(model, inputs))
            else:
                device = inputs["weight"].device
                own = known[packs.numbering.of_rows(packs.packs[pack].rows)]
                values = torch.as_tensor(own, dtype=exact_dtype(device)).to(device)
                # A moving reference begins at the policy.
                inputs = inputs if self.moving is None else inputs | {"reference": values}
            found[pack] = values.double().cpu().numpy()
            kept.append((pack, numbers(inputs), values))
        model.train(was_training)
        # All held-out examples are one step.
        view = step_view({pack: response_values(own, values) for pack, own, values in kept}) if self._views else None
        with torch.no_grad():
            for _, own, values in kept:
                self._pack(own, values, sums, packs.of_pairs, view)
        if eval_dataset is None:
            self.heldout_values[self.state.global_step] = _by_number(packs, found)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in sums.means().items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """The norm of the gradient of a step that is about to be taken, checked to be finite."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        packs: PackDataset = self.train_dataset  # pyright: ignore
        self._finite.end_step(packs, self.state.global_step + 1, norm)
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the metrics since the last log to a training log."""
        # In float16 a norm that overflows is usual: its step is left out, and the scale of the loss lowered.
        for name in ("loss",) if self.args.fp16 else ("loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise ConfigError(
                    f"{self.section}: {name} is {logs[name]} at step {self.state.global_step}, so the training has "
                    f"diverged; try a lower {self.section}.learning_rate or more {self.section}.warmup"
                )
        if "loss" in logs:
            logs = logs | self._sums.means()
            self._sums = MetricSums(self.objective)
        super().log(logs, start_time)

    def _with_reference(self, model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """A pack with the values of its responses under the reference, where it moves."""
        if self.moving is None:
            return inputs
        with self.moving.in_place():
            values, found = self._without_gradient(model, inputs)
        tokens = {"reference_tokens": found["tokens"]} if self._tokens else {}
        return inputs | {"reference": values} | tokens

    def _forward(self, model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The model's values of the responses of a pack [R], and the pack with ``tokens``, if the objective reads
        them."""
        batch = model_inputs(inputs)
        if not self._tokens:
            return self.head.values(model, **batch), inputs
        lengths = batch.pop("lengths")
        tokens = response_token_logps(model, **batch, collisions=self._collisions)
        if not self._collisions:
            return summed(tokens, lengths), inputs | {"tokens": tokens}
        tokens, collisions = tokens.unbind(dim=1)
        return summed(tokens, lengths), inputs | {"tokens": tokens, "collisions": collisions.detach()}

    def _without_gradient(self, model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """As ``_forward``, for no later pass to depend on."""
        with torch.no_grad(), self.compute_loss_context_manager():
            found = self._forward(model, inputs)
        # In mixed precision, weights that are cast without gradient would stay so for the passes that need one.
        torch.clear_autocast_cache()
        return found

    def _step_view(self, model: nn.Module, packs: PackDataset, pack: int) -> StepView:
        """The examples of the step of a pack, by a forward pass over all its packs before the first of them."""
        step = self.state.global_step
        if self._view is None or self._view[0] != step:
            found = {}
            size, world = self.args.gradient_accumulation_steps * distributed.world_size(), distributed.world_size()
            first = pack // size * size
            for number in range(first + distributed.rank(), first + size, world):
                inputs = self._with_reference(model, self._prepare_inputs(packs[number]))
                values, inputs = self._without_gradient(model, inputs)
                if packs.packs[number].counts:
                    found[number] = response_values(inputs, values)
            self._view = step, step_view(found)
        return self._view[1]

    def _pack(
        self,
        inputs: dict[str, Tensor],
        values: Tensor,
        sums: MetricSums,
        of_pairs: bool,
        view: StepView | None = None,
        *,
        seen: bool = False,
    ) -> list[Tensor]:
        """The weighted loss of a pack for each term, summed over its examples, from the values of its responses [R].

        ``view`` are all examples of its step, and ``seen`` counts its own in for the state after the step.
        """
        responses = response_values(inputs, values)
        if view is not None:
            others, at = view.of(int(inputs["pack"]), responses.examples, values.device)
            responses = replace(responses, step=StepValues(others, at))
        weight = inputs["weight"].to(responses.policy.dtype)
        counted = weight > 0
        if seen and self.running.carries and bool(counted.any()):
            self.running.see(responses)
        losses, units, finite = [], [], torch.ones_like(counted)
        for place, term in enumerate(self.objective.terms):
            own = replace(responses, state=self.running.states[place])
            each = losses_of(term, own, term_key(self.objective, place)) * weight
            losses.append(each.sum())
            finite &= each.detach().isfinite()
            by_token = term.objective.unit == "token"
            units.append((counted * responses.first(responses.lengths) if by_token else counted).sum())
        if seen:
            self._finite.see(int(inputs["pack"]), finite)
        own = [loss.detach() for loss in losses]
        add_metrics(sums, own, units, counted, self.objective.primary, responses, of_pairs)
        return losses


def _by_number(packs: PackDataset, found: dict[int, np.ndarray]) -> np.ndarray:
    """The values of all responses [R], by their number, from those of each process's packs."""
    made = np.full(len(packs.numbering), np.nan)
    for own in distributed.gather(found):
        for pack, values in own.items():
            made[packs.numbering.of_rows(packs.packs[pack].rows)] = values
    return made


def _only(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    (item,) = items
    return item
