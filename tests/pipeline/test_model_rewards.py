"""Reward models in the rounds: in place of the implicit reward, mixed with it, and as the scorer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_run import small_config
from transformers import AutoModelForSequenceClassification

from seralign.config import ScoringConfig, WorldConfig
from seralign.data.table import read_table as read_examples
from seralign.errors import ConfigError, ModelError
from seralign.laboratory.world import make_world
from seralign.pipeline import RunResult, model_rewards, train
from seralign.policy.heads import REWARD
from seralign.policy.identity import PolicySource
from seralign.policy.load import end_tokens, load_model, load_tokenizer
from seralign.policy.quiet import quiet_transformers
from seralign.runs.files import read_table

SHORT: dict[str, Any] = {"rounds": 2, "sft": None, "evaluation__baseline": False, "evaluation__token_pairs": 0,
                         "training__max_steps": 2}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two random reward models with the tokenizer of the built-in world."""
    folder = tmp_path_factory.mktemp("models")
    make_world(WorldConfig(pairs=8, demonstrations=4, prompts=4, heldout=4), folder / "world")
    source = PolicySource(str(folder / "world" / "model"))
    config = small_config(folder / "x").policy
    for seed in (0, 1):
        torch.manual_seed(seed)
        model: Any = load_model(source, config, "float32", head=REWARD)
        tokenizer = load_tokenizer(source, config)
        tokenizer = REWARD.prepare(model, tokenizer, end_tokens(source, tokenizer))
        with quiet_transformers():
            model.save_pretrained(folder / str(seed))
        tokenizer.save_pretrained(folder / str(seed))
    return [str(folder / "0"), str(folder / "1")]


def rewards(folder: str, rows: list[tuple[list[int], list[int]]]) -> np.ndarray:
    """Rewards in float64, one sequence at a time, straight from transformers; every last token is read."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float64).eval()
    model.config.pad_token_id = None
    with torch.no_grad():
        return np.array([float(model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0, 0]) for prompt, ids in rows])


@pytest.fixture(scope="module")
def done(models: list[str], tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    scoring = {"reward": "model", "reward_models": models, "reward_penalty": 0.5, "dtype": "float32"}
    out = tmp_path_factory.mktemp("run") / "run"
    return train(small_config(out, **SHORT, scoring=scoring, evaluation__scorer=f"reward_model:{models[0]}"))


def test_pairs_are_selected_by_the_rewards_of_the_models(done: RunResult, models: list[str]) -> None:
    """The mean margin of both models less half of their standard deviation."""
    table = [dict(row) for row in read_examples(done.run.path("data", "pairs.arrow"))]
    of_models = []
    for folder in models:
        won, lost = (rewards(folder, [(row["prompt_ids"], row["response_ids"][at]) for row in table]) for at in (0, 1))
        of_models.append(won - lost)
    wanted = np.mean(of_models, axis=0) - 0.5 * np.std(of_models, axis=0)
    stored = read_table(done.run.path("round-2/select", "selection.parquet"))["margin"].to_numpy()
    np.testing.assert_allclose(stored, wanted, rtol=1e-3, atol=1e-4)


def test_candidates_are_compared_by_the_rewards_of_the_models(done: RunResult, models: list[str]) -> None:
    prompts = {row["prompt_id"]: row["ids"] for row in map(dict, read_examples(done.run.path("data", "prompts.arrow")))}
    candidates = read_table(done.run.path("round-2/sample", "candidates.parquet")).to_pylist()
    rows = [(prompts[row["prompt_id"]], row["ids"]) for row in candidates]
    of_models = [rewards(folder, rows) for folder in models]
    wanted = np.mean(of_models, axis=0) - 0.5 * np.std(of_models, axis=0)
    stored = read_table(done.run.path("round-2/bootstrap", "rewards.parquet"))["reward"].to_numpy()
    np.testing.assert_allclose(stored, wanted, rtol=1e-3, atol=1e-4)


def test_a_reward_model_scores_the_answers(done: RunResult, models: list[str]) -> None:
    samples = read_table(done.run.path("round-2/evaluate", "samples.parquet")).to_pylist()
    prompts = read_examples(done.run.path("data", "heldout_prompts.arrow"))
    ids = {row["prompt_id"]: row["ids"] for row in map(dict, prompts)}
    end = rewards_end(models[0])
    # The text of an answer has no BOS and no padding, and a cut answer is scored as if it had ended there.
    read = [[token for token in row["ids"] if token > 1 and token != end] for row in samples]
    rows = [(ids[row["prompt_id"]], [*own, end]) for row, own in zip(samples, read, strict=True)]
    np.testing.assert_allclose([row["score"] for row in samples], rewards(models[0], rows), rtol=1e-3, atol=1e-4)


def rewards_end(folder: str) -> int:
    from transformers import AutoTokenizer

    found: Any = AutoTokenizer.from_pretrained(folder).eos_token_id
    return found


def test_the_models_are_inputs_of_the_stages(done: RunResult) -> None:
    for stage in ("round-2/select", "round-2/bootstrap"):
        inputs = done.run.record(stage).inputs
        assert {"reward model 0", "reward model 1", "scoring.reward", "scoring.reward_penalty"} <= set(inputs)
    assert "reward model 0" not in done.run.record("round-2/score").inputs


def loop_of(rewards_of: list[list[float]], **scoring: Any) -> Any:
    """As much of a run as the functions read: its settings, and models that say these rewards."""
    config = SimpleNamespace(scoring=ScoringConfig(reward_models=["x"] * len(rewards_of), **scoring))
    return SimpleNamespace(config=config, reward_models=rewards_of, cache=None)


def test_mixed_rewards_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Implicit margins 2 and -2 have the deviation 2, those of the models 1 and 5 also 2."""
    monkeypatch.setattr(model_rewards, "model_rewards", lambda loop, _: [np.array(each) for each in loop.reward_models])
    ordering: Any = SimpleNamespace(margin=lambda values: values[:2] - values[2:])
    responses: Any = None
    loop = loop_of([[1.0, 5.0, 0.0, 0.0]], reward="mixed", reward_weight=0.25)
    found = model_rewards.offline_margins(loop, responses, ordering, np.array([2.0, -2.0]))
    assert found == pytest.approx([0.75 * 1 + 0.25 * 0.5, 0.75 * -1 + 0.25 * 2.5])
    # The candidates 0 and 1 answer one prompt, 2 and 3 another: differences of 1 from each mean, and of 2.
    loop = loop_of([[0.0, 4.0, 10.0, 14.0]], reward="mixed")
    groups, implicit = [[0, 1], [2, 3]], np.array([1.0, -1.0, 7.0, 5.0])
    found = model_rewards.candidate_rewards(loop, responses, groups, implicit)
    assert found == pytest.approx(0.5 * implicit / 1.0 + 0.5 * np.array([0.0, 4.0, 10.0, 14.0]) / 2.0)
    # Two models that disagree by 2 about the second one: a deviation of 1, of which the penalty takes half.
    loop = loop_of([[1.0, 1.0], [1.0, 3.0]], reward="model", reward_penalty=0.5)
    found = model_rewards.candidate_rewards(loop, responses, [[0, 1]], np.zeros(2))
    assert found == pytest.approx([1.0, 1.5])


def test_a_reward_model_of_another_tokenizer_is_refused(tmp_path: Path, models: list[str]) -> None:
    from reward_models import save_reward_model

    other = str(save_reward_model(tmp_path / "other"))
    scoring = {"reward": "model", "reward_models": [models[0], other], "dtype": "float32"}
    with pytest.raises(
        ModelError, match=rf"^scoring\.reward_models\[1\]: {other} has another tokenizer than the policy"
    ):
        train(small_config(tmp_path / "run", **SHORT, scoring=scoring))
    with pytest.raises(ModelError, match=rf"^evaluation\.scorer: {other} has another tokenizer than the policy"):
        train(small_config(tmp_path / "scored", **SHORT, evaluation__scorer=f"reward_model:{other}"))


@pytest.mark.parametrize(
    ("scoring", "says"),
    [
        ({"reward": "model"}, "scoring.reward: model needs reward_models"),
        ({"reward_models": ["x"]}, "scoring.reward_models are not read with reward: implicit"),
        ({"reward": "model", "reward_models": ["x"], "reward_penalty": 1.0}, "scoring.reward_penalty is of the disag"),
        (
            {"reward": "model", "reward_models": ["x"], "reward_weight": 0.3},
            "scoring.reward_weight is for reward: mixed",
        ),
    ],
)
def test_settings_that_would_not_be_read(tmp_path: Path, scoring: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        small_config(tmp_path, **SHORT, scoring=scoring)
    assert str(caught.value).startswith(says)


def test_one_round_ranks_nothing(tmp_path: Path) -> None:
    scoring = {"reward": "model", "reward_models": ["x"]}
    with pytest.raises(ConfigError, match=r"^scoring\.reward: model ranks pairs and answers in rounds after the first"):
        small_config(tmp_path, **SHORT | {"rounds": 1}, scoring=scoring)
