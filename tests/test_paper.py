"""The configurations of ``configs/paper``: each runs end to end with tiny models and data in the real formats.

Only paths, steps and lengths are replaced.
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import tiny
import torch
import yaml
from text_model import save_text_model
from transformers import AutoModelForCausalLM

from seralign.cli.main import main
from seralign.config import load_config, to_dict
from seralign.config.evaluate import evaluate_config, load_evaluate_config
from seralign.errors import ConfigError
from seralign.evaluation.judges import make_judge
from seralign.pipeline import train
from seralign.policy.quiet import quiet_transformers
from seralign.report.figures import figures_json, run_figures
from seralign.runs import read_run

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "configs" / "paper"
NAMES = sorted(file.stem for file in FOLDER.glob("*.yaml"))
# The others run in ``make test-real``.
QUICK = {"ultrafeedback_sera_simpo", "hh_dpo", "tldr_sft"}
TEMPLATE = (FOLDER / "zephyr.jinja").read_text(encoding="utf-8")
ROWS, HELDOUT = 24, 6


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Say {text}."}, {"role": "assistant", "content": f"Here: {text}"}]


def ultrafeedback(number: int) -> dict[str, Any]:
    """A row of HuggingFaceH4/ultrafeedback_binarized."""
    chosen, rejected = _said(f"{number}"), _said(f"{number}")
    rejected[1] = {"role": "assistant", "content": f"No {number % 7}"}
    scores = {"score_chosen": 8.0, "score_rejected": 5.0}
    return {"prompt": chosen[0]["content"], "prompt_id": f"{number:064x}", "chosen": chosen, "rejected": rejected,
            "messages": chosen} | scores  # fmt: skip


def ultrachat(number: int) -> dict[str, Any]:
    """A row of HuggingFaceH4/ultrachat_200k."""
    messages = _said(f"{number}") + _said(f"{number + 1}")
    return {"prompt": messages[0]["content"], "prompt_id": f"{number:064x}", "messages": messages}


def hh(number: int) -> dict[str, Any]:
    """A row of Anthropic/hh-rlhf."""
    before = f"\n\nHuman: Hello {number}\n\nAssistant: Hi.\n\nHuman: Add {number} and 1\n\nAssistant:"
    return {"chosen": f"{before} It is {number + 1}.", "rejected": f"{before} I do not know."}


def tldr(number: int) -> dict[str, Any]:
    """A row of trl-lib/tldr."""
    return {"prompt": f"SUBREDDIT: r/x\n\nPOST: I ate {number} figs\n\nTL;DR:", "completion": f" Ate {number} figs"}


def tldr_preference(number: int) -> dict[str, Any]:
    """A row of trl-lib/tldr-preference."""
    row = tldr(number)
    return {"prompt": row["prompt"], "chosen": row["completion"], "rejected": " Figs were eaten by me, said I"}


MAKERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "HuggingFaceH4/ultrafeedback_binarized": ultrafeedback,
    "HuggingFaceH4/ultrachat_200k": ultrachat,
    "Anthropic/hh-rlhf": hh,
    "trl-lib/tldr": tldr,
    "trl-lib/tldr-preference": tldr_preference,
}
SPLITS = {"train_prefs": ROWS, "train_sft": ROWS, "train": ROWS}
ARCHITECTURES = {"hh": "gpt-neox", "tldr": "gpt-neox", "mistral": "mistral-full"}


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of data sets with the splits of the real ones, and of models."""
    folder = tmp_path_factory.mktemp("paper")
    splits = ("train_prefs", "test_prefs", "train_sft", "test_sft", "train", "test", "validation")
    for name, make in MAKERS.items():
        parts = {}
        for at, split in enumerate(splits):
            count = SPLITS.get(split, HELDOUT)
            parts[split] = datasets.Dataset.from_list([make(1000 * at + number) for number in range(count)])
        datasets.DatasetDict(parts).save_to_disk(folder / name)
    for architecture in ("llama", "gpt-neox", "mistral-full"):
        save_text_model(folder / architecture, None, architecture)
        _let_it_end(folder / architecture)
    return folder


def _let_it_end(folder: Path) -> None:
    """Raise the probability of the end token to a fifth, so that sampled responses end and make pairs."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        # The first channel is nearly constant, and only the end token's logit depends on it.
        model.get_input_embeddings().weight[:, 0] = 20.0
        head = model.get_output_embeddings().weight
        head[:, 0] = 0.0
        while model(torch.arange(3, 100)[None]).logits.softmax(-1)[0, :, tiny.EOS].mean() < 0.2:
            head[tiny.EOS, 0] += 0.05
    with quiet_transformers():
        model.save_pretrained(folder)


def overrides(name: str, out: Path, stand_ins: Path) -> dict[str, Any]:
    """Paths, steps and lengths of a small run."""
    config = load_config(FOLDER / f"{name}.yaml")
    found: dict[str, Any] = {
        "out": str(out), "policy.model": str(stand_ins / ARCHITECTURES.get(name.partition("_")[0], "llama")),
        "data.max_length": 160, "data.max_prompt_length": 130,
        "training.epochs": None, "training.max_steps": 2, "training.batch_size": 4, "training.save_steps": 2,
        "training.precision": "float32", "scoring.dtype": "float32",
        "evaluation.prompts": min(4, config.evaluation.prompts), "evaluation.max_new_tokens": 12,
        "evaluation.token_pairs": 2,
    }  # fmt: skip
    # Supervised starts bring their chat template with them.
    if config.policy.chat_template is not None or not name.startswith(("hh", "tldr")):
        found["policy.chat_template"] = TEMPLATE
    if config.rounds > 1:
        found |= {"bootstrap.max_new_tokens": 12, "bootstrap.prompts": 8}
    for key in ("pairs", "heldout", "demonstrations"):
        source = getattr(config.data, key)
        if source is not None:
            found[f"data.{key}.path"] = str(stand_ins / source.path)
    return found


RUNS = [name if name in QUICK else pytest.param(name, marks=pytest.mark.real) for name in NAMES]


@pytest.mark.parametrize("name", RUNS)
def test_it_runs_from_end_to_end(name: str, stand_ins: Path, tmp_path: Path) -> None:
    file = FOLDER / f"{name}.yaml"
    config = load_config(file, overrides(name, tmp_path / "run", stand_ins))
    result = train(config)
    figures = figures_json(run_figures(read_run(tmp_path / "run")))
    assert figures["finished"]
    assert [entry["round"] for entry in figures["rounds"]] == list(range(1, config.rounds + 1))
    assert AutoModelForCausalLM.from_pretrained(result.policy).num_parameters() > 0
    if not config.objective.compares:
        assert figures["data"]["sources"]["demonstrations" if "hh" not in name else "pairs"]["kept"] == ROWS
        return
    assert (figures["data"]["pairs"], figures["data"]["heldout"]) == (ROWS, HELDOUT)
    for entry in figures["rounds"][1:]:
        # 70% of 24 pairs; the paper's recipe fills up with generated ones.
        assert entry["select"]["kept"] == 17
        assert entry["compose"]["generated"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_keys_are_those_of_the_page(name: str) -> None:
    config = load_config(FOLDER / f"{name}.yaml")
    assert config.out == f"runs/paper/{name}"
    assert config.rounds == (3 if "sera" in name else 1)
    assert (config.policy.lora, config.policy.adapter) == (None, None), "full training"
    objective = next((term for term in ("dpo", "ipo", "slic", "simpo") if name.endswith(term)), "sft")
    assert config.objective.name == objective
    if "sera" in name:
        # A run of SeRA differs from its baseline in the rounds alone.
        base = to_dict(load_config(FOLDER / f"{name.replace('sera_', '')}.yaml"))
        own = to_dict(config)
        same = {key for key in own if own[key] == base[key]}
        assert {"policy", "data", "objective", "training", "selection", "evaluation"} <= same


def test_each_policy_is_a_supervised_start_or_public() -> None:
    for name in NAMES:
        model = str(load_config(FOLDER / f"{name}.yaml").policy.model)
        if model.startswith("runs/"):
            assert model == f"runs/paper/{name.partition('_')[0]}_sft/result"


# Rows of the files of prompts, in their formats.
PROMPTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "alpaca_eval": lambda at: {"dataset": "koala", "instruction": f"Say {at}.", "output": "x", "generator": "gpt4"},
    "vicuna": lambda at: {"question_id": at, "text": f"Say {at}.", "category": "generic"},
    "evol_instruct": lambda at: {"Idx": at, "Skill": "Math", "Difficulty": 1, "Instruction": f"Say {at}."},
}
EVALUATIONS = sorted(file.stem for file in (FOLDER / "evaluate").glob("*.yaml"))


def evaluated(name: str, folder: Path, stand_ins: Path, policies: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Run an evaluation with these policies and a scorer in place of the judge; returns its figures."""
    values = yaml.safe_load((FOLDER / "evaluate" / f"{name}.yaml").read_text(encoding="utf-8"))
    evaluate_config(values)
    assert set(values["policies"]) == set(policies)
    if name in PROMPTS:
        rows = [PROMPTS[name](number) for number in range(5)]
        file = folder / Path(values["prompts"]["path"]).name
        lines = json.dumps(rows) if file.suffix == ".json" else "\n".join(map(json.dumps, rows))
        file.write_text(lines, encoding="utf-8")
        values["prompts"]["path"] = str(file)
    else:
        values["prompts"] |= {"path": str(stand_ins / values["prompts"]["path"]), "limit": 5}
    for key in ("judge", "judge_options"):
        del values[key]
    values |= {"out": str(folder / "evaluation"), "policies": policies, "scorer": "lengths_of_answers:words"}
    values |= {"max_new_tokens": 8} | changes
    (folder / "lengths_of_answers.py").write_text("def words(prompts, answers):\n    return list(map(len, answers))\n")
    file = folder / "evaluate.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    assert main(["evaluate", str(file)]) in (0, None)
    return json.loads((folder / "evaluation" / "results.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "name", [name if name == "alpaca_eval" else pytest.param(name, marks=pytest.mark.real) for name in EVALUATIONS]
)
def test_evaluations_run(name: str, stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    models = {policy: tmp_path / policy for policy in ("sft", "dpo", "sera")}
    for seed, folder in enumerate(models.values()):
        save_text_model(folder, TEMPLATE)
        model: Any = AutoModelForCausalLM.from_pretrained(folder)
        torch.nn.init.normal_(model.lm_head.weight, std=0.3, generator=torch.Generator().manual_seed(seed))
        with quiet_transformers():
            model.save_pretrained(folder)
    figures = evaluated(name, tmp_path, stand_ins, {name: str(folder) for name, folder in models.items()})
    assert [(pair["policy"], pair["rival"], pair["comparisons"]) for pair in figures["pairs"]] == [
        ("dpo", "sft", 5), ("sera", "sft", 5),
    ]  # fmt: skip


@pytest.mark.real
def test_the_chain_of_ultrafeedback(stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start, baseline, SeRA and evaluation, each from the result of the one before."""
    monkeypatch.syspath_prepend(tmp_path)
    runs = {name: tmp_path / name for name in ("ultrafeedback_sft", "ultrafeedback_dpo", "ultrafeedback_sera_dpo")}
    for name, out in runs.items():
        changed = overrides(name, out, stand_ins)
        if name != "ultrafeedback_sft":
            # The template comes with the supervised start.
            changed |= {"policy.model": str(runs["ultrafeedback_sft"] / "result"), "policy.chat_template": None}
        train(load_config(FOLDER / f"{name}.yaml", changed))
    sft, dpo, sera = map(str, runs.values())
    policies = {"sft": sft, "dpo": dpo, "sera": {"model": sera, "rounds": "all"}}
    # Greedy, these models answer nothing, and that is refused.
    figures = evaluated("ultrafeedback", tmp_path, stand_ins, policies, temperature=1.0)
    assert {pair["rival"] for pair in figures["pairs"]} == {"sft"}
    assert len(figures["pairs"]) == 1 + 4


def test_the_page_has_the_figures_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_reproduce.py"))
    page = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
    assert made["page"]() == page, "run: python docs/make_reproduce.py"
    (each,) = (each for each in made["planned"]() if each.name == "llama_sera_simpo")
    arguments = each.command.replace("configs/paper", str(FOLDER)).split()[1:]
    assert each.command in page
    assert main([*arguments, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    cost = sum(part["cost"] for part in plan["parts"])
    memory, seconds = plan["peak_bytes"] / 1e9, plan["seconds"]
    row = next(line for line in page.splitlines() if line.startswith("| `llama_sera_simpo`"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[3:] == [f"{memory:.1f} GB", f"{round(seconds / 60) // 60} h {round(seconds / 60) % 60:02d} min",
                         f"{seconds * 8 / 3600:.1f}", f"{cost:.2f}"]  # fmt: skip
    assert plan["fits"]
    assert all(each.plan.fits for each in made["planned"]())


@pytest.mark.parametrize("name", EVALUATIONS)
def test_judges_take_their_options(name: str) -> None:
    config = load_evaluate_config(FOLDER / "evaluate" / f"{name}.yaml")
    assert config.judge is not None
    assert "judge" in str(make_judge(config.judge, config.judge_options, None).identity)
    with pytest.raises(ConfigError, match="templat"):
        make_judge(config.judge, config.judge_options | {"template": "no_such"}, None)
