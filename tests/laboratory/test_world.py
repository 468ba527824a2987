"""The world as a folder: the same bytes again, a model that transformers opens, a key that scores."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from seralign.config import RunConfig, SourceConfig, WorldConfig, load_config
from seralign.config.supplied import supplied
from seralign.errors import StoreError
from seralign.laboratory import clauses, grammar
from seralign.laboratory.clauses import VOCABULARY, ClauseWorld
from seralign.laboratory.world import GRAMMARS, WORLDS, liked, load_world, make_world, read_truth

CONFIG = WorldConfig(pairs=40, demonstrations=50, prompts=30, heldout=20, validation=10, seed=3)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world") / "a" / "world"
    make_world(CONFIG, path)
    return path


def test_files_hold_the_world(folder: Path) -> None:
    names = set(contents(folder))
    assert {
        "pairs.jsonl",
        "heldout.jsonl",
        "validation.jsonl",
        "prompts.jsonl",
        "demonstrations.jsonl",
        "world.json",
    } <= names
    assert {"model/model.safetensors", "model/config.json", "model/tokenizer.json"} <= names
    assert not any(name.endswith(".part") for name in names)
    world = clauses.draw_world(CONFIG)
    assert rows_of(folder / "pairs.jsonl") == grammar.offline_pairs(world)
    assert rows_of(folder / "heldout.jsonl") == grammar.heldout_pairs(world)
    assert rows_of(folder / "validation.jsonl") == grammar.validation_pairs(world)
    counts = {"pairs": 40, "heldout": 20, "validation": 10, "prompts": 30, "demonstrations": 50}
    assert {name: len(rows_of(folder / f"{name}.jsonl")) for name in counts} == counts
    assert set(rows_of(folder / "prompts.jsonl")[0]) == {"prompt"}
    assert set(rows_of(folder / "demonstrations.jsonl")[0]) == {"prompt", "response"}


def test_same_configuration_same_bytes(folder: Path, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        state = torch.get_rng_state()
        for _ in range(2):  # the second time over its own files
            make_world(CONFIG, tmp_path)
            assert contents(tmp_path) == contents(folder)
            assert torch.equal(torch.get_rng_state(), state)


def test_another_seed_is_another_world(folder: Path, tmp_path: Path) -> None:
    make_world(dataclasses.replace(CONFIG, seed=4), tmp_path)
    mine, other = contents(folder), contents(tmp_path)
    for name in ("pairs.jsonl", "prompts.jsonl", "model/model.safetensors", "world.json"):
        assert mine[name] != other[name]
    assert mine["model/tokenizer.json"] == other["model/tokenizer.json"]


def test_folder_alone_scores(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "world.json").write_bytes((folder / "world.json").read_bytes())
    world = load_world(tmp_path)
    assert world.config == CONFIG
    assert isinstance(world, ClauseWorld)
    assert np.array_equal(world.table, clauses.draw_world(CONFIG).table)
    rows = rows_of(folder / "heldout.jsonl")
    gold = world.score(["<bos> " + row["prompt"] for row in rows], [row["chosen"] for row in rows])
    assert gold.tolist() == [row["gold_chosen"] for row in rows]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: None, "is missing"),
        (lambda text: text[: len(text) // 2], "is corrupt"),
        (lambda text: text.replace('"noise": 0.2', '"noise": 0.3'), "its digest does not fit"),
        (lambda text: text.replace('"version": 2', '"version": 1'), "not a world of version 2"),
        (lambda text: "[]", "not a world of version 2"),
    ],
)
def test_broken_key_is_refused(folder: Path, tmp_path: Path, change, message: str) -> None:
    text = change((folder / "world.json").read_text())
    if text is not None:
        (tmp_path / "world.json").write_text(text)
    with pytest.raises(StoreError, match=message) as caught:
        load_world(tmp_path)
    assert str(tmp_path / "world.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unfinished_remake_leaves_no_key(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_world(CONFIG, tmp_path)

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("seralign.laboratory.world.save_model", full)
    with pytest.raises(OSError, match="No space"):
        make_world(dataclasses.replace(CONFIG, seed=5), tmp_path)
    with pytest.raises(StoreError, match="is missing"):
        load_world(tmp_path)


def test_tokenizer_takes_text_there_and_back(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    ids = {token: i for i, token in enumerate(VOCABULARY)}
    assert len(tokenizer) == 28
    assert tokenizer.get_vocab() == ids
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == ("<pad>", "<bos>", "<eos>")
    row = rows_of(folder / "pairs.jsonl")[0]
    prompt = tokenizer(row["prompt"]).input_ids
    assert prompt == [ids["<bos>"], *(ids[token] for token in row["prompt"].split())]
    assert tokenizer.decode(prompt) == "<bos> " + row["prompt"]
    assert tokenizer.decode(prompt, skip_special_tokens=True) == row["prompt"]
    response = tokenizer(row["chosen"], add_special_tokens=False).input_ids
    assert response == [ids[token] for token in row["chosen"].split()]
    assert tokenizer.decode([*response, ids["<eos>"], ids["<pad>"]], skip_special_tokens=True) == row["chosen"]
    assert tokenizer(row["prompt"] + row["chosen"]).input_ids == prompt + response
    with pytest.raises(Exception, match=r"Missing \[UNK\]"):
        tokenizer("hello")


def test_model_is_small_and_begins_near_uniform(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(1e5, rel=0.1)
    assert model.config.model_type == "llama"
    assert (model.config.pad_token_id, model.config.bos_token_id, model.config.eos_token_id) == (0, 1, 3)
    with torch.no_grad():
        loss = model(input_ids=torch.arange(28)[None], labels=torch.arange(28)[None]).loss
    assert loss.item() == pytest.approx(np.log(28), abs=0.1)


def test_every_world_is_registered_under_its_configured_name() -> None:
    assert set(WORLDS) == {"clauses", "elaborations", "sums", "own"}
    assert set(GRAMMARS) == set(WORLDS) - {"own"}


def test_sums_have_a_model_and_a_key_of_their_own(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, name="sums")
    make_world(config, tmp_path)
    world = load_world(tmp_path)
    assert world.config == config
    rows = rows_of(tmp_path / "pairs.jsonl")
    gold = world.score([row["prompt"] for row in rows], [row["chosen"] for row in rows])
    assert gold.tolist() == [row["gold_chosen"] for row in rows]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.get_vocab() == {token: i for i, token in enumerate(GRAMMARS["sums"](config).vocabulary)}
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert model.config.vocab_size == len(tokenizer) == 21
    row = rows[0]
    ids = tokenizer(row["prompt"] + " " + row["chosen"]).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == row["prompt"] + " " + row["chosen"]


def test_truth_is_found_by_pair_id(folder: Path) -> None:
    rows = rows_of(folder / "pairs.jsonl")
    truth = read_truth(folder)
    assert truth.pair_ids == [row["pair_id"] for row in rows]
    wanted = [rows[7], rows[2], rows[31]]
    found = truth.of([row["pair_id"] for row in wanted])
    assert found.gold_chosen.tolist() == [row["gold_chosen"] for row in wanted]
    assert found.gold_rejected.tolist() == [row["gold_rejected"] for row in wanted]
    assert found.flipped.tolist() == [row["flipped"] for row in wanted]
    assert found.gold_difference.tolist() == [row["gold_chosen"] - row["gold_rejected"] for row in wanted]
    assert read_truth(folder, "validation").pair_ids == [row["pair_id"] for row in rows_of(folder / "validation.jsonl")]
    with pytest.raises(StoreError, match="the world has no pair 'x'"):
        truth.of(["x"])
    with pytest.raises(StoreError, match=r"nowhere/pairs\.jsonl is missing"):
        read_truth(folder / "nowhere")
    with pytest.raises(StoreError, match=r"prompts\.jsonl holds no pairs of a world"):
        read_truth(folder, "prompts")


def test_liked_is_the_configured_feature(tmp_path: Path) -> None:
    responses = ["f1 e1 w1 f1", "f2 e1 w1"]
    for kind, values in (("length", [4, 3]), ("style", [2, 0]), ("position", [0.75, 0])):
        world = clauses.draw_world(dataclasses.replace(CONFIG, spurious=kind))
        assert liked(world, responses).tolist() == values


def run_config(**values: object) -> RunConfig:
    return load_config(None, {"out": "x", "world": {}, **values})


def test_a_folder_supplies_what_is_left_out(folder: Path, tmp_path: Path) -> None:
    plain = supplied(run_config(), folder)
    paths = [plain.data.pairs, plain.data.heldout, plain.data.prompts]
    assert paths == [SourceConfig(str(folder / f"{name}.jsonl")) for name in ("pairs", "heldout", "prompts")]
    assert plain.data.demonstrations is None
    assert plain.policy.model == str(folder / "model")
    with_sft = supplied(run_config(sft={"max_steps": 1}), folder)
    assert with_sft.data.demonstrations == SourceConfig(str(folder / "demonstrations.jsonl"))
    own = {"policy.model": "mine", "data.heldout.path": "h.jsonl", "data.heldout.limit": 3}
    given = supplied(run_config(**own), folder)
    assert given.policy.model == "mine"
    assert given.data.heldout == SourceConfig("h.jsonl", limit=3)
    assert given.data.pairs == plain.data.pairs
    # A folder without demonstrations (a world of one's own) leaves them to the pairs' chosen responses.
    assert supplied(run_config(sft={"max_steps": 1}), tmp_path).data.demonstrations is None
