"""The sections rlhf and training as settings of TRL, and what a configuration refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import tiny
from rewarded import rlhf_config

from seralign.config import RlhfConfig, TrainingConfig, load_config, to_dict
from seralign.config.rlhf import BETAS, Method
from seralign.config.unread import check_read
from seralign.errors import ConfigError
from seralign.evaluation.judges import Verdict
from seralign.evaluation.scorer import make_scorer
from seralign.pipeline import train
from seralign.pipeline.checks import check_sections
from seralign.pipeline.rlhf_rewards import reward_scorers
from seralign.progress import say_once
from seralign.records import Prompt
from seralign.rlhf import versions
from seralign.rlhf.arguments import Batch, method_arguments, plan_batch
from seralign.rlhf.checks import check_rlhf
from seralign.rlhf.judged import JudgedReward
from seralign.rlhf.known_prompts import with_known_prompts
from seralign.rlhf.reward import RewardFunction, Rewards
from seralign.rlhf.train import kl_of
from seralign.rlhf.versions import check_trl
from seralign.runs.results import Results

TRAINING = TrainingConfig(batch_size=6, max_steps=5, learning_rate=3e-4, precision="float32", log_steps=7, save_steps=9)
HERE: tuple[Method, ...] = ("grpo", "rloo", "online_dpo")


def made(method: Method, training: TrainingConfig = TRAINING, **more: Any) -> Any:
    rlhf = RlhfConfig(method, "scorer", max_new_tokens=11, temperature=0.7, top_p=0.9, prompts_per_pass=3, **more)
    return method_arguments(rlhf, training, Batch(5, 3, 2), Path("unused"), seed=4, longest_prompt=20)


@pytest.mark.parametrize("method", HERE)
def test_settings_reach_trl(method: Method) -> None:
    found = made(method, beta=0.3)
    assert found.beta == 0.3
    assert (found.temperature, found.top_p) == (0.7, 0.9)
    assert (found.learning_rate, found.max_steps, found.logging_steps, found.save_steps) == (3e-4, 5, 7, 9)
    assert (found.gradient_accumulation_steps, found.seed, found.bf16) == (2, 4, False)
    assert found.gradient_checkpointing is False
    assert found.disable_dropout is True
    assert made(method).beta == BETAS[method]


@pytest.mark.parametrize(("method", "samples"), [("grpo", 8), ("rloo", 4)])
def test_responses_of_a_prompt_are_in_one_pass(method: Method, samples: int) -> None:
    found = made(method)
    assert (found.num_generations, found.max_completion_length) == (samples, 11)
    assert found.per_device_train_batch_size == 3 * samples
    # Two passes of three prompts are a step, and the responses of a step are sampled together.
    assert (found.generation_batch_size, found.steps_per_generation) == (6 * samples, 2)
    assert made(method, samples=5).num_generations == 5


def test_online_dpo_does_not_cut_prompts() -> None:
    found = made("online_dpo")
    assert (found.max_new_tokens, found.max_length, found.per_device_train_batch_size) == (11, 31, 3)
    assert found.dataloader_drop_last


def test_extra_is_of_the_method() -> None:
    assert made("grpo", extra={"loss_type": "dr_grpo", "epsilon": 0.3}).loss_type == "dr_grpo"
    assert made("online_dpo", extra={"missing_eos_penalty": 2.0}).missing_eos_penalty == 2.0


@pytest.mark.parametrize(
    ("method", "extra", "message"),
    [
        ("rloo", {"delta": 0.1}, "rlhf.extra.delta: RLOOConfig of TRL has no such setting"),
        ("grpo", {"beta": 0.1}, "rlhf.extra.beta: seralign sets this itself"),
        ("grpo", {"reward_weights": [1.0]}, "rlhf.extra.reward_weights: seralign sets this itself"),
        ("grpo", {"adam_beta2": 0.9}, "set training.extra.adam_beta2"),
        ("grpo", {"epsilon": "much"}, "rlhf.extra.epsilon must be a number, got 'much'"),
        ("grpo", {"num_iterations": 2.5}, "rlhf.extra.num_iterations must be a whole number, got 2.5"),
        ("online_dpo", {"loss_type": 3}, "rlhf.extra.loss_type must be text, got 3"),
        # What TRL itself refuses: in its settings, as it makes the trainer, and in the first step.
        ("rloo", {"cache_implementation": "none"}, r"rlhf\.extra\.cache_implementation: TRL refuses 'none': .*dynamic"),
        ("grpo", {"epsilon": 0.3, "loss_type": "foo"}, r"rlhf\.extra\.loss_type: TRL refuses 'foo': Unknown loss type: "
         r"foo; allowed: 'grpo', 'dr_grpo', .*, and 'vespo'$"),
        ("rloo", {"num_iterations": 0}, r"rlhf\.extra\.num_iterations: TRL refuses 0: the trainer takes no step$"),
        ("online_dpo", {"loss_type": "foo"}, r"rlhf\.extra\.loss_type: TRL refuses 'foo': .*; allowed: sigmoid, ipo$"),
    ],
)  # fmt: skip
def test_other_extras_are_errors(
    monkeypatch: pytest.MonkeyPatch, method: Method, extra: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr("seralign.rlhf.checks._ROWS", 8)
    with pytest.raises(ConfigError, match=message):
        check_rlhf(RlhfConfig(method, "scorer", extra=extra), TRAINING)


def test_token_ids_that_only_the_policy_has_are_no_error() -> None:
    extra = {"steps_per_generation": 6, "generation_kwargs": {"bad_words_ids": [[128000]]}}
    check_rlhf(RlhfConfig("grpo", "scorer", extra=extra), TRAINING)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"training__tokens_per_pack": 200},
            r"training\.tokens_per_pack: it packs pairs, .* set rlhf\.prompts_per_pass",
        ),
        ({"scoring__ensemble_weight": 0.5}, r"scoring\.ensemble_weight: it is for rounds of pairs, and rlhf has none"),
        ({"stop__metric": "win_rate"}, r"stop\.metric: it is for rounds of pairs, and rlhf has none"),
        ({"data__keep_columns": ["who"]}, r"data\.keep_columns: it is of data\.pairs, which are not given"),
        ({"rlhf__method": "ppo", "training__save_steps": 7}, r"training\.save_steps: ppo of TRL saves no checkpoints"),
    ],
)
def test_keys_that_a_run_would_not_read_are_errors(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    method = keys.pop("rlhf__method", "grpo")
    with pytest.raises(ConfigError, match=f"^{message}"):
        check_sections(rlhf_config(tmp_path / "world", tmp_path / "run", method, **keys))


def test_a_printed_configuration_is_read(tmp_path: Path) -> None:
    """It has all defaults, also of keys that the run does not read."""
    config = rlhf_config(tmp_path / "world", tmp_path / "run", stop__metric="never")
    check_read(load_config(None, to_dict(config.resolved())))


@pytest.mark.parametrize(("steps", "told"), [(4, True), (12, False)])
@pytest.mark.parametrize("varies", [False, True])
def test_a_reward_that_is_always_the_same_is_noticed(
    capsys: pytest.CaptureFixture[str], steps: int, told: bool, varies: bool
) -> None:
    """At the end of a short training, and after ten steps of a longer one."""
    tokenizer = tiny.make_tokenizer()

    def reward(prompts: list[str], responses: list[str]) -> np.ndarray:
        # Three times 0.1 have a standard deviation that rounds to more than 0.
        return np.array([0.1 + (varies and number == 2) for number in range(len(prompts))])

    function = RewardFunction(Rewards("same", reward, {}), tokenizer, frozenset({0}))
    says = "rlhf.reward: same gave all responses to a prompt the same reward, in each of"
    for step in range(1, steps + 1):
        function(["p"] * 3, [[3]] * 3)
        if step == 10 and not varies:
            with pytest.raises(ConfigError, match=rf"^{says} 10 batches, so there is nothing to learn; give another"):
                function.check(step, steps)
            return
        function.check(step, steps)
    assert (f"warning: {says} 4 batches" in capsys.readouterr().err) == (told and not varies)
    assert function.says_nothing == (not varies)


def test_a_resumed_training_says_from_where_on_its_reward_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    def same(prompts: list[str], responses: list[str]) -> np.ndarray:
        return np.ones(len(prompts))

    function = RewardFunction(Rewards("same", same, {}), tiny.make_tokenizer(), frozenset({0}))
    for step in (11, 12):
        function(["p"] * 2, [[3]] * 2)
        function.check(step, 12)
    assert "in each of 2 batches since step 11, where the training was resumed" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_several_processes_are_one_error_of_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rank: int
) -> None:
    """Before they are a group: the first one says it, and the others end in good order."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", str(rank))
    with pytest.raises((ConfigError, SystemExit)) as ended:
        train(rlhf_config(tmp_path / "world", tmp_path / "run"))
    says = "rlhf: it runs in one process; start seralign without a launcher"
    assert ended.value.args == ((0,) if rank else (says,))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rounds": 2}, "rounds: rlhf trains once"),
        ({"objective__name": "ipo"}, "objective: rlhf trains on sampled responses by grpo"),
        ({"selection__fraction": 0.5}, "selection: it is for rounds of pairs"),
        ({"bootstrap__samples": 8}, "bootstrap: it is for rounds of pairs"),
        ({"scoring__min_accuracy": 0.5}, r"scoring\.min_accuracy: it is for rounds of pairs"),
        ({"scoring__length_correction": "balanced"}, r"scoring\.length_correction: it is for rounds of pairs"),
        ({"stop__patience": 2}, "stop: it is for rounds of pairs"),
        ({"training__average": 0.5}, "training.average: rlhf trains on sampled responses"),
        ({"training__eval_steps": 5}, "training.eval_steps: rlhf trains on sampled responses"),
        ({"evaluation__baseline": True}, "evaluation.baseline: rlhf"),
        ({"reference__sync_steps": 5}, "reference.sync_steps: rlhf"),
        ({"rlhf__prompts_per_pass": 3}, "rlhf.prompts_per_pass: 3 is no divisor of training.batch_size, 4"),
        ({"rlhf__reward": "judge"}, "rlhf.reward: judge is that of evaluation.judge, which is not set"),
        ({"rlhf__reward": "gold"}, "rlhf.reward must be reward_model:FOLDER, module:function, or scorer or judge"),
        ({"rlhf__track": ["judge"]}, r"rlhf.track\[0\] must be reward_model:FOLDER, module:function, or scorer"),
        ({"rlhf__track": ["rewarded:count"]}, "rlhf.track: rewarded:count is logged already"),
        ({"rlhf__samples": 1}, "rlhf.samples must be between 2 and 10000, got 1"),
        ({"rlhf__method": "online_dpo", "rlhf__samples": 4}, "rlhf.samples: online_dpo samples a fixed number"),
        ({"rlhf__method": "online_dpo", "rlhf__beta": 0.0}, "rlhf.beta: online_dpo"),
        ({"rlhf__method": "reinforce"}, "rlhf.method must be one of grpo, rloo, ppo, online_dpo, xpo, nash_md"),
        ({"data__prompts": None}, "data.prompts is missing: rlhf samples responses to prompts"),
    ],
)
def test_keys_that_a_method_does_not_honour_are_errors(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rlhf_config(tmp_path / "world", tmp_path / "run", **keys)


def test_a_run_without_scorer_has_no_reward_of_that_name() -> None:
    given = {"out": "x", "rounds": 1, "policy.model": "m", "data.prompts.path": "p.jsonl"}
    rlhf = {"method": "grpo", "reward": "rewarded:count", "track": ["scorer"]}
    config = load_config(None, given | {"rlhf": rlhf})
    with pytest.raises(ConfigError, match=r"rlhf.track\[0\]: scorer is that of evaluation.scorer, which is not set"):
        reward_scorers(config, None)
    own = make_scorer(lambda prompts, responses: [0.0], "own", "scorer")
    assert reward_scorers(config, own)["rlhf.track[0]"] is own


@pytest.mark.parametrize(
    ("method", "installed", "message"),
    [
        ("grpo", None, r"rlhf.method: grpo needs trl>=1.16,<2, and TRL is not installed; pip install 'trl>=1.16,<2'$"),
        ("ppo", "1.16.0", r"ppo needs trl==1.12.0, and TRL 1.16.0 is installed; pip install 'trl==1.12.0', in an env"),
        ("xpo", "1.14.0", r"xpo needs trl==1.12.0, and TRL 1.14.0 is installed"),
        ("rloo", "1.12.0", r"rloo needs trl>=1.16,<2, and TRL 1.12.0 is installed"),
        ("online_dpo", "1.17.0", r"online_dpo needs trl==1.16.\*, and TRL 1.17.0 is installed"),
    ],
)
def test_another_release_of_trl_is_one_error(
    monkeypatch: pytest.MonkeyPatch, method: Method, installed: str | None, message: str
) -> None:
    monkeypatch.setattr(versions, "installed_trl", lambda: installed)
    with pytest.raises(ConfigError, match=message):
        check_trl(method)


def test_an_epoch_has_the_whole_steps_of_the_prompts() -> None:
    rlhf = RlhfConfig("grpo", "scorer")
    assert plan_batch(rlhf, TrainingConfig(batch_size=4, epochs=1), 11) == Batch(2, 4, 1)
    assert plan_batch(rlhf, TrainingConfig(batch_size=4, epochs=2.5), 11) == Batch(5, 4, 1)
    with pytest.raises(ConfigError, match=r"training.batch_size: a step has 4 different prompts, and the data have 3"):
        plan_batch(rlhf, TrainingConfig(batch_size=4), 3)
    more = RlhfConfig("grpo", "scorer", prompts_per_pass=2, extra={"steps_per_generation": 6})
    assert plan_batch(more, TrainingConfig(batch_size=4, max_steps=3), 12) == Batch(3, 2, 2)
    with pytest.raises(ConfigError, match=r"^rlhf\.extra\.steps_per_generation: .* to 12 different prompts .* have 11"):
        plan_batch(more, TrainingConfig(batch_size=4, max_steps=3), 11)
    with pytest.raises(ConfigError, match=r"training.epochs: 0.2 of 11 prompts is less than a step of 4"):
        plan_batch(rlhf, TrainingConfig(batch_size=4, epochs=0.2), 11)


def test_known_prompts_have_the_tokens_of_the_run() -> None:
    tokenizer = tiny.make_tokenizer()
    given = with_known_prompts(tokenizer, {"w0 w1": [2, 3, 4], "w5": [8]}, frozenset({0}))
    # Ids that the tokenizer itself would not give, as of a template with a token at the start.
    assert tokenizer("w0 w1")["input_ids"] == [3, 4]
    assert given("w0 w1")["input_ids"] == [2, 3, 4]
    assert given(text=["w5", "w0 w1"])["input_ids"] == [[8], [2, 3, 4]]
    padded = given(
        text=["w5", "w0 w1"], return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
    )
    assert padded["input_ids"].tolist() == [[1, 1, 8], [2, 3, 4]]
    assert padded["attention_mask"].tolist() == [[0, 0, 1], [1, 1, 1]]
    assert given("w3")["input_ids"] == [6]
    assert given.decode([3, 4]) == "w0 w1"


class Longer:
    """Prefers the longer response; says nothing about one that is empty."""

    identity = "longer"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def judge(self, comparisons: Any) -> Any:
        for one in comparisons:
            self.asked.append((one.first, one.second))
            known = bool(one.first and one.second)
            yield one, Verdict(0.5 + 0.25 * np.sign(len(one.first) - len(one.second)) if known else None)


def test_a_judged_reward_is_the_mean_win_probability_within_a_prompt(tmp_path: Path) -> None:
    judge, prompts = Longer(), {text: Prompt(text, text, (1,)) for text in ("p", "q")}
    reward = JudgedReward(judge, Results(tmp_path / "results.sqlite"), prompts)
    # Of p: a beats nothing, bb beats a and ties with itself, which nobody is asked. Of q: nothing is known of "".
    found = reward(["p", "q", "p", "p", "q"], ["a", "ccc", "bb", "bb", ""])
    assert found.tolist() == [0.25, 0.5, 0.625, 0.625, 0.5]
    assert sorted(judge.asked) == [("a", "bb"), ("ccc", "")]
    judge.asked.clear()
    reward(["p", "p"], ["a", "bb"])
    assert judge.asked == []  # stored


def test_a_batch_without_a_verdict_teaches_nothing_and_does_not_end_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say_once.cache_clear()
    reward = JudgedReward(Longer(), Results(tmp_path / "results.sqlite"), {"p": Prompt("p", "p", (1,))})
    assert reward(["p", "p"], ["a", ""]).tolist() == [0.5, 0.5]
    assert "no verdict on some comparisons of sampled responses" in " ".join(capsys.readouterr().err.split())


class _Words:
    """Decodes a token as its number."""

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return " ".join(map(str, ids))


def _reward_of_tokens() -> RewardFunction:
    """The reward of a response is its first token; 0 ends it."""
    rewards = Rewards("first", lambda prompts, texts: np.array([float(text.split()[0]) for text in texts]), {})
    return RewardFunction(rewards, cast(Any, _Words()), frozenset({0}))


def test_a_resumed_training_is_not_judged_by_its_first_step() -> None:
    """Step 21 is the first of the process that resumes, and its one batch is constant."""
    reward = _reward_of_tokens()
    for step in range(21, 30):
        reward(["p", "p"], [[5], [5]])
        reward.check(step, 100)
    reward(["p", "p"], [[5], [5]])
    with pytest.raises(ConfigError, match="the same reward, in each of 10 batches"):
        reward.check(30, 100)


def test_single_responses_are_compared_over_batches() -> None:
    """Batches of one response each have no spread, but different rewards."""
    reward = _reward_of_tokens()
    for step, token in enumerate([5, 5, 5, 6, 5, 5, 5, 5, 5, 5], 1):
        assert reward([f"p{step}"], [[token, 0]]) == [token]
        reward.check(step, 10)
    assert reward.take() == {"rlhf/reward": 5.1, "rlhf/length": 2.0, "rlhf/unfinished": 0.0}
    constant = _reward_of_tokens()
    for step in range(1, 10):
        constant([f"p{step}", f"q{step}"], [[5], [5]])
        constant.check(step, 10)
    with pytest.raises(ConfigError, match="nothing to learn"):
        constant.check(10, 10)


def test_kl_is_of_a_response() -> None:
    assert kl_of({"kl": 0.2, "rlhf/length": 10.0}, RlhfConfig("grpo", "scorer")) == 2.0
    # beta times the log-ratios are 0.3 and 0.1; their mean over beta is 2.
    sides = {"rewards/chosen": 0.3, "rewards/rejected": 0.1}
    assert kl_of(sides, RlhfConfig("online_dpo", "scorer", beta=0.1)) == pytest.approx(2.0)
    assert kl_of({"objective/kl": 1.5}, RlhfConfig("ppo", "scorer")) == 1.5
    assert kl_of({"rlhf/length": 10.0}, RlhfConfig("grpo", "scorer", beta=0.0)) is None
