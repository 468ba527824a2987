"""A class of the user's own as objective: what it may not be, and what it may not compute."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from seralign.config.objective import read_objective
from seralign.errors import ConfigError
from seralign.objectives import OBJECTIVES, one
from seralign.objectives.checked import try_objective

MODULE = """
from dataclasses import dataclass
from typing import ClassVar
import torch
from seralign.objectives import DPO

@dataclass(frozen=True)
class Mine(DPO):
{body}
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(body: str) -> str:
        name = f"objective_{abs(hash(body))}"
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        (tmp_path / f"{name}.py").write_text(MODULE.format(body=lines))
        return f"{name}:Mine"

    return write


def refused(name: str, settings: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        try_objective(read_objective({"name": name} | (settings or {})))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_objectives_of_the_library_pass(name: str) -> None:
    objective = one(name, OBJECTIVES[name]())
    try_objective(objective)
    assert objective == read_objective({"name": name})


def test_a_class_that_keeps_the_contract_passes(written: Any) -> None:
    objective = read_objective({"name": written("pass"), "beta": 0.3})
    try_objective(objective)
    assert objective.primary.beta == 0.3


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("unit: ClassVar = 'tokens'", ".unit must be 'example' or 'token', got 'tokens'"),
        ("reads: ClassVar = 'second'", ".reads must be 'all' or 'first', got 'second'"),
        ("uses_reference: ClassVar = 'no'", ".uses_reference must be True or False, got 'no'"),
        ("forms: ClassVar = frozenset({'pairs'})", ".forms must be a frozenset of pair, "),
        ("forms: ClassVar = ['pair']", ".forms must be a frozenset of pair, "),
        ("forms: ClassVar = None", ".forms must be a frozenset of pair, "),
        (
            "needs: ClassVar = frozenset({'batch'})",
            ".needs must be a frozenset of state, step, tokens, collisions, edits, mismatched, got",
        ),
        ("needs: ClassVar = frozenset({'state'})", ".needs has state, so it must have initial_state and next_state"),
        ("initial_state: ClassVar = 0.0", ".initial_state must be a tuple of numbers, got 0.0"),
        ("hard_labels: ClassVar = 'yes'", ".hard_labels must be True or False, got 'yes'"),
        ("weight: float = 3.0", " has a field weight, which is a key of objective itself"),
        ("def __post_init__(self): raise RuntimeError('post')", " failed: RuntimeError: post (objective_"),
    ],
)
def test_its_constants_are_checked_where_the_configuration_is_read(body: str, says: str, written: Any) -> None:
    name = written(body)
    with pytest.raises(ConfigError) as caught:
        read_objective({"name": name})
    assert str(caught.value).startswith(f"objective.name: {name}{says}")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("beta: float = -1\ndef __post_init__(self): pass", "objective.beta must be a number above 0"),
        ("beta: str = 'x'\ndef __post_init__(self): pass", "objective.beta must be a number above 0"),
        ("kept: object = object()", "objective.kept must be text, a number, "),
    ],
)
def test_its_defaults_are_checked(body: str, says: str, written: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{says}"):
        read_objective({"name": written(body)})


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ("loss[:, None]", "loss of 3 examples must have shape [3], got [3, 1]"),
        ("loss.mean()", "loss of 3 examples must have shape [3], got []"),
        ("loss[:-1]", "loss of 3 examples must have shape [3], got [2]"),
        ("None", "loss must return a tensor, got NoneType"),
        ("1", "loss must return a tensor, got int"),
        ("loss.detach()", "loss has no gradient with respect to responses.policy"),
        ("loss.half()", "loss must be float32 or float64, got float16"),
        ("loss * float('nan')", "loss must be finite, got [nan, nan, nan]"),
    ],
)
def test_a_loss_of_another_kind_is_refused(returned: str, says: str, written: Any) -> None:
    name = written(f"def loss(self, r):\n    loss = DPO.loss(self, r)\n    return {returned}")
    assert refused(name) == f"objective.name: {name}: {says}"


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ("(p - r).sum()", "loss of 3 examples must have shape [3], got []"),
        ("(p - r)[:, None]", "must have shape"),
        ("(p - r) * float('nan')", "must be finite"),
        ("torch.sub(p, r)", "failed: TypeError"),
    ],
)
def test_a_reward_of_another_kind_is_refused(returned: str, says: str, written: Any) -> None:
    message = refused(name := written(f"def reward(self, p, r, n): return {returned}"))
    assert message.startswith(f"objective.name: {name}")
    assert says.split(", got")[0] in message or "failed" in message


@pytest.mark.parametrize("forms", [("ranking",), ("pair", "ranking"), ("scores",), ("pair", "scores")])
def test_an_objective_that_takes_a_fixed_number_of_responses_is_refused(forms: tuple[str, ...], written: Any) -> None:
    head = f"forms: ClassVar = frozenset({set(forms)})\ndef loss(self, r):\n    "
    ragged = "rewards = self.reward(r.policy, r.reference, r.lengths)\n    "
    ragged += "return rewards.new_zeros(r.examples).index_add(0, r.example, rewards * r.preference)"
    try_objective(read_objective({"name": written(head + ragged)}))
    name = written(f"{head}return (r.policy * r.preference).reshape(2, r.examples).sum(0)")
    message = refused(name)
    assert message.startswith(f"objective.name: {name}")
    assert "shape '[2, 3]' is invalid for input of size 9" in message


def test_a_reward_of_another_shape_than_the_losses_read_is_refused(written: Any) -> None:
    body = "def reward(self, p, r, n): return (p - r).sum()\n"
    body += "def loss(self, r): return self.beta * (r.first(r.policy) - r.second(r.policy))"
    name = written(body)
    assert refused(name) == f"objective.name: {name}: reward of 6 responses must have shape [6], got []"


STATEFUL = "needs: ClassVar = frozenset({'state'})\ninitial_state: ClassVar = (0.0,)\n"


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ("(0.0, 1.0)", "next_state must be as many finite numbers as initial_state, got (0.0, 1.0)"),
        ("(float('nan'),)", "next_state must be as many finite numbers as initial_state, got (nan,)"),
    ],
)
def test_a_state_of_another_kind_is_refused(returned: str, says: str, written: Any) -> None:
    name = written(f"{STATEFUL}def next_state(self, state, step): return {returned}")
    assert refused(name) == f"objective.name: {name}: {says}"
    name = written(f"{STATEFUL}def next_state(self, state, step): return (state[0] + step.examples,)")
    try_objective(read_objective({"name": name}))


def test_an_error_of_its_own_is_shown_with_its_line(written: Any) -> None:
    name = written("def loss(self, r):\n    raise ZeroDivisionError('bad\\nline')")
    assert refused(name).startswith(f"objective.name: {name} failed: ZeroDivisionError: bad line (objective_")


def test_inputs_may_not_be_changed(written: Any) -> None:
    body = "def loss(self, r):\n    loss = DPO.loss(self, r)\n    r.preference.fill_(0.5)\n    return loss"
    name = written(body)
    assert refused(name) == (f"objective.name: {name} changes responses.preference in place; make a new tensor instead")


def test_the_place_in_a_list_is_named(written: Any) -> None:
    name = written("def loss(self, r): return None")
    with pytest.raises(ConfigError, match=r"^objective\[1\]\.name: .*loss must return a tensor"):
        try_objective(read_objective([{"name": "dpo"}, {"name": name, "weight": 0.5}]))
