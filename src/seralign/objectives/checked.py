"""What an objective computes, checked: a class of the user's own may return anything."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from seralign.errors import ConfigError
from seralign.objectives.base import ResponseValues, StepValues, TokenValues, hard_labels, needs_of
from seralign.objectives.sums import ObjectiveSum, Term
from seralign.plugins import plugin_errors

if TYPE_CHECKING:
    from torch import Tensor


def term_key(objective: ObjectiveSum, place: int, section: str = "objective") -> str:
    """The configuration key that names a term."""
    return f"{section}.name" if len(objective.terms) == 1 else f"{section}[{place}].name"


def losses_of(term: Term, responses: ResponseValues, key: str) -> Tensor:
    """The losses [N] of N examples under a term.

    Args:
        term: The term.
        responses: Of N examples.
        key: The configuration key that names the term.

    Raises:
        ConfigError: the objective raised, or returned another shape (which would broadcast silently), half precision,
            or, from values with a gradient, losses without.
    """
    import torch

    with plugin_errors(key, term.name):
        losses: Any = term.objective.loss(responses)
        if not isinstance(losses, torch.Tensor):
            raise _wrong(term, key, f"must return a tensor, got {type(losses).__name__}")
        if losses.shape != (responses.examples,):
            raise _wrong(
                term, key, f"of {responses.examples} examples must have shape [{responses.examples}], "
                f"got {list(losses.shape)}",
            )  # fmt: skip
        if losses.dtype not in (torch.float32, torch.float64):
            raise _wrong(term, key, f"must be float32 or float64, got {str(losses.dtype).removeprefix('torch.')}")
        if responses.policy.requires_grad and torch.is_grad_enabled() and not losses.requires_grad:
            raise _wrong(term, key, "has no gradient with respect to responses.policy")
    return losses


def try_objective(objective: ObjectiveSum, section: str = "objective") -> None:
    """Compute every term of an objective on hand-made examples; if it takes rankings or scores, on ragged ones too; and
    if it joins demonstrations with pairs, on both together.

    Raises:
        ConfigError: a loss or a reward raised, is not finite, has another shape, or changed what it was given.
    """
    for place, term in enumerate(objective.terms):
        key = term_key(objective, place, section)
        _try(term, _examples(term, objective.uses_reference), key)
        if {"pair", "demonstration"} <= term.objective.forms and term.objective.reads == "all":
            _try(term, _joined(objective.uses_reference), key)
        ragged = sorted(term.objective.forms & {"ranking", "scores"})
        if ragged and term.objective.reads == "all":
            _try(term, _ragged(ragged[0], objective.uses_reference), key)


def _try(term: Term, responses: ResponseValues, key: str) -> None:
    import torch

    needs = needs_of(term.objective)
    if "state" in needs:
        with plugin_errors(key, term.name):
            own: Any = term.objective
            state = own.next_state(tuple(own.initial_state), replace(responses, policy=responses.policy.detach()))
            if not all(math.isfinite(number) for number in state) or len(state) != len(own.initial_state):
                raise _wrong(term, key, f"must be as many finite numbers as initial_state, got {state}", "next_state")
        responses = replace(responses, state=tuple(state))
    if needs & {"tokens", "collisions", "edits"}:
        responses = replace(responses, tokens=_tokens(responses))
    if "step" in needs:
        step = replace(responses, policy=responses.policy.detach(), state=())
        responses = replace(responses, step=StepValues(step, torch.arange(responses.examples)))
    given = {name: getattr(responses, name) for name in ("policy", "reference", "lengths", "example", "preference")}
    before = {name: value.detach().clone() for name, value in given.items() if value is not None}
    losses = losses_of(term, responses, key)
    if not bool(torch.isfinite(losses).all()):
        raise _wrong(term, key, f"must be finite, got {losses.tolist()}")
    with plugin_errors(key, term.name):
        (gradient,) = torch.autograd.grad(losses.sum(), responses.policy)
    if not bool(torch.isfinite(gradient).all()):
        raise _wrong(term, key, f"must have a finite gradient, got {gradient.tolist()}")
    tensors: list[Any] = [responses.policy.detach(), responses.reference, responses.lengths]
    arrays: list[Any] = [None if value is None else value.numpy() for value in tensors]
    count = len(responses.policy)
    for values in (tensors, arrays):
        with plugin_errors(key, term.name):
            reward: Any = term.objective.reward(*values)
        shape = getattr(reward, "shape", ())
        if tuple(shape) != (count,):
            raise _wrong(term, key, f"of {count} responses must have shape [{count}], got {list(shape)}", "reward")
        if not bool(torch.isfinite(torch.as_tensor(reward)).all()):
            raise _wrong(term, key, f"must be finite, got {reward.tolist()}", "reward")
    for name, value in before.items():
        if not torch.allclose(given[name].detach(), value, rtol=0, atol=0, equal_nan=True):
            raise ConfigError(f"{key}: {term.name} changes responses.{name} in place; make a new tensor instead")


def _examples(term: Term, uses_reference: bool) -> ResponseValues:
    """Three examples of a form that the term takes, with two responses each where it reads all."""
    import torch

    count = 3 if term.objective.reads == "first" else 6
    preferences = {"ranking": [1.0] * 3 + [2.0] * 3, "scores": [3.0, 1.5, 0.5, 1.0, 1.0, 0.0], "label": [1.0, 0.0] * 3}
    form = next(
        form for form in ("pair", "ranking", "scores", "label", "demonstration") if form in term.objective.forms
    )
    pair = [1.0, 1.0, 0.0, 0.0, 0.0, 1.0] if hard_labels(term.objective) else [1.0, 0.8, 0.6, 0.0, 0.2, 0.4]
    preference = preferences.get(form, pair)
    reference = torch.tensor([-12.0, -9.5, -20.0, -11.0, -14.0, -18.5])
    return ResponseValues(
        policy=torch.tensor([-10.0, -9.0, -21.0, -14.0, -13.0, -19.0])[:count].requires_grad_(),
        reference=reference[:count] if uses_reference else None,
        lengths=torch.tensor([5.0, 4.0, 7.0, 3.0, 6.0, 8.0])[:count],
        example=torch.arange(3).repeat(count // 3),
        preference=torch.tensor(preference)[:count],
        examples=3,
    )


def _joined(uses_reference: bool) -> ResponseValues:
    """A demonstration between two pairs."""
    import torch

    reference = torch.tensor([-12.0, -9.5, -20.0, -11.0, -18.5])
    return ResponseValues(
        policy=torch.tensor([-10.0, -9.0, -21.0, -14.0, -19.0]).requires_grad_(),
        reference=reference if uses_reference else None,
        lengths=torch.tensor([5.0, 4.0, 7.0, 3.0, 8.0]),
        example=torch.tensor([0, 1, 2, 0, 2]),
        preference=torch.tensor([1.0, math.nan, 1.0, 0.0, 0.0]),
        examples=3,
    )


def _ragged(form: str, uses_reference: bool) -> ResponseValues:
    """Three examples with 2, 4 and 3 responses; two responses of the last one are tied."""
    import torch

    preference = {"ranking": [2.0, 1.0, 1.0, 1.0, 2.0, 1.0, 3.0, 2.0, 4.0],
                  "scores": [0.0, 3.0, 1.0, 1.5, 2.0, 1.0, 0.5, 0.0, -1.0]}  # fmt: skip
    reference = torch.tensor([-12.0, -9.5, -20.0, -11.0, -14.0, -18.5, -9.0, -10.5, -17.0])
    return ResponseValues(
        policy=torch.tensor([-10.0, -9.0, -21.0, -14.0, -13.0, -19.0, -8.0, -11.0, -16.0]).requires_grad_(),
        reference=reference if uses_reference else None,
        lengths=torch.tensor([5.0, 4.0, 7.0, 3.0, 6.0, 8.0, 2.0, 4.0, 5.0]),
        example=torch.tensor([0, 1, 2, 0, 1, 2, 1, 2, 1]),
        preference=torch.tensor(preference[form]),
        examples=3,
    )


def _tokens(responses: ResponseValues) -> TokenValues:
    """Tokens that all have the same share of their response."""
    import torch

    counts = responses.lengths.long()
    policy, reference = (
        None if values is None else (values / responses.lengths).repeat_interleave(counts)
        for values in (responses.policy, responses.reference)
    )
    assert policy is not None
    edits = torch.arange(len(policy)).remainder(2).to(policy.dtype)
    return TokenValues(policy, reference, policy.detach() / 2, edits)


def _wrong(term: Term, key: str, what: str, of: str = "loss") -> ConfigError:
    return ConfigError(f"{key}: {term.name}: {of} {what}")
