"""Judges that score with models in this process, against transformers and against the formula."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import AutoModelForSequenceClassification, GenerationConfig

from seralign.config import PolicyConfig
from seralign.errors import ConfigError, DataError, ModelError
from seralign.evaluation.judges import Comparison, make_judge, scoring
from seralign.evaluation.win_rates import decide
from seralign.policy.load import load_model
from seralign.records import Prompt
from seralign.rewards.texts import scored_tokens
from seralign.runs.results import Results

TEXTS = [("w1 w2", "w3"), ("w4", "w5 w6 w7"), ("w3", "w1 w2"), ("w8 w9", "w10")]
COMPARISONS = [
    Comparison(Prompt(str(at % 2), f"w2{at % 2} w3 ", (1,)), first, second) for at, (first, second) in enumerate(TEXTS)
]


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Results]:
    with closing(Results(tmp_path / "results.sqlite")) as found:
        yield found


def ids(text: str) -> list[int]:
    return [3 + int(word[1:]) for word in text.split()]


def with_tokenizer(folder: Path) -> None:
    tiny.make_tokenizer().save_pretrained(folder)


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward")
    torch.manual_seed(0)
    settings = tiny.make_model("llama").config
    settings.num_labels, settings.pad_token_id = 1, tiny.PAD
    AutoModelForSequenceClassification.from_config(settings).save_pretrained(folder)
    with_tokenizer(folder)
    return folder


def test_a_reward_model_scores_as_transformers_does(reward_model: Path, results: Results) -> None:
    model: Any = AutoModelForSequenceClassification.from_pretrained(reward_model).eval()

    def reward(prompt: str, response: str) -> float:
        tokens = torch.tensor([[*ids(prompt), *ids(response), tiny.EOS]])
        with torch.no_grad():
            return float(model(input_ids=tokens).logits)

    options = {"model": str(reward_model), "tokens_per_pack": 12}
    verdicts = decide(make_judge("reward_model", options, None, results=results), COMPARISONS, results, "a against b")
    for one, verdict in zip(COMPARISONS, verdicts, strict=True):
        first, second = reward(one.prompt.text, one.first), reward(one.prompt.text, one.second)
        assert verdict.scores == (pytest.approx(first, abs=1e-5), pytest.approx(second, abs=1e-5))
        assert verdict.first_better == pytest.approx(1 / (1 + math.exp(second - first)), abs=1e-5)
    signs = make_judge("reward_model", {**options, "probability": "sign"}, None, results=results)
    hard = decide(signs, COMPARISONS, results, "a against b")
    assert [one.first_better for one in hard] == [float((one.first_better or 0) > 0.5) for one in verdicts]


def test_stored_scores_need_no_model(reward_model: Path, results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"model": str(reward_model)}
    list(make_judge("reward_model", options, None, results=results).judge(COMPARISONS))
    monkeypatch.setattr(scoring, "load_model", None)
    other = make_judge("reward_model", {**options, "probability": "sign"}, None, results=results)
    assert {verdict.first_better for _, verdict in other.judge(COMPARISONS[:3])} <= {0.0, 1.0}


def test_the_implicit_reward_is_beta_times_the_log_ratio(tmp_path: Path, results: Results) -> None:
    base = tiny.save_model(tmp_path / "base", "llama")
    with_tokenizer(tmp_path / "base")
    adapter = tiny.save_adapter(tmp_path / "adapter", base, seed=1)
    policy, reference = (load_model(source, PolicyConfig(), "float32") for source in (adapter, base))
    options = {"policy": str(tmp_path / "adapter"), "reference": str(tmp_path / "base"), "beta": 0.5}
    verdicts = decide(make_judge("implicit", options, None, results=results), COMPARISONS, results, "a against b")

    def reward(prompt: str, response: str) -> float:
        pair = ids(prompt), [*ids(response), tiny.EOS]
        with torch.no_grad():
            return 0.5 * float(tiny.reference_logp(policy, *pair) - tiny.reference_logp(reference, *pair))

    for one, verdict in zip(COMPARISONS, verdicts, strict=True):
        first, second = reward(one.prompt.text, one.first), reward(one.prompt.text, one.second)
        assert abs(first - second) > 0.01
        assert verdict.scores == (pytest.approx(first, abs=1e-4), pytest.approx(second, abs=1e-4))
        assert verdict.first_better == pytest.approx(1 / (1 + math.exp(second - first)), abs=1e-4)
    assert (
        make_judge("implicit", options, None).identity != make_judge("implicit", {**options, "beta": 1}, None).identity
    )


def read(judge: Any, prompt: Prompt, response: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    (found,) = scored_tokens(judge._model.encoder, [scoring._example(judge._model, prompt, response)])
    return found


def test_conversations_are_read_as_in_training(reward_model: Path) -> None:
    """By the model's own template, which ends a turn with a token of its own, not the tokenizer's end token."""
    tokenizer = tiny.make_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}w40 {{ m.content }} {% else %}w41 {{ m.content }} w42 "
        "{% endif %}{% endfor %}{% if add_generation_prompt %}w41 {% endif %}"
    )
    before = make_judge("reward_model", {"model": str(reward_model)}, None).identity
    tokenizer.save_pretrained(reward_model)
    GenerationConfig(eos_token_id=ids("w42")).save_pretrained(reward_model)
    try:
        judge: Any = make_judge("reward_model", {"model": str(reward_model)}, None)
        assert judge.identity != before
        message = json.dumps([{"role": "user", "content": "w7"}])
        found = read(judge, Prompt("p", "<|user|> w7", (1,), messages=message), "w8")
        of_text = read(judge, Prompt("p", "w7", ()), "w8")
        of_read_text = read(judge, Prompt("p", "w7 ", (1,)), "w8")
        empty = read(judge, Prompt("p", "w7", ()), "")
    finally:
        with_tokenizer(reward_model)
        (reward_model / "generation_config.json").unlink()
    assert found == (tuple(ids("w40 w7 w41")), tuple(ids("w8 w42")))
    assert of_text == found, "a prompt that no policy has read is what a user says"
    assert of_read_text == (tuple(ids("w7")), (*ids("w8"), tiny.EOS))
    assert empty == (tuple(ids("w40 w7 w41")), (tiny.EOS,))


def test_a_template_that_fails_is_one_error(reward_model: Path) -> None:
    tokenizer = tiny.make_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('no conversations') }}"
    tokenizer.save_pretrained(reward_model)
    try:
        judge = make_judge("reward_model", {"model": str(reward_model)}, None)
        with pytest.raises(ModelError, match=r"fails for every conversation.*no conversations"):
            list(judge.judge([Comparison(Prompt("p", "w7", ()), "w8", "w9")]))
    finally:
        with_tokenizer(reward_model)


@pytest.mark.parametrize(
    ("difference", "rule", "p"),
    [(0.0, "sigmoid", 0.5), (math.log(3), "sigmoid", 0.75), (-math.log(3), "sigmoid", 0.25), (800.0, "sigmoid", 1.0),
     (-800.0, "sigmoid", 0.0), (0.1, "sign", 1.0), (-0.1, "sign", 0.0), (0.0, "sign", 0.5)],
)  # fmt: skip
def test_differences_become_probabilities(difference: float, rule: str, p: float) -> None:
    assert scoring.probability(difference, rule) == pytest.approx(p)


def test_what_is_no_reward_model_is_refused(tmp_path: Path) -> None:
    tiny.save_model(tmp_path / "base", "llama")
    key = r"^evaluation\.judge_options\."
    with pytest.raises(ModelError, match=rf"{key}model: .* has no score \(LlamaForCausalLM\); give a reward model"):
        make_judge("reward_model", {"model": str(tmp_path / "base")}, None)
    with pytest.raises(ModelError, match=rf"{key}model: "):
        make_judge("reward_model", {"model": str(tmp_path / "none" / "such")}, None)
    with pytest.raises(ModelError, match=rf"{key}policy: "):
        make_judge("implicit", {"policy": str(tmp_path / "none"), "reference": str(tmp_path / "base")}, None)
    with pytest.raises(ModelError, match=rf"{key}reference: "):
        make_judge("implicit", {"policy": str(tmp_path / "base"), "reference": str(tmp_path / "none")}, None)
    with pytest.raises(ConfigError, match=rf"{key}policy: .* is not a run .* so it has no round 1"):
        make_judge("implicit", {"policy": str(tmp_path / "base"), "round": 1}, None)
    with pytest.raises(ConfigError, match=rf"{key}reference is missing"):
        make_judge("implicit", {"policy": str(tmp_path / "base")}, None)
    with pytest.raises(ConfigError, match=rf"{key}betta: unknown key; did you mean evaluation\.judge_options\.beta\?"):
        make_judge("implicit", {"policy": "x", "reference": "x", "betta": 1.0}, None)


def test_a_response_that_is_too_long_is_one_error(reward_model: Path) -> None:
    judge = make_judge("reward_model", {"model": str(reward_model)}, None)
    long = Comparison(Prompt("p", "w1 ", (1,)), "w2 " * 100_000, "w3")
    with pytest.raises(DataError, match=r"response too long \(the model takes at most \d+ tokens"):
        list(judge.judge([long]))
