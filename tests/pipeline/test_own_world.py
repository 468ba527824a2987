"""A world of one's own, end to end: the policy answers, the user's function scores, the run trains on that."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny

from seralign.config import RunConfig, load_config, to_dict
from seralign.data.table import read_table
from seralign.errors import ConfigError, StoreError
from seralign.laboratory.clauses import VOCABULARY
from seralign.laboratory.grammar import EOS
from seralign.laboratory.model import build_tokenizer, save_model
from seralign.pipeline import train
from seralign.pipeline.world import with_world
from seralign.policy.load import load_model
from seralign.policy.speed import Rates
from seralign.runs import Run
from seralign.runs.layout import WORLD
from seralign.studies.runs import _ready

SCORER = """
def score(prompts, responses):
    seen.update(prompts)
    return [response.split().count("w3") for response in responses]

seen = set()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a scorer, prompts and a model, as the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_gold", raising=False)
    (tmp_path / "my_gold.py").write_text(SCORER)
    prompts = [{"prompt": f"e{first} e{second} <sep>"} for first in range(1, 7) for second in range(1, 7)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*prompts, prompts[0]]))
    save_model(tmp_path / "model", seed=0)
    return tmp_path


def config(**overrides: Any) -> RunConfig:
    values: dict[str, Any] = {
        "out": "run",
        "rounds": 2,
        "policy.model": "model",
        "world": {
            "name": "own", "pairs": 50, "prompts": 12, "heldout": 8, "validation": 4, "spurious_strength": 0.0,
            "own": {"prompts": {"path": "prompts.jsonl"}, "scorer": "my_gold:score",
                    "max_new_tokens": 56},
        },
        "data.max_length": 60,
        "training": {"learning_rate": 1e-3, "max_steps": 3, "batch_size": 8},
        "bootstrap": {"samples": 2, "temperature": 1.0, "max_new_tokens": 56},
        "evaluation": {"prompts": 8},
        "stop.metric": "never",
    }  # fmt: skip
    return load_config(None, values | {key.replace("__", "."): value for key, value in overrides.items()})


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_in_a_world_of_ones_own(here: Path) -> None:
    """36 different prompts: 8 held out, 4 for validation, 24 to train on, each asked for three pairs to have 50."""
    result = train(config())
    world = here / "run" / WORLD
    files = {name: rows_of(world / f"{name}.jsonl") for name in ("pairs", "heldout", "validation", "prompts")}
    figures = result.run.record(WORLD).figures
    assert figures["rows"] == {name: len(rows) for name, rows in files.items()}
    assert len(files["prompts"]) == 12
    assert 30 < len(files["pairs"]) <= 50
    asked = {name: {tuple(row["prompt_ids"]) for row in rows} for name, rows in files.items()}
    assert len(asked["pairs"]) <= 24
    assert asked["prompts"] <= {tuple(row["ids"]) for row in read_table(here / "run/data/prompts.arrow")}  # pyright: ignore
    for name, others in (("heldout", ("validation", "pairs", "prompts")), ("validation", ("pairs", "prompts"))):
        assert not any(asked[name] & asked[other] for other in others)
    own, end = VOCABULARY.index("w3"), VOCABULARY.index(EOS)
    for row in files["pairs"] + files["heldout"] + files["validation"]:
        assert row["gold_chosen"] == row["chosen_ids"].count(own)
        assert row["gold_rejected"] == row["rejected_ids"].count(own)
        assert row["chosen_ids"][-1] == row["rejected_ids"][-1] == end
        assert max(len(row["chosen_ids"]), len(row["rejected_ids"])) <= 56
    # As many possible pairs as were made and left out: three turns of 24 prompts, cut to 50, and 8 and 4 held out.
    left_out = {name: sum(counts.values()) for name, counts in figures["left_out"].items()}
    assert left_out["heldout"] + len(files["heldout"]) == 8
    assert min(50, 72 - left_out["pairs"]) == len(files["pairs"])

    pairs = tiny.read_pairs(here / "run/data/pairs.arrow")
    assert pairs["example_id"][:] == [row["pair_id"] for row in files["pairs"]]
    assert pairs["chosen_ids"][:] == [row["chosen_ids"] for row in files["pairs"]]
    assert result.run.record("round-2/evaluate").figures["score"] is not None
    assert result.run.record("round-2/bootstrap").figures["pairs"] > 0
    # The scorer met the same text of a held-out prompt when the pairs were made and when the policies were measured.
    assert sys.modules["my_gold"].seen == {
        *read_table(here / "run/data/heldout_prompts.arrow")["text"],
        *pairs["prompt"],
        *(str(build_tokenizer().decode(row["prompt_ids"])) for row in files["validation"]),
    }


def test_the_same_configuration_makes_the_same_world(here: Path) -> None:
    for name in ("a", "b"):
        with_world(Run(here / name), config())
    for file in (here / "a" / WORLD).glob("*.json*"):
        if file.name != "stage.json":
            assert file.read_bytes() == (here / "b" / WORLD / file.name).read_bytes()


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [
        ({}, "float32"),
        ({"scoring__dtype": "bfloat16"}, "bfloat16"),
        ({"scoring__dtype": "float32"}, "float32"),
        ({"policy__dtype": "bfloat16"}, "bfloat16"),
    ],
)
def test_a_world_is_sampled_as_configured_and_not_as_this_machine_is_fast(
    settings: dict[str, Any], dtype: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loaded(Exception):
        pass

    def load(source: Any, policy: Any, dtype: str) -> None:
        raise Loaded(dtype)

    monkeypatch.setattr("seralign.pipeline.own_world.load_model", load)
    monkeypatch.setattr("seralign.pipeline.precision.processor_rates", lambda shape: Rates(float32=1.0, bfloat16=50.0))
    with pytest.raises(Loaded, match=f"^{dtype}$"):
        with_world(Run(here / "run"), config(**settings))


def test_worlds_that_differ_in_labels_share_their_responses(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second world and the third load no model; another seed or temperature needs other responses."""
    loaded = []

    def load(*given: Any) -> Any:
        loaded.append(given)
        return load_model(*given)

    monkeypatch.setattr("seralign.pipeline.own_world.load_model", load)
    counts = []
    for name, changes in (
        ("a", {}),
        ("b", {"world__noise": 0.4}),
        ("c", {"world__soft_labels": True, "world__gold_strength": 1.0}),
        ("d", {"world__seed": 1}),
    ):
        with_world(Run(here / name), config(**changes), here / "samples.sqlite")
        counts.append(len(loaded))
    assert 0 < counts[0] == counts[1] == counts[2] < counts[3]
    responses = [
        {
            frozenset((tuple(row["chosen_ids"]), tuple(row["rejected_ids"])))
            for row in rows_of(here / name / WORLD / "pairs.jsonl")
        }
        for name in "abcd"
    ]
    assert responses[0] == responses[1] == responses[2] != responses[3]
    assert not (here / "a" / "cache").exists()


def test_a_study_samples_such_worlds_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    monkeypatch.setattr(
        "seralign.pipeline.own_world.load_model", lambda *given: loaded.append(given) or load_model(*given)
    )
    homes = []
    for noise in (0.2, 0.4):
        values = to_dict(config(world__noise=noise))
        keys = {"policy.model": "model", "world": values["world"], "data.max_length": 60, "rounds": 1}
        home, found = _ready(keys, here / "study", here / "study" / "run", model=None)
        homes.append(home)
        assert len(loaded) == 3, "pairs, held-out and validation pairs, once"
        assert found.data.pairs is not None
        assert found.data.pairs.path == str(home.path(WORLD, "pairs.jsonl"))
    assert homes[0].root != homes[1].root


def test_the_labeller_alone_leaves_the_responses(here: Path) -> None:
    """Sampling depends on the world's seed and the prompts: with another labeller the same responses are turned."""
    turned = []
    for name, noise in (("a", 0.0), ("b", 1.0)):
        with_world(Run(here / name), config(world__noise=noise, world__gold_strength=1e6))
        turned.append(rows_of(here / name / WORLD / "pairs.jsonl"))
    differ = [(a, b) for a, b in zip(*turned, strict=True) if a["gold_chosen"] != a["gold_rejected"]]
    assert len(differ) > 5
    assert all((a["chosen_ids"], a["rejected_ids"]) == (b["rejected_ids"], b["chosen_ids"]) for a, b in differ)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda here: (here / "my_gold.py").write_text(SCORER + "\n# another\n"), r"world\.own\.scorer"),
        (lambda here: (here / "prompts.jsonl").write_text('{"prompt": "e1 <sep>"}\n' * 40), r"world\.own\.prompts"),
        (lambda here: save_model(here / "model", seed=1), r"policy\.model"),
    ],
    ids=["scorer", "prompts", "model"],
)
def test_a_world_of_something_else_is_refused(here: Path, change: Any, says: str) -> None:
    with_world(Run(here / "run"), config())
    change(here)
    sys.modules.pop("my_gold", None)
    with pytest.raises(StoreError, match=says):
        with_world(Run(here / "run"), config())


def test_what_does_not_fit_is_named(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy\.model is missing: with world\.name: own, it samples the responses"):
        with_world(Run(here / "a"), config(policy__model=None))
    with pytest.raises(ConfigError, match=r"world\.own\.max_new_tokens is 56: with the longest prompt of 4"):
        with_world(Run(here / "b"), config(data__max_length=59))
    with pytest.raises(ConfigError, match=r"leave none of the 36 prompts"):
        with_world(Run(here / "c"), config(world__heldout=40))
    with pytest.raises(ConfigError, match=r"world\.own\.scorer: cannot import 'nowhere'"):
        with_world(Run(here / "d"), config(world__own__scorer="nowhere:score"))
