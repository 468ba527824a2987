"""Triple preference optimization: worked by hand, once more in float64, as TRL has it, and on data that it needs."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seralign.errors import ConfigError
from seralign.objectives import OBJECTIVES, TPO, NormalizedTPO, ResponseValues, one
from seralign.objectives.checked import try_objective

Row = list[tuple[float, int, int]]
HAND: Row = [(-6.0, 3, 1), (-10.0, 5, 2), (-14.0, 4, 3)]


def ranked(rows: list[Row]) -> ResponseValues:
    """Examples of responses with log pi, tokens and a rank each."""
    at = sorted((place, row) for row, own in enumerate(rows) for place in range(len(own)))
    policy, lengths, ranks = zip(*(rows[row][place] for place, row in at), strict=True)
    return ResponseValues(
        policy=torch.tensor(policy, dtype=torch.float64),
        reference=None,
        lengths=torch.tensor(lengths, dtype=torch.float64),
        example=torch.tensor([row for _, row in at]),
        preference=torch.tensor(ranks, dtype=torch.float64),
        examples=len(rows),
    )


@pytest.mark.parametrize(
    ("objective", "loss"), [(TPO(0.1), 2.513015), (TPO(0.1, 0.0), 0.513015), (NormalizedTPO(2.0, 0.5), 2.078889)]
)
def test_worked_by_hand_in_any_order(objective: TPO | NormalizedTPO, loss: float) -> None:
    for order in itertools.permutations(HAND):
        assert objective.loss(ranked([list(order)])).tolist() == [pytest.approx(loss, abs=1e-6)]


def test_the_gold_one_is_the_best_and_the_contrast_is_of_the_second_and_the_last() -> None:
    """Those in between are not read, a tie of the contrasted two is none, and the gradient has the paper's signs."""
    four: Row = [(-14.0, 4, 4), (-99.0, 9, 3), (-6.0, 3, 1), (-10.0, 5, 2)]
    tied: Row = [(-6.0, 3, 1), (-10.0, 5, 2), (-14.0, 4, 2)]
    responses = ranked([four, tied])
    responses.policy.requires_grad_()
    losses = TPO(0.1).loss(responses)
    assert losses.tolist() == pytest.approx([2.513015, 2.0], abs=1e-6)
    (gradient,) = torch.autograd.grad(losses.sum(), responses.policy)
    push = 0.1 / (1 + math.exp(0.4))
    # Place by place: rank 4, the tied row's best, rank 3, rank 2 of the tie, rank 1, rank 2 of the tie, rank 2.
    assert gradient.tolist() == pytest.approx([push, -1 / 3, 0.0, 0.0, -1 / 3, 0.0, -push])


ROW = st.lists(st.tuples(st.floats(-60, -0.1), st.integers(1, 9), st.integers(1, 4)), min_size=3, max_size=5)


@given(st.lists(ROW, min_size=1, max_size=4), st.sampled_from([0.0, 0.7]))
def test_once_more_in_float64(rows: list[Row], nll: float) -> None:
    both = ((TPO(0.3, nll), 0.3, 0.0, 0), (NormalizedTPO(2.5, 0.4, nll), 2.5, 0.4, 1))
    for objective, beta, target, by_token in both:
        expected = []
        for row in rows:
            best, second, *_, last = sorted(row, key=lambda response: response[2])
            z = beta * (second[0] / second[1] ** by_token - last[0] / last[1] ** by_token) - target
            contrast = 0.0 if second[2] == last[2] else math.log1p(math.exp(-abs(z))) + max(-z, 0.0)
            expected.append(contrast - nll * best[0] / best[1])
        assert objective.loss(ranked(rows)).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("objective", "theirs"),
    [
        (TPO(0.2, 0.7), {"loss_type": "sigmoid", "beta": 0.2, "tpo_alpha": 0.7}),
        (NormalizedTPO(3.0, 0.4, 1.3), {"loss_type": "tpo-l", "beta": 3.0, "tpo_l_gamma": 0.4, "tpo_alpha": 1.3}),
    ],
)
@pytest.mark.filterwarnings("ignore")  # TRL calls its experimental part unstable
def test_equals_trl(objective: TPO | NormalizedTPO, theirs: dict[str, Any]) -> None:
    """Value and gradient of ``TPOTrainer._compute_loss`` on random logits of one triple, whose NLL has one mean."""
    from trl.experimental.tpo.tpo_trainer import TPOTrainer

    torch.manual_seed(0)
    prompt, lengths = 2, [5, 4, 3]  # chosen, rejected, reference
    ids = torch.randint(0, 11, (3, prompt + max(lengths)))
    mask = torch.tensor([[0] * prompt + [1] * length + [0] * (5 - length) for length in lengths])
    logits = torch.randn(3, ids.shape[1], 11).requires_grad_()

    def model(**_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=logits)

    same: Any = lambda value: value  # noqa: E731
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True), tpo_l_gamma=0.0, label_smoothing=0.0, _total_train_tokens=0,
        accelerator=SimpleNamespace(gather_for_metrics=same, gather=same), _tp_size=1,
        _metrics=defaultdict(lambda: defaultdict(list)),
    )  # fmt: skip
    trainer.__dict__.update(theirs)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": mask}
    loss = TPOTrainer._compute_loss(trainer, model, batch, False)  # type: ignore[arg-type]
    (expected,) = torch.autograd.grad(loss, logits)

    tokens = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0] * mask[:, 1:]
    policy: Tensor = tokens.sum(dim=1)
    responses = ResponseValues(
        policy, None, torch.tensor(lengths), torch.tensor([0, 0, 0]), torch.tensor([2.0, 3.0, 1.0]), 1
    )
    ours = objective.loss(responses).sum()
    torch.testing.assert_close(ours.detach(), loss.detach(), rtol=1e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(ours, logits)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)
    assert expected.abs().max() > 1e-2


@pytest.mark.parametrize("name", ["tpo", "tpo_l"])
def test_it_can_be_tried_before_there_are_data(name: str) -> None:
    try_objective(one(name, OBJECTIVES[name]()))
    for key in ("beta", "nll_weight"):
        with pytest.raises(ConfigError, match=key):
            OBJECTIVES[name](**{key: -1.0})
