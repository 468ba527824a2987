"""Log-ratios token by token: they add up to the margins, and their texts to the responses; and the report of a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
from small_run import small_config
from tiny import read_pairs
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from seralign.data.templates import decode
from seralign.pipeline import RunResult, tokens, train
from seralign.pipeline.tokens import spread, token_texts
from seralign.policy.token_logps import TokenLogps
from seralign.report.contents import run_contents
from seralign.report.figures import run_figures
from seralign.rewards.responses import Responses
from seralign.runs.cache import response_key
from seralign.runs.files import read_table
from seralign.runs.typed import to_json

Passes = list[tuple[str, set[bytes]]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, Passes]:
    """Three rounds, of which 20 pairs each are looked at; and which responses went through which policy for that."""
    passes: Passes = []
    compute = tokens.token_logps

    def watch(responses: Any, packs: list[np.ndarray], policy: Any) -> Any:
        passes.extend((policy.name, set(responses.keys[pack].tolist())) for pack in packs)
        return compute(responses, packs, policy)

    small = {"evaluation__baseline": False, "sft": None, "evaluation__token_pairs": 20}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tokens, "token_logps", watch)
        return train(small_config(tmp_path_factory.mktemp("tokens") / "run", **small)), passes


@pytest.fixture(scope="module")
def result(watched: tuple[RunResult, Passes]) -> RunResult:
    return watched[0]


def test_the_reference_computes_a_pair_once_in_whichever_rounds_it_is_looked_at(
    watched: tuple[RunResult, Passes],
) -> None:
    """Each round's policy computes all of its 20 pairs, the reference those that no round before had."""
    run, passes = watched[0].run, watched[1]
    own, new, seen = [], [], set[str]()
    for index in (1, 2, 3):
        table = [*read_pairs(run.path("data", "pairs.arrow"))]
        table += read_pairs(run.path(f"round-{index}/bootstrap", "generated.arrow")) if index > 1 else []
        pairs = {row["example_id"]: row for row in table}  # pyright: ignore
        looked_at = read_table(run.path(f"round-{index}/tokens", "tokens.parquet"))["example_id"].to_pylist()

        def keys(names: set[str], pairs: dict[str, Any] = pairs) -> set[bytes]:
            rows = [pairs[name] for name in names]
            return {
                response_key(row["prompt_ids"], row[side]) for row in rows for side in ("chosen_ids", "rejected_ids")
            }

        own.append(keys(set(looked_at)))
        new.append(keys(set(looked_at) - seen))
        seen |= set(looked_at)
    for index in (1, 2, 3):
        assert set().union(*(part for name, part in passes if name == f"round {index}")) == own[index - 1]
    reference = [part for name, part in passes if name == "reference"]
    assert sum(map(len, reference)) == sum(map(len, new)) < sum(map(len, own))


def test_ratios_add_up_to_the_margin_under_the_rounds_policy(result: RunResult) -> None:
    """Round 3 scores all offline pairs under the policy of round 2, whose tokens round 2 kept."""
    looked_at = read_table(result.run.path("round-2/tokens", "tokens.parquet")).to_pylist()
    scored = read_table(result.run.path("round-3/score", "margins.parquet")).to_pylist()
    margins = {row["example_id"]: row["margin"] for row in scored}
    own = [row for row in looked_at if row["example_id"] in margins]
    assert len(own) >= 10
    found = [sum(row["ratios"][0]) - sum(row["ratios"][1]) for row in own]
    np.testing.assert_allclose(found, [margins[row["example_id"]] for row in own], atol=1e-4)
    assert np.ptp(found) > 0.01


def test_each_round_looks_at_offline_and_generated_pairs(result: RunResult) -> None:
    for index in (1, 2, 3):
        stage = f"round-{index}/tokens"
        names = read_table(result.run.path(stage, "tokens.parquet"))["example_id"].to_pylist()
        made = [name for name in names if name.startswith(f"round{index}-")]
        assert len(set(names)) == len(names) == result.run.record(stage).figures["pairs"] == 20
        there = len(read_pairs(result.run.path(f"round-{index}/bootstrap", "generated.arrow"))) if index > 1 else 0
        assert len(made) == min(10, there)


def test_a_response_that_occurs_twice_has_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes through the model once; the values of its other row are not computed."""
    rows = {"prompt_ids": [[1], [1], [4]], "response_ids": [[[5, 6]], [[5, 6]], [[7]]]}
    responses = Responses(datasets.Dataset.from_dict(rows))

    def compute(responses: Responses, packs: list[np.ndarray], policy: Any) -> tuple[None, TokenLogps]:
        values = np.full(5, np.nan, dtype=np.float32)
        for number in np.concatenate(packs).tolist():
            values[2 * number : 2 * number + responses.lengths[number]] = -1.0 - number
        return None, TokenLogps(values, responses.lengths)

    monkeypatch.setattr(tokens, "token_logps", compute)
    scoring = SimpleNamespace(tokens_per_pack=64)
    loop: Any = SimpleNamespace(config=SimpleNamespace(scoring=scoring), packed_length=64)
    policy: Any = None
    assert tokens._computed(loop, policy, responses) == {
        response_key([1], [5, 6]): [-1.0, -1.0],
        response_key([4], [7]): [-3.0],
    }


def test_the_pairs_of_largest_and_smallest_margin_are_looked_at(result: RunResult) -> None:
    table = read_table(result.run.path("round-3/select", "selection.parquet")).to_pylist()
    ranked = [row["example_id"] for row in sorted(table, key=lambda row: row["rank"])]
    names = set(read_table(result.run.path("round-3/tokens", "tokens.parquet"))["example_id"].to_pylist())
    assert {*ranked[:2], *ranked[-2:]} <= names


def test_texts_and_ratios_have_one_entry_a_token(result: RunResult) -> None:
    pairs = {row["example_id"]: row for row in read_pairs(result.run.path("data", "pairs.arrow"))}  # pyright: ignore
    tokenizer = AutoTokenizer.from_pretrained(result.policy)
    for row in read_table(result.run.path("round-1/tokens", "tokens.parquet")).to_pylist():
        for side, texts, ratios in zip(("chosen", "rejected"), row["tokens"], row["ratios"], strict=True):
            ids = pairs[row["example_id"]][f"{side}_ids"]  # pyright: ignore
            assert len(texts) == len(ratios) == len(ids)
            assert "".join(texts) == decode(tokenizer, ids)


def test_the_report_reads_them(result: RunResult) -> None:
    table = run_contents(result.run).pairs
    assert table is not None
    rows = [row for row in table.to_pylist() if row["tokens_round"] == 3]
    assert len(rows) == 20
    for row in rows:
        assert row["chosen_length"] == len(row["chosen_tokens"])
        assert len(row["margins"]) == len(row["kept"]) == 2
    assert {row["disagreement"] is None for row in rows} == {False}


def test_figures_of_the_mechanism(result: RunResult) -> None:
    """Each from the tables of its round, computed again."""
    entry = run_figures(result.run).rounds[2]
    for stage, file in (("select", "data/pairs.arrow"), ("bootstrap", "round-3/bootstrap/generated.arrow")):
        pairs = read_pairs(result.run.root / file)
        table = read_table(result.run.path(f"round-3/{stage}", "selection.parquet"))
        longer = np.array([len(row["chosen_ids"]) - len(row["rejected_ids"]) for row in pairs])  # pyright: ignore
        margins, kept = table["margin"].to_numpy(), table["kept"].to_numpy(zero_copy_only=False)
        figures = to_json(getattr(entry, stage))
        # A bootstrap has the correlation of all pairs that it made, and none of those kept.
        parts = {"": slice(None)} | ({"_kept": kept} if stage == "select" else {})
        for name, rows in parts.items():
            expected = np.corrcoef(margins[rows], longer[rows])[0, 1]
            assert figures[f"margin_length_correlation{name}"] == pytest.approx(expected)
        assert 0 <= figures["similarity_kept"] < 1
    assert entry.sample is not None
    assert 0 < (entry.sample.distinct_2 or 0) <= 1


def test_without_token_pairs_there_is_no_stage(tmp_path: Path) -> None:
    small = {"rounds": 1, "evaluation__baseline": False, "sft": None, "evaluation__token_pairs": 0}
    run = train(small_config(tmp_path / "run", **small)).run
    assert not run.exists("round-1/tokens")


def test_a_failing_report_is_said_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import seralign.pipeline.reporting as reporting

    def broken(*_: object) -> None:
        raise ValueError("no chart")

    monkeypatch.setattr(reporting, "run_contents", broken)
    small = {"rounds": 2, "evaluation__baseline": False, "sft": None}
    run = train(small_config(tmp_path / "run", **small)).run
    assert run.exists("result")
    assert not (run.root / "report.html").exists()
    assert capsys.readouterr().err.count("no report was written (ValueError: no chart)") == 1


# --- the parts


def test_spread_takes_both_ends_and_what_is_between() -> None:
    margins = np.array([0.0, 10.0, 1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0, 5.0, 11.0])
    found = spread(margins, 8)
    assert margins[found].tolist() == [11.0, 10.0, 9.0, 7.0, 5.0, 3.0, 1.0, 0.0]
    assert sorted(spread(margins, 12)) == sorted(spread(margins, 100)) == list(range(12))
    assert spread(margins, 0).tolist() == []
    assert margins[spread(margins, 1)].tolist() == [11.0]
    assert spread(np.zeros(9), 4).tolist() == [0, 1, 4, 8]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    symbols = ["</s>", *sorted(ByteLevel.alphabet())]
    tokenizer = Tokenizer(BPE({symbol: number for number, symbol in enumerate(symbols)}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


@pytest.mark.parametrize("text", ["two words", "é\U0001f984!", "\U0001f984", " a  b\n", "\ufffdx", ""])
def test_texts_of_tokens_join_to_the_text(text: str) -> None:
    tokenizer = byte_tokenizer()
    ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    texts = token_texts(tokenizer, ids)
    assert len(texts) == len(ids)
    assert "".join(texts) == text + "</s>" == decode(tokenizer, ids)
    if text == "é\U0001f984!":
        assert texts == ["", "é", "", "", "", "\U0001f984", "!", "</s>"]


def test_a_response_that_was_cut_inside_a_character() -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer("a\U0001f984")["input_ids"][:-1]
    assert "".join(token_texts(tokenizer, ids)) == decode(tokenizer, ids)
