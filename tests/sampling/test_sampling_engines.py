"""Sampling a table of prompts: the built-in engine with a tiny model, and engines of the user's own."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
import tiny
from torch import nn

from seralign.config import PolicyConfig, SamplingConfig
from seralign.errors import ConfigError
from seralign.policy.identity import PolicySource
from seralign.records import Candidate, Prompt
from seralign.runs.results import Results, check_results
from seralign.sampling import Request, SampledPolicy, candidates_of, local, make_sampler, params_of, sample_candidates
from seralign.sampling.checked import CheckedSampler

ENDS = frozenset({tiny.EOS, 5, 6, 7})


def policy_of(load: Any = tiny.make_model) -> SampledPolicy:
    return SampledPolicy(
        "tiny", PolicySource("nowhere"), "float32", "default", tiny.make_tokenizer(), ENDS, load, PolicyConfig()
    )


class Sampling:
    """Samples a table with a tiny model; counts loads, and dies in a given batch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loads = 0
        self.batches: list[list[str]] = []
        self.die_at: int | None = None
        original = local.sample

        def counted(model: nn.Module, tokenizer: Any, batch: Sequence[Prompt], *rest: Any, **more: Any) -> Any:
            if len(self.batches) == self.die_at:
                raise KeyboardInterrupt
            self.batches.append([prompt.prompt_id for prompt in batch])
            return original(model, tokenizer, batch, *rest, **more)

        monkeypatch.setattr(local, "sample", counted)

    def __call__(
        self,
        folder: Path,
        prompts: datasets.Dataset,
        batch_size: int = 3,
        seed: int = 4,
        policy: str = "digest",
        **settings: Any,
    ) -> pa.Table:
        def load() -> nn.Module:
            self.loads += 1
            return tiny.make_model()

        config = SamplingConfig(batch_size=batch_size, max_new_tokens=6, **settings)
        sampler = make_sampler(policy_of(load), config, "bootstrap")
        with closing(Results(folder / "results.sqlite")) as results:
            return sample_candidates(
                prompts, sampler, params_of(config, 2), policy=policy, end_tokens=ENDS, seed=seed, results=results,
                label="sampling",
            )  # fmt: skip


@pytest.fixture
def sampling(monkeypatch: pytest.MonkeyPatch) -> Sampling:
    return Sampling(monkeypatch)


@pytest.mark.parametrize("batch_size", [1, 3, 11, 50])
def test_candidates_come_in_the_order_of_the_prompts(batch_size: int, sampling: Sampling, tmp_path: Path) -> None:
    prompts = tiny.prompts_table()
    found = candidates_of(sampling(tmp_path, prompts, batch_size))
    assert [(c.prompt_id, c.index) for c in found] == [(name, at) for name in prompts["prompt_id"] for at in (0, 1)]
    assert Counter(name for batch in sampling.batches for name in batch) == Counter(prompts["prompt_id"])
    lengths = dict(zip(prompts["prompt_id"], map(len, prompts["ids"]), strict=True))
    in_order = [lengths[name] for batch in sampling.batches for name in batch]
    assert in_order == sorted(in_order)
    assert {c.finished for c in found} == {True, False}


@pytest.mark.parametrize("die_at", range(4))
def test_interrupted_sampling_ends_with_the_same_responses(die_at: int, sampling: Sampling, tmp_path: Path) -> None:
    prompts = tiny.prompts_table()
    wanted = sampling(tmp_path / "whole", prompts)
    whole = sampling.batches.copy()
    sampling.batches.clear()
    sampling.die_at = die_at
    with pytest.raises(KeyboardInterrupt):
        sampling(tmp_path / "killed", prompts)
    sampling.die_at = None
    assert sampling(tmp_path / "killed", prompts).equals(wanted)
    assert sampling.batches == whole


def test_what_is_there_is_not_sampled_again_and_the_model_not_loaded(sampling: Sampling, tmp_path: Path) -> None:
    prompts = tiny.prompts_table()
    first = sampling(tmp_path, prompts)
    assert sampling(tmp_path, prompts).equals(first)
    assert sampling.loads == 1
    assert len(sampling.batches) == 4


@pytest.mark.parametrize(
    "other", [{"policy": "other"}, {"seed": 5}, {"temperature": 0.5}, {"top_p": 0.5}, {"batch_size": 4}]
)
def test_what_an_answer_depends_on_is_asked_anew(other: dict[str, Any], sampling: Sampling, tmp_path: Path) -> None:
    prompts = tiny.prompts_table()
    sampling(tmp_path, prompts)
    before = len(sampling.batches)
    sampling(tmp_path, prompts, **other)
    assert sum(map(len, sampling.batches[before:])) == len(prompts)


def test_the_seed_decides_and_every_prompt_has_its_own(sampling: Sampling, tmp_path: Path) -> None:
    prompts = tiny.prompts_table()
    first = sampling(tmp_path / "a", prompts, seed=4)
    assert sampling(tmp_path / "b", prompts, seed=4).equals(first)
    assert not sampling(tmp_path / "c", prompts, seed=5).equals(first)
    same = tiny.plain_prompts(["x", "y"], ["", ""], [[4, 9, 8]] * 2)
    texts = sampling(tmp_path / "d", same, batch_size=1)["text"].to_pylist()
    assert texts[:2] != texts[2:]


@pytest.mark.parametrize("column", ["value", "checksum"])
def test_a_row_that_was_changed_on_the_disk_is_asked_again(
    column: str, sampling: Sampling, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tiny.prompts_table()
    wanted = sampling(tmp_path, prompts)
    path = tmp_path / "results.sqlite"
    with closing(sqlite3.connect(path)) as db, db:
        (key, whole) = db.execute(f"SELECT key, {column} FROM results ORDER BY key").fetchone()
        changed = bytes([whole[0] ^ 1]) + whole[1:]
        db.execute(f"UPDATE results SET {column} = ? WHERE key = ?", (changed, key))
    assert check_results(path) == (4, ["1 rows were changed since they were written"])
    before = len(sampling.batches)
    assert sampling(tmp_path, prompts).equals(wanted)
    assert len(sampling.batches) == before + 1
    assert sampling.batches[before] in sampling.batches[:before]
    told = " ".join(capsys.readouterr().err.split())
    assert f"warning: {path}: 1 results were changed on the disk; they are requested again" in told
    assert check_results(path) == (4, [])


class Echo:
    """Answers each prompt with its own last token and an end; a request is one prompt, answered last to first."""

    identity = "echo 1"
    prompts_per_request = 1
    in_every_process = False

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.die_after: int | None = None

    def sample(self, requests: Iterable[Request], watch: Any = None) -> Iterator[tuple[Request, list[Candidate]]]:
        for number, request in enumerate(reversed(list(requests))):
            if number == self.die_after:
                raise ConnectionError("the server is gone")
            (prompt,) = request.prompts
            self.asked.append(prompt.prompt_id)
            ids = (prompt.ids[-1], tiny.EOS)
            text = tiny.VOCABULARY[prompt.ids[-1]]
            yield request, [Candidate(prompt.prompt_id, at, text, ids, True) for at in range(request.params.samples)]


def echo(engine: Any, folder: Path, prompts: datasets.Dataset) -> pa.Table:
    sampler = CheckedSampler(engine, "bootstrap.engine", "mine:Echo", tiny.make_tokenizer())
    params = params_of(SamplingConfig(max_new_tokens=6), 2)
    with closing(Results(folder / "results.sqlite")) as results:
        return sample_candidates(
            prompts, sampler, params, policy="p", end_tokens=ENDS, seed=0, results=results, label="echo"
        )


def test_an_engine_answers_in_any_order_and_keeps_what_it_answered_before_it_failed(tmp_path: Path) -> None:
    prompts, engine = tiny.prompts_table(), Echo()
    engine.die_after = 5
    says = r"^bootstrap\.engine: mine:Echo failed: ConnectionError: the server is gone \(test_\w+\.py line \d"
    with pytest.raises(ConfigError, match=says):
        echo(engine, tmp_path, prompts)
    assert len(engine.asked) == 5
    engine.die_after = None
    found = candidates_of(echo(engine, tmp_path, prompts))
    assert Counter(engine.asked) == Counter(prompts["prompt_id"])
    assert [c.prompt_id for c in found[::2]] == prompts["prompt_id"][:]
    assert [c.ids[0] for c in found[::2]] == [ids[-1] for ids in prompts["ids"]]


def _changed(**fields: Any) -> Any:
    return lambda request, found: [(request, [replace(one, **fields) for one in found])]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda request, found: [(request, found[:1])], "candidates in the order .*, got 1"),
        (lambda request, found: [(request, found[::-1])], "candidates in the order"),
        (lambda request, found: [(request, found), (request, found)], "answered twice"),
        (lambda request, found: [], "11 requests have no answer"),
        (
            lambda request, found: [(request, [replace(one, ids=()) for one in found])],
            "max_new_tokens = 6 ids, got 0",
        ),
        (lambda request, found: [(request, [replace(one, ids=(4,) * 7) for one in found])], "ids, got 7"),
        (
            lambda request, found: [(request, [replace(one, ids=(4, 4)) for one in found])],
            "finished must be true where",
        ),
        (lambda request, found: [3], "failed: TypeError"),
        (_changed(ids=(10**6, tiny.EOS)), "the tokenizer has no token with the id 1000000"),
        (_changed(ids=(2**40, tiny.EOS)), "the tokenizer has no token with the id 1099511627776"),
        (_changed(ids=(-5, tiny.EOS)), "the tokenizer has no token with the id -5"),
        (_changed(ids=(3.7, tiny.EOS)), "ids must be whole numbers, got 3.7"),
        (_changed(ids=(True, tiny.EOS)), "ids must be whole numbers, got True"),
        (_changed(ids=(3, tiny.EOS, 4, tiny.EOS)), "ends at its first end token, got one before the last of 4 ids"),
        (_changed(finished=None), "finished must be true where"),
        (_changed(text=None), "text must be text that UTF-8 can hold, got None"),
        (_changed(text="bad \ud800"), "text must be text that UTF-8 can hold, got 'bad"),
        (
            _changed(text="other words", ids=(3, tiny.EOS)),
            "text must be what the ids decode to, 'w0', got 'other words'",
        ),
    ],
)
def test_answers_that_break_the_contract_are_refused(wrong: Any, says: str, tmp_path: Path) -> None:
    class Wrong(Echo):
        def sample(self, requests: Iterable[Request], watch: Any = None) -> Iterator[Any]:
            for request, candidates in super().sample(requests, watch):
                yield from wrong(request, candidates)

    with pytest.raises(ConfigError, match=rf"^bootstrap\.engine: mine:Echo.*{says}"):
        echo(Wrong(), tmp_path, tiny.prompts_table())


def test_numbers_of_numpy_and_special_tokens_in_the_text_are_taken(tmp_path: Path) -> None:
    class Other(Echo):
        def sample(self, requests: Iterable[Request], watch: Any = None) -> Iterator[Any]:
            for request, found in super().sample(requests, watch):
                yield request, [replace(c, ids=np.array(c.ids), text=f"{c.text}</s>") for c in found]

    prompts = tiny.prompts_table()
    (tmp_path / "other").mkdir()
    assert echo(Other(), tmp_path / "other", prompts) == echo(Echo(), tmp_path, prompts)


@pytest.mark.parametrize(
    ("attribute", "value", "says"),
    [
        ("identity", 3, "identity must be of type str, got 3"),
        ("prompts_per_request", None, "prompts_per_request must be of type int, got None"),
        ("prompts_per_request", 0, "prompts_per_request must be at least 1, got 0"),
        ("in_every_process", "no", "in_every_process must be of type bool, got 'no'"),
    ],
)
def test_an_engine_says_how_it_is_asked(attribute: str, value: Any, says: str) -> None:
    engine = Echo()
    setattr(engine, attribute, value)
    with pytest.raises(ConfigError, match=rf"^k\.engine: mine:Echo: {says}"):
        CheckedSampler(engine, "k.engine", "mine:Echo", tiny.make_tokenizer())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"engine": "vlm"},
            r"evaluation\.engine must be one of local, server, vllm, or module:class of your own, got",
        ),
        ({"engine": "no_such_module:X"}, r"evaluation\.engine: cannot import 'no_such_module'"),
        ({"engine": "tiny:Nothing"}, r"evaluation\.engine: module 'tiny' has no class 'Nothing'"),
        ({"engine": "tiny:EOS"}, r"evaluation\.engine: module 'tiny' has no class 'EOS'"),
        ({"engine": "tiny:make_model"}, r"evaluation\.engine: tiny:make_model failed: "),
        ({"engine_options": {"url": "x"}}, r"evaluation\.engine_options: engine local has none, got url"),
    ],
)
def test_an_engine_that_cannot_be_is_refused_before_it_is_asked(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=f"^{says}"):
        make_sampler(policy_of(), SamplingConfig(**settings), "evaluation")
