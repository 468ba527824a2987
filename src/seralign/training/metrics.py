"""Metrics of training: of each example, and their means over packs and processes."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from torch import Tensor

from seralign import distributed
from seralign.objectives import Objective, ObjectiveSum, ResponseValues
from seralign.objectives.base import head_of, needs_of


class MetricSums:
    """Sums of losses and metrics over packs. They stay on the device until metrics are logged."""

    def __init__(self, objective: ObjectiveSum) -> None:
        self._weights = [term.weight for term in objective.terms]
        self._sums: defaultdict[str, Any] = defaultdict(float)

    def add(self, losses: list[Tensor], units: list[Tensor], counted: Tensor, metrics: dict[str, Tensor]) -> None:
        """Add a pack: the summed loss and the divisor of each term, and each metric [N] of the counted examples."""
        values = {name: value[counted].sum() for name, value in metrics.items()} | {"count": counted.sum()}
        for number, (loss, own) in enumerate(zip(losses, units, strict=True)):
            values |= {f"loss {number}": loss, f"units {number}": own}
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value

    def add_kind(self, kind: str, counted: Tensor, metrics: dict[str, Tensor]) -> None:
        """Add metrics [N] of the counted examples [N] of a pack as ``NAME/KIND``; their means are over these alone."""
        for name, value in metrics.items():
            self._sums[f"{name}/{kind}"] = self._sums[f"{name}/{kind}"] + value[counted].sum()
        self._sums[f"of {kind}"] = self._sums[f"of {kind}"] + counted.sum()

    def means(self) -> dict[str, float]:
        """Means over all examples (or tokens, the loss of ``sft``) of all processes."""
        parts = distributed.gather({name: float(value) for name, value in self._sums.items()})
        total = {name: sum(part.get(name, 0.0) for part in parts) for part in parts for name in part}
        loss = sum(
            weight * total.pop(f"loss {number}") / total.pop(f"units {number}")
            for number, weight in enumerate(self._weights)
        )
        count = total.pop("count")
        of = {name.removeprefix("of "): total.pop(name) for name in list(total) if name.startswith("of ")}
        counts = {name: of.get(name.rpartition("/")[2], count) for name in total}
        means = {name: value / counts[name] for name, value in total.items() if counts[name]}
        if "rewards/desirable" in means and "rewards/undesirable" in means:
            means["rewards/margins"] = means["rewards/desirable"] - means["rewards/undesirable"]
        return dict(sorted((means | {"loss": loss}).items()))


def example_metrics(objective: Objective, responses: ResponseValues, of_pairs: bool) -> dict[str, Tensor]:
    """Metrics of each example [N], by the names that TRL gives them; ``margins`` is h in nats, without beta.

    Examples other than pairs have no chosen and rejected response: where all their responses are read, the metrics are
    means over the responses of each.
    """
    if "mismatched" in needs_of(objective):
        return {}
    policy, lengths = responses.policy.detach(), responses.lengths
    reward = objective.reward(policy, responses.reference, lengths)
    sides = {"chosen": responses.first} if of_pairs or objective.reads == "first" else {"responses": responses.mean}
    if of_pairs and objective.reads == "all":
        sides["rejected"] = responses.second
    found = {}
    for side, of in sides.items():
        found[f"lengths/{side}"] = of(lengths)
        if head_of(objective) == "language_model":
            found[f"logps/{side}"] = of(policy)
        found[f"rewards/{side}"] = objective.beta * of(reward)
    if "rejected" in sides:
        found["margins"] = responses.first(reward) - responses.second(reward)
        found["rewards/margins"] = found["rewards/chosen"] - found["rewards/rejected"]
        # A tie is half right: at step 0 of a reference objective nothing is known, which is not 0% accuracy.
        found["rewards/accuracies"] = 0.5 * (1 + found["margins"].sign())
    return found


def add_metrics(
    sums: MetricSums,
    losses: list[Tensor],
    units: list[Tensor],
    counted: Tensor,
    objective: Objective,
    responses: ResponseValues,
    of_pairs: bool,
) -> None:
    """Add a pack with the metrics of its counted examples [N], labels and demonstrations by themselves.

    Args:
        sums: Where they are added.
        losses: The summed loss of each term.
        units: The divisor of each term.
        counted: Which examples count [N], bool.
        objective: Whose rewards are measured.
        responses: Of N examples.
        of_pairs: Whether all of them, in all packs, are pairs.
    """
    if of_pairs or objective.reads == "first" or not objective.forms & {"label", "demonstration"}:
        sums.add(losses, units, counted, example_metrics(objective, responses, of_pairs))
        return
    first = responses.first(responses.preference)
    if "label" in objective.forms:
        sums.add(losses, units, counted, example_metrics(objective, responses, of_pairs))
        kinds = {"desirable": first > 0.5, "undesirable": ~(first > 0.5)}
    else:
        shown = first.isnan()
        pairs = _pairs_alone(responses, ~shown)
        sums.add(losses, units, counted[~shown], example_metrics(objective, pairs, True))
        kinds = {"demonstrations": shown}
    metrics = _first_metrics(objective, responses)
    for kind, own in kinds.items():
        sums.add_kind(kind, counted & own, metrics)


def _pairs_alone(responses: ResponseValues, is_pair: Tensor) -> ResponseValues:
    """The pairs of a pack, without what a loss reads beside log-probabilities."""
    kept = is_pair[responses.example]
    reference = None if responses.reference is None else responses.reference[kept]
    number = is_pair.cumsum(0) - 1
    return ResponseValues(
        policy=responses.policy[kept],
        reference=reference,
        lengths=responses.lengths[kept],
        example=number[responses.example[kept]],
        preference=responses.preference[kept],
        examples=int(is_pair.sum()),
    )


def _first_metrics(objective: Objective, responses: ResponseValues) -> dict[str, Tensor]:
    """Metrics [N] of the first response of each example."""
    policy, lengths = responses.policy.detach(), responses.lengths
    reward = objective.beta * objective.reward(policy, responses.reference, lengths)
    values = {"lengths": lengths, "logps": policy, "rewards": reward}
    return {name: responses.first(value) for name, value in values.items()}
