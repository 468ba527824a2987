"""A thin ``transformers.Trainer`` for preference objectives: one forward pass per pack, exact means, metrics."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from seralign import distributed
from seralign.objectives import LogProbs, Objective, ObjectiveOutput
from seralign.training.batches import PackDataset, forward_logps, pack_logprobs


class PreferenceTrainer(Trainer):
    """Trains a policy on planned packs of pairs.

    Everything but the loss and its metrics is :class:`transformers.Trainer`'s: optimizer, schedule, mixed precision,
    accumulation, checkpoints, resume, trackers, FSDP, DeepSpeed. The loss of a step is the mean over its pairs
    (tokens, for ``sft``) whatever the packing, the accumulation and the number of processes.

    Args:
        objective: The loss.
        kwargs: As for ``Trainer``; ``train_dataset`` and ``eval_dataset`` are a
            :class:`seralign.training.batches.PackDataset` each, the batch size of ``args`` is 1 (one pack).
    """

    def __init__(self, objective: Objective, **kwargs: Any) -> None:
        super().__init__(data_collator=_only, **kwargs)
        self.objective = objective
        self.loss_is_scaled_for_ga = True
        self._sums: defaultdict[str, float] = defaultdict(float)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This pack's share of the step's loss. Processes' gradients are averaged, hence the factor."""
        loss = self._pack(model, inputs, self._sums) * distributed.world_size()
        return (loss, {}) if return_outputs else loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Loss and metrics on the held-out packs, over all processes, each pair counted once."""
        packs: PackDataset = self.eval_dataset if eval_dataset is None else eval_dataset  # pyright: ignore
        model = self.model
        was_training = model.training
        model.eval()
        sums: defaultdict[str, float] = defaultdict(float)
        for at in range(distributed.rank(), len(packs), distributed.world_size()):
            inputs = self._prepare_inputs(packs[at])
            with torch.no_grad(), self.compute_loss_context_manager():
                sums["loss"] += float(self._pack(model, inputs, sums))
        model.train(was_training)
        totals = _total(sums)
        metrics = {"loss": totals.pop("loss")} | _means(totals)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the metrics since the last line to a line of training."""
        if "loss" in logs:
            logs = logs | _means(_total(self._sums))
            self._sums.clear()
        super().log(logs, start_time)

    def _pack(self, model: nn.Module, inputs: dict[str, Tensor], sums: dict[str, float]) -> Tensor:
        logps = pack_logprobs(inputs, *forward_logps(model, inputs, self.objective.uses_rejected))
        output = self.objective.loss(logps)
        _add(sums, inputs["weight"] > 0, logps, output)
        return (output.loss * inputs["weight"].to(output.loss.dtype)).sum() / inputs["denominator"]


def _only(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    (item,) = items
    return item


def _add(sums: dict[str, float], counted: Tensor, logps: LogProbs, output: ObjectiveOutput) -> None:
    """Add a pack's metrics, every counted pair once, by the names that TRL gives them."""
    values = {
        "lengths/chosen": logps.chosen_length,
        "lengths/rejected": logps.rejected_length,
        "logps/chosen": logps.policy_chosen,
        "logps/rejected": logps.policy_rejected,
        "rewards/chosen": output.chosen_reward,
        "rewards/rejected": output.rejected_reward,
        "margins": output.margin,
    }
    if output.margin is not None and output.rejected_reward is not None:
        values["rewards/margins"] = output.chosen_reward - output.rejected_reward
        values["rewards/accuracies"] = (output.margin > 0).double() + 0.5 * (output.margin == 0).double()
    for name, value in values.items():
        if value is not None:
            sums[name] += float(value.detach()[counted].double().sum())
    sums["count"] += float(counted.sum())


def _total(sums: dict[str, float]) -> dict[str, float]:
    parts = distributed.gather(dict(sums))
    return {name: sum(part.get(name, 0.0) for part in parts) for name in {key for part in parts for key in part}}


def _means(sums: dict[str, float]) -> dict[str, float]:
    count = sums.pop("count", 0.0)
    return {name: value / count for name, value in sorted(sums.items()) if count}
