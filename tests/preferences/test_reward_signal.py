"""Labels by reward models: their scores, stored by content, of conversations and of plain prompts."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from reward_models import save_reward_model
from text_model import CHAT_TEMPLATE

from seralign.errors import ConfigError
from seralign.evaluation.scorer import load_scorer
from seralign.preferences.groups import Group
from seralign.preferences.opinions import Scored
from seralign.preferences.signals.reward_model import RewardModelSignal
from seralign.rewards.reward_model import RewardModel, open_reward_model
from seralign.runs.results import Results

PROMPT = [{"role": "user", "content": "Name a fruit."}]
ANSWERS = ("apple", "A stone!", "a pear, and an apple")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    return [str(save_reward_model(folder / str(seed), CHAT_TEMPLATE, seed)) for seed in (0, 1)]


def groups() -> list[Group]:
    """The same prompt as a conversation, and as what a user says."""
    return [Group("row 1", prompt, ANSWERS, {}) for prompt in (PROMPT, "Name a fruit.")]


def test_scores_are_means_less_the_penalty(models: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results(tmp_path / "results.sqlite")
    signal = RewardModelSignal(models, penalty=0.5)
    found = signal.ask(groups(), results)
    of_models = [open_reward_model(name, "key").score([tuple(PROMPT)] * 3, ANSWERS) for name in models]
    wanted = np.mean(of_models, axis=0) - 0.5 * np.std(of_models, axis=0)
    for opinion in found:
        assert isinstance(opinion, Scored)
        np.testing.assert_allclose(opinion.scores, wanted, rtol=1e-5, atol=1e-6)
    # Stored: the models are not asked again.
    monkeypatch.setattr(RewardModel, "score", lambda *_: pytest.fail("a model is asked"))
    assert RewardModelSignal(models, penalty=0.5).ask(groups(), results) == found
    results.close()


def test_a_scorer_reads_what_a_user_says_or_a_rendered_prompt(models: list[str]) -> None:
    spec, rendered = f"reward_model:{models[0]}", "<|user|>Name a fruit.</s><|assistant|>"
    said = load_scorer(spec, "scorer")
    read = load_scorer(spec, "evaluation.scorer", rendered=True)
    np.testing.assert_allclose(
        said(["Name a fruit."] * 3, list(ANSWERS)), read([rendered] * 3, list(ANSWERS)), rtol=1e-5, atol=1e-6
    )
    assert said.digest != read.digest


def test_a_system_message_and_earlier_turns_are_read(models: list[str], tmp_path: Path) -> None:
    """Columns of the prompt, as a conversation that holds them; without them the scores are others."""
    turns = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Yes?"}]
    before = [{"role": "system", "content": "Be brief."}, *turns]
    given = [
        Group("row 1", PROMPT, ANSWERS, {}, inputs={"system": "Be brief.", "history": turns}),
        Group("row 2", [*before, *PROMPT], ANSWERS, {}),
        Group("row 3", PROMPT, ANSWERS, {}),
    ]
    with closing(Results(tmp_path / "results.sqlite")) as results:
        columns, whole, alone = RewardModelSignal(models[:1]).ask(given, results)
    assert isinstance(columns, Scored)
    assert columns == whole
    assert isinstance(alone, Scored)
    assert not np.allclose(columns.scores, alone.scores)


def test_a_folder_with_new_weights_is_another_model(tmp_path: Path) -> None:
    place = tmp_path / "model"
    save_reward_model(place, CHAT_TEMPLATE, 0)
    with closing(Results(tmp_path / "results.sqlite")) as results:
        before = RewardModelSignal([str(place)]).ask(groups(), results)
        shutil.rmtree(place)
        save_reward_model(place, CHAT_TEMPLATE, 1)
        assert RewardModelSignal([str(place)]).ask(groups(), results) != before


def test_settings(models: list[str]) -> None:
    assert RewardModelSignal(models).identity.count("reward model ") == 2
    with pytest.raises(ConfigError, match="models must be at least one folder"):
        RewardModelSignal([])
    with pytest.raises(ConfigError, match="penalty must be 0 for a single model"):
        RewardModelSignal(models[:1], penalty=1.0)
