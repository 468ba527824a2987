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

    Everything but the loss and its metrics is ``transformers.Trainer``'s: optimizer, schedule, mixed precision,
    accumulation, checkpoints, resume, trackers, FSDP, DeepSpeed. The loss of a step is the mean over its pairs
    (tokens, for ``sft``), each times its weight relative to the table's mean weight, whatever the packing, the
    accumulation and the number of processes.

    Args:
        objective: The loss.
        kwargs: As for ``Trainer``; ``train_dataset`` and ``eval_dataset`` are a
            ``seralign.training.batches.PackDataset`` each, the batch size of ``args`` is 1 (one pack).
    """

    def __init__(self, objective: Objective, **kwargs: Any) -> None:
        super().__init__(data_collator=_only, **kwargs)
        self.objective = objective
        self.loss_is_scaled_for_ga = True
        self._sums = _Sums()

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This pack's share of the step's loss. Processes' gradients are averaged, hence the factor."""
        loss = self._pack(model, inputs, self._sums) / inputs["denominator"] * distributed.world_size()
        return (loss, {}) if return_outputs else loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Loss and metrics on the held-out packs, over all processes, each pair counted once."""
        packs: PackDataset = self.eval_dataset if eval_dataset is None else eval_dataset  # pyright: ignore
        model: Any = self.model
        was_training = model.training
        model.eval()
        sums = _Sums()
        for start in range(0, len(packs), distributed.world_size()):
            at = start + distributed.rank()
            inputs = self._prepare_inputs(packs[min(at, len(packs) - 1)])
            if at >= len(packs):  # processes that share one model (FSDP) must all run it equally often
                inputs["weight"] = torch.zeros_like(inputs["weight"])
            with torch.no_grad(), self.compute_loss_context_manager():
                self._pack(model, inputs, sums)
        model.train(was_training)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in sums.means().items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the metrics since the last line to a line of training."""
        if "loss" in logs:
            logs = logs | self._sums.means()
            self._sums = _Sums()
        super().log(logs, start_time)

    def _pack(self, model: nn.Module, inputs: dict[str, Tensor], sums: _Sums) -> Tensor:
        """The weighted loss of a pack, summed over its pairs."""
        logps = pack_logprobs(inputs, *forward_logps(model, inputs, self.objective.uses_rejected))
        output = self.objective.loss(logps)
        weight = inputs["weight"].to(output.loss.dtype)
        loss = (output.loss * weight).sum()
        counted = weight > 0
        units = (counted * logps.chosen_length if self.objective.unit == "token" else counted).sum()
        sums.add(loss.detach(), units, counted, _metrics(logps, output))
        return loss


class _Sums:
    """Sums of loss and metrics over packs, left on the device until a line of metrics is due."""

    def __init__(self) -> None:
        self._sums: defaultdict[str, Any] = defaultdict(float)

    def add(self, loss: Tensor, units: Tensor, counted: Tensor, metrics: dict[str, Tensor]) -> None:
        """Add a pack: its summed loss and what that is divided by, and each metric [N] of the counted pairs."""
        values = {name: value[counted].sum() for name, value in metrics.items()}
        for name, value in (values | {"loss": loss, "units": units, "count": counted.sum()}).items():
            self._sums[name] = self._sums[name] + value

    def means(self) -> dict[str, float]:
        """Means over all pairs (or tokens, the loss of ``sft``) of all processes."""
        parts = distributed.gather({name: float(value) for name, value in self._sums.items()})
        names = sorted({name for part in parts for name in part} - {"units", "count"})
        total = {name: sum(part.get(name, 0.0) for part in parts) for name in [*names, "units", "count"]}
        return {name: total[name] / total["units" if name == "loss" else "count"] for name in names}


def _only(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    (item,) = items
    return item


def _metrics(logps: LogProbs, output: ObjectiveOutput) -> dict[str, Tensor]:
    """Metrics of each pair [N], by the names that TRL gives them; ``margins`` is h in nats, without beta."""
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
        # A tie is half right: at step 0 of a reference objective nothing is known, which is not 0% accuracy.
        values["rewards/accuracies"] = 0.5 * (1 + output.margin.sign())
    return {name: value.detach() for name, value in values.items() if value is not None}
