"""Exact KL: by hand from the models' own logits, and what it must agree with."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tiny
import torch

from seralign.studies.kl import best_of_kl, response_kls

SEQUENCES = [([5, 6, 7], [8, 9, 0]), ([3], [4]), ([10, 11], [12, 13, 14, 15, 0])]


def test_sums_the_kl_of_next_token_distributions_over_a_responses_positions() -> None:
    policy, reference = tiny.make_model("llama", 0), tiny.make_model("llama", 1)
    found = response_kls(policy, reference, SEQUENCES)

    for value, (prompt, response) in zip(found, SEQUENCES, strict=True):
        ids = torch.tensor([[*prompt, *response]])
        with torch.no_grad():
            own, other = (model(input_ids=ids).logits[0].double().log_softmax(-1) for model in (policy, reference))
        kl = sum(
            float((own[at].exp() * (own[at] - other[at])).sum())
            for at in range(len(prompt) - 1, len(prompt) + len(response) - 1)
        )
        assert value == pytest.approx(kl, rel=1e-4)
        assert value > 0.1


def test_company_changes_nothing() -> None:
    policy, reference = tiny.make_model("gpt2", 0), tiny.make_model("gpt2", 1)
    together = response_kls(policy, reference, SEQUENCES)

    alone = [response_kls(policy, reference, [sequence])[0] for sequence in SEQUENCES]
    np.testing.assert_allclose(together, alone, rtol=1e-4)


def test_a_policy_does_not_diverge_from_itself() -> None:
    model = tiny.make_model("llama", 0)

    assert response_kls(model, model, SEQUENCES).tolist() == [0.0, 0.0, 0.0]
    assert len(response_kls(model, model, [])) == 0


def test_its_mean_is_the_kl_that_all_responses_of_two_tokens_give() -> None:
    """E over responses of the sum over positions = sum over responses of pi (log pi - log pi_ref)."""
    policy, reference = tiny.make_model("llama", 2), tiny.make_model("llama", 3)
    prompt, size = [5, 6], len(tiny.VOCABULARY)
    responses = [[first, second] for first in range(size) for second in range(size)]
    ids = torch.tensor([[*prompt, *response] for response in responses])
    with torch.no_grad():
        logps = [
            (model(input_ids=ids).logits.double().log_softmax(-1)[:, 1:3].gather(2, ids[:, 2:, None])[..., 0].sum(1))
            for model in (policy, reference)
        ]
    own, other = (each.numpy() for each in logps)

    exact = float((np.exp(own) * (own - other)).sum())
    found = response_kls(policy, reference, [(prompt, response) for response in responses])
    assert float((np.exp(own) * found).sum()) == pytest.approx(exact, rel=1e-4)


def test_kl_of_the_best_of_some() -> None:
    assert best_of_kl(1) == 0.0
    assert best_of_kl(4) == pytest.approx(math.log(4) - 0.75)
