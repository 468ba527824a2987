"""Trainings that cannot be as they were asked for are refused before anything is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_run import small_config
from text_model import save_text_model
from transformers import AutoTokenizer

import seralign
from seralign.errors import ConfigError, DataError, ModelError, SeralignError, StoreError


@pytest.mark.parametrize("section", ["training", "sft"])
def test_a_tracker_is_refused_before_the_run_has_a_folder(section: str, tmp_path: Path):
    run = small_config(tmp_path / "run", **{f"{section}__report_to": ["nosuch"]})

    with pytest.raises(ConfigError, match=rf"^{section}\.report_to: nosuch cannot be used"):
        seralign.train(run)
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore:Both num_training_steps and num_stable_steps:UserWarning")
def test_a_training_that_cannot_move_ends_a_run_before_a_model_runs(tmp_path: Path):
    never = {"lr_scheduler_kwargs": {"num_decay_steps": 0, "num_stable_steps": 0}}
    run = small_config(
        tmp_path / "run", training__schedule="warmup_stable_decay", training__warmup=0.0, training__extra=never
    )

    with pytest.raises(ConfigError, match=r"^training\.schedule: all 4 steps have a learning rate of 0"):
        seralign.train(run)
    assert not list((tmp_path / "run").glob("sft*"))


def text_config(tmp_path: Path, **overrides: Any) -> dict[str, Any]:
    """A run of a step on rows of a file."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"prompt": "Say {n}. ", "good": "{n}", "bad": "No."}}\n' for n in range(1, 5)))
    return {
        "out": str(tmp_path / "run"), "rounds": 1, "policy.model": str(tmp_path / "model"),
        "data": {"pairs": {"path": str(rows), "columns": {"chosen": "good", "rejected": "bad"}}, "max_length": 32},
        "training": {"max_steps": 1, "learning_rate": 1e-3}, "evaluation": {"prompts": 0, "token_pairs": 0},
        "stop.metric": "never",
    } | overrides  # fmt: skip


def wider_tokenizer(folder: Path) -> Path:
    """The text model's tokenizer with a token that its embedding has no row for."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["Say"])
    tokenizer.save_pretrained(folder.parent / "wider")
    return folder.parent / "wider"


@pytest.mark.parametrize(
    ("mistake", "error", "message"),
    [
        ({"data.pairs.columns": {}}, DataError, "a pair needs chosen and rejected"),
        ({"data.max_length": 4096}, ConfigError,
         r"data\.max_length is 4096, but the model has \d+ positions; lower it$"),
        ({"rounds": 2, "bootstrap.max_new_tokens": 30}, ConfigError,
         r"bootstrap\.max_new_tokens is 30: with the longest prompt"),
        ({"policy.tokenizer": "wider"}, ModelError, "policy.tokenizer: the data has token"),
        ({"rounds": 2, "stop.metric": "win_rate", "bootstrap.max_new_tokens": 4,
          "evaluation": {"prompts": 1, "token_pairs": 0, "max_new_tokens": 4}}, ConfigError,
         r"stop\.metric: win_rate needs evaluation\.scorer"),
        ({"rounds": 2, "stop.metric": "margin_accuracy", "data.heldout_fraction": 0,
          "bootstrap.max_new_tokens": 4}, ConfigError, r"stop\.metric: margin_accuracy needs held-out pairs"),
        ({"objective.name": "objectives.own_objective:OfRankings"}, ConfigError,
         r"^objective\.name: objectives\.own_objective:OfRankings takes ranking, but data\.pairs has the form pair; "
         r"give an objective that takes pair \(dpo, cdpo, [a-z_, ]*, nll, sft, reward\), "
         r"or set data\.convert\.pair: ranking, or give other data as data\.pairs$"),
        ({"crossfit.folds": 4}, ConfigError,
         r"^crossfit\.folds: 4 folds of 3 different prompts; .* at most as many folds as prompts, or more data$"),
        ({"policy.dtype": "float16"}, ConfigError, r"^policy\.dtype: float16 weights cannot be trained.*policy\.lora"),
        ({"training.extra": {"fsdp": True}}, ConfigError,
         r"^training\.extra\.fsdp: training\.shard \(none, fsdp.*\) says how the model is divided; remove this key$"),
        ({"training.extra": {"deepspeed": "ds.json"}}, ConfigError, r"^training\.extra\.deepspeed: training\.shard "),
        ({"training.shard": "fsdp"}, ConfigError,
         r"^training\.shard: fsdp divides the model over several processes, and this is the only one; start them with"),
        ({"evaluation.scorer": "nosuch:score"}, ConfigError, r"evaluation\.scorer"),
        ({"reference.model": "nosuch/folder/here"}, ModelError, "nosuch/folder/here"),
        ({"scoring.cache": "/dev/null/logps.sqlite"}, SeralignError, "/dev/null"),
    ],
)  # fmt: skip
def test_a_mistake_leaves_the_folder_free(
    tmp_path: Path, mistake: dict[str, Any], error: type[Exception], message: str
) -> None:
    """The error says what would be right; the same command with it has to run."""
    save_text_model(tmp_path / "model", None)
    if "policy.tokenizer" in mistake:
        mistake = {"policy.tokenizer": str(wider_tokenizer(tmp_path / "model"))}
    config = text_config(tmp_path)
    with pytest.raises(error, match=message):
        seralign.train(seralign.load_config(None, config | mistake))
    assert not list((tmp_path / "run").rglob("stage.json"))
    assert seralign.train(seralign.load_config(None, config)).figures.policy == "round 1"


@pytest.mark.filterwarnings("ignore:Both num_training_steps and num_stable_steps:UserWarning")
def test_a_mistake_leaves_the_folder_of_a_world_free(tmp_path: Path) -> None:
    """The world is made before anything is read; its inputs say all that it depends on."""
    with pytest.raises(ConfigError, match=r"data\.max_length is 100000, but the model has"):
        seralign.train(small_config(tmp_path / "run", data__max_length=100000))
    made = (tmp_path / "run" / "world" / "stage.json").stat().st_mtime_ns
    never = {"training__schedule": "warmup_stable_decay", "training__warmup": 0.0}
    never["training__extra"] = {"lr_scheduler_kwargs": {"num_decay_steps": 0, "num_stable_steps": 0}}
    with pytest.raises(ConfigError, match=r"^training\.schedule: all 4 steps have a learning rate of 0"):
        seralign.train(small_config(tmp_path / "run", **never))
    assert (tmp_path / "run" / "world" / "stage.json").stat().st_mtime_ns == made
    with pytest.raises(StoreError, match="world was made from other inputs: world changed since"):
        seralign.train(small_config(tmp_path / "run", world={"pairs": 61}))


@pytest.mark.parametrize(
    "extra",
    [
        {"hub_token": "anything"},
        {"run_name": "hf_" + "aBcDeFgHiJkLmNoPqRsT"},
        {"lr_scheduler_kwargs": {"api_key": "12345"}},
        {"lr_scheduler_kwargs": {"names": ["a", "sk-" + "proj-0123456789abcdef"]}},
        {"logging_dir": "https://user:word@host/x"},
        {"run_name": "0123456789abcdef" * 2 + "01234567"},
        {"MY_PASSWORD": "x"},
        {"optim_args": "secret_value=1, github_pat_" + "a" * 30},
    ],
)
@pytest.mark.parametrize("section", ["training", "sft"])
def test_a_secret_is_refused_and_not_repeated(section: str, extra: dict[str, Any], tmp_path: Path):
    with pytest.raises(ConfigError, match=rf"^{section}\.extra\.[\w.\[\]]+: .*set it in the environment") as caught:
        small_config(tmp_path / "run", **{f"{section}__extra": extra})
    for value in ("anything", "hf_", "12345", "sk-", "word@", "abcdef01", "github_pat"):
        assert value not in str(caught.value).replace("HF_TOKEN", "")
