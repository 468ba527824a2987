"""Samples follow the policy's own distribution at the given temperature and nucleus, exactly."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from scipy.stats import chisquare
from torch import nn
from transformers import GenerationConfig

from seralign.config import PolicyConfig
from seralign.policy.load import load_model
from seralign.policy.sampling import SamplingParams, sample
from seralign.records import Candidate, Prompt

VOCABULARY = 6
END = frozenset({tiny.EOS})
SHORT, LONG = [4], [3, 5, 4, 4, 5, 3, 4]
DRAWS = 3000
# Of about 25 comparisons none fails by chance; a wrong temperature or nucleus gives far smaller values than this.
SMALLEST_P = 1e-5


def small(name: str = "llama", **settings: Any) -> nn.Module:
    """A model over six tokens, flat enough that every sequence of two is drawn."""
    return tiny.make_model(name, seed=3, vocab_size=VOCABULARY, initializer_range=0.15, **settings)


def draw(
    model: nn.Module, prompts: list[list[int]], end: frozenset[int] = END, seed: int = 0, **params: Any
) -> list[Candidate]:
    settings = SamplingParams(**{"samples": DRAWS, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 2} | params)
    given = [Prompt(str(number), "", tuple(ids)) for number, ids in enumerate(prompts)]
    return sample(model, tiny.make_tokenizer(VOCABULARY), given, settings, end, seed)


def next_probabilities(model: nn.Module, ids: list[int], temperature: float, top_p: float) -> np.ndarray:
    """[V] of the next token: softmax at the temperature, then the fewest tokens that hold ``top_p``."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1].double().numpy() / temperature
    whole = np.exp(logits - logits.max())
    whole /= whole.sum()
    kept = np.zeros(len(whole))
    mass = 0.0
    for token in np.argsort(-whole):
        if mass < top_p:
            kept[token] = whole[token]
            mass += whole[token]
    return kept / kept.sum()


def sequence_probabilities(
    model: nn.Module,
    prompt: list[int],
    temperature: float = 1.0,
    top_p: float = 1.0,
    end: frozenset[int] = END,
    length: int = 2,
) -> dict[tuple[int, ...], float]:
    """Every response that can be drawn, with its probability."""
    found: dict[tuple[int, ...], float] = {}
    open_ends: dict[tuple[int, ...], float] = {(): 1.0}
    for at in range(length):
        longer: dict[tuple[int, ...], float] = {}
        for ids, probability in open_ends.items():
            following = next_probabilities(model, [*prompt, *ids], temperature, top_p)
            for token in np.flatnonzero(following).tolist():
                done = token in end or at == length - 1
                (found if done else longer)[(*ids, token)] = probability * following[token]
        open_ends = longer
    assert sum(found.values()) == pytest.approx(1.0)
    return found


def assert_drawn_from(drawn: list[Candidate], probabilities: dict[tuple[int, ...], float]) -> None:
    counts = Counter(candidate.ids for candidate in drawn)
    assert counts.keys() <= probabilities.keys()
    rare = {ids for ids, probability in probabilities.items() if probability * len(drawn) < 8}
    observed = [counts[ids] for ids in probabilities if ids not in rare]
    expected = [probabilities[ids] * len(drawn) for ids in probabilities if ids not in rare]
    if rare:
        observed.append(sum(counts[ids] for ids in rare))
        expected.append(sum(probabilities[ids] for ids in rare) * len(drawn))
    assert len(observed) > 3
    assert chisquare(observed, expected).pvalue > SMALLEST_P


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_prompts_of_unequal_length_are_each_answered_from_their_own_distribution(name: str) -> None:
    model = small(name)
    drawn = draw(model, [SHORT, LONG])
    for number, prompt in enumerate((SHORT, LONG)):
        own = [candidate for candidate in drawn if candidate.prompt_id == str(number)]
        assert [candidate.index for candidate in own] == list(range(DRAWS))
        assert_drawn_from(own, sequence_probabilities(model, prompt))


def test_the_test_tells_distributions_apart() -> None:
    """At half the temperature, or for another prompt, the same draws are refused."""
    model = small()
    drawn = draw(model, [LONG])
    for other in (sequence_probabilities(model, LONG, temperature=0.5), sequence_probabilities(model, SHORT)):
        with pytest.raises(AssertionError):
            assert_drawn_from(drawn, other)


@pytest.mark.parametrize(("temperature", "top_p"), [(0.5, 1.0), (2.0, 1.0), (1.0, 0.7), (0.7, 0.9)])
def test_temperature_and_nucleus_are_honoured(temperature: float, top_p: float) -> None:
    model = small()
    drawn = draw(model, [LONG], temperature=temperature, top_p=top_p, max_new_tokens=3)
    assert_drawn_from(drawn, sequence_probabilities(model, LONG, temperature, top_p, length=3))


@pytest.mark.parametrize("adapter", [False, True])
def test_published_settings_do_not_leak_and_are_given_back(adapter: bool, tmp_path: Path) -> None:
    source = tiny.save_model(tmp_path / "model", seed=3, vocab_size=VOCABULARY, initializer_range=0.15)
    GenerationConfig(
        do_sample=True, top_k=1, temperature=0.1, repetition_penalty=9.0, top_p=0.1, no_repeat_ngram_size=1,
        suppress_tokens=[4], min_new_tokens=2, eos_token_id=3,
    ).save_pretrained(tmp_path / "model")  # fmt: skip
    if adapter:
        source = tiny.save_adapter(tmp_path / "adapter", source, r=2)
    model: Any = load_model(source, PolicyConfig(model="any"), "float32")
    inner = model.get_base_model() if adapter else model
    published = inner.generation_config
    before = published.to_dict()
    assert published.top_k == 1
    assert_drawn_from(draw(model, [SHORT]), sequence_probabilities(model, SHORT))
    assert inner.generation_config is published
    assert published.to_dict() == before


def test_published_settings_are_given_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = small()
    published = model.generation_config

    def fail(**kwargs: Any) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(model, "generate", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        draw(model, [SHORT])
    assert model.generation_config is published


def test_same_seed_same_responses_and_the_global_generator_is_left_alone() -> None:
    model = small()
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first = draw(model, [SHORT, LONG], samples=20, max_new_tokens=8, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert draw(model, [SHORT, LONG], samples=20, max_new_tokens=8, seed=5) == first
    assert draw(model, [SHORT, LONG], samples=20, max_new_tokens=8, seed=6) != first


def test_any_end_token_ends_a_response_and_is_its_last_id() -> None:
    model = small()
    end = frozenset({tiny.EOS, 4})
    drawn = draw(model, [SHORT, LONG], end=end, samples=300, max_new_tokens=5)
    lengths = Counter((candidate.finished, len(candidate.ids)) for candidate in drawn)
    assert {length for finished, length in lengths if finished} == {1, 2, 3, 4, 5}
    assert {length for finished, length in lengths if not finished} == {5}
    assert {candidate.ids[-1] for candidate in drawn if candidate.finished} == end
    for candidate in drawn:
        assert (candidate.ids[-1] in end) == candidate.finished
        assert not end & set(candidate.ids[:-1])
    assert_drawn_from(draw(model, [SHORT], end=end), sequence_probabilities(model, SHORT, end=end))


def test_text_is_the_decoded_response_without_special_tokens() -> None:
    for candidate in draw(small(), [SHORT], samples=50, max_new_tokens=4):
        words = [f"w{token - 3}" for token in candidate.ids if token >= 3]
        assert candidate.text.split() == words


def test_a_prompt_of_zeros_is_not_taken_for_padding() -> None:
    """Padding is zeros too: only the mask tells them apart."""
    model = small()
    prompt = [0, 0, 4]
    drawn = [candidate for candidate in draw(model, [prompt, LONG]) if candidate.prompt_id == "0"]
    assert_drawn_from(drawn, sequence_probabilities(model, prompt))
