"""Views of whole optimizer steps and running state, for objectives that read more than the examples of a pack."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainingArguments

from seralign import distributed
from seralign.objectives import ObjectiveSum, ResponseValues
from seralign.objectives.base import StatefulObjective, needs_of

_FILE = "objective_state.json"
_TENSORS = ("policy", "reference", "lengths", "example", "preference")


class RunningState(TrainerCallback):
    """The state of each term of an objective, carried from step to step.

    It is part of every checkpoint, so a resumed training goes the same way.

    Args:
        objective: Whose terms may need ``state``.
    """

    def __init__(self, objective: ObjectiveSum) -> None:
        self._objectives: list[Any] = [
            term.objective if "state" in needs_of(term.objective) else None for term in objective.terms
        ]
        self.states = [() if each is None else tuple(each.initial_state) for each in self._objectives]
        self._seen: list[ResponseValues] = []

    @property
    def carries(self) -> bool:
        """Whether a term has a state."""
        return any(each is not None for each in self._objectives)

    def see(self, responses: ResponseValues) -> None:
        """Count a pack of the step in."""
        self._seen.append(_plain(responses))

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        if not self.carries:
            return
        step = joined([part for parts in distributed.gather(self._seen) for part in parts])
        self._seen = []
        for place, objective in enumerate(self._objectives):
            if objective is not None:
                own: StatefulObjective = objective
                self.states[place] = tuple(map(float, own.next_state(self.states[place], step)))

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        if self.carries and distributed.is_main():
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            # JSON gives every digit of a float.
            (folder / _FILE).write_text(json.dumps(self.states), encoding="utf-8")

    def restore(self, checkpoint: Path) -> None:
        """Restore the states of a checkpoint."""
        file = checkpoint / _FILE
        if file.is_file():
            self.states = [tuple(state) for state in json.loads(file.read_text(encoding="utf-8"))]


@dataclass(frozen=True)
class StepView:
    """All examples of a step, and where those of each of its packs begin among them."""

    responses: ResponseValues
    begins: dict[int, int]

    def of(self, pack: int, examples: int, device: torch.device) -> tuple[ResponseValues, Tensor]:
        """The examples on a device, and where those of a pack are among them [N]. For a pack
        that does not count, the places are arbitrary: its loss is zero."""
        moved = {name: value.to(device) for name, value in _tensors(self.responses).items()}
        at = torch.arange(examples, device=device)
        return replace(self.responses, **moved), at + self.begins[pack] if pack in self.begins else at


def step_view(own: dict[int, ResponseValues]) -> StepView:
    """The view of a step from the packs of this process; every process calls it.

    Args:
        own: By its number, the values of each pack that counts.
    """
    packs: dict[int, ResponseValues] = {}
    for part in distributed.gather({number: _plain(values) for number, values in own.items()}):
        packs |= part
    order, begins, count = sorted(packs), dict[int, int](), 0
    for number in order:
        begins[number] = count
        count += packs[number].examples
    return StepView(joined([packs[number] for number in order]), begins)


def joined(parts: Sequence[ResponseValues]) -> ResponseValues:
    """The examples of several packs as one: first responses of all come first, then second ones, and so on."""
    offset, places, tensors = 0, [], []
    for part in parts:
        # A place ends where the number of the example does not rise.
        ends = torch.zeros_like(part.example)
        ends[1:] = (part.example[1:] <= part.example[:-1]).long()
        places.append(ends.cumsum(0))
        tensors.append(_tensors(replace(part, example=part.example + offset)))
        offset += part.examples
    order = torch.cat(places).argsort(stable=True)
    found = {name: torch.cat([each[name] for each in tensors])[order] for name in tensors[0]}
    return ResponseValues(
        found["policy"], found.get("reference"), found["lengths"], found["example"], found["preference"], offset
    )


def _tensors(responses: ResponseValues) -> dict[str, Tensor]:
    values = {field.name: getattr(responses, field.name) for field in fields(responses) if field.name in _TENSORS}
    return {name: value for name, value in values.items() if value is not None}


def _plain(responses: ResponseValues) -> ResponseValues:
    """Without gradient, in main memory, and without what the step itself gives."""
    moved = {name: value.detach().cpu() for name, value in _tensors(responses).items()}
    return replace(responses, **moved, state=(), step=None, tokens=None)
