"""The engine ``server``: what is asked, what fits, whose weights are served, and what is kept when it fails."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pyarrow as pa
import pytest
import serving
import text_model
import tiny
import torch
from fake_server import FakeServer, Scripted, fake_server
from model_server import ModelServer
from safetensors.torch import load_file, save_file

from seralign.config import PolicyConfig, SamplingConfig
from seralign.errors import ConfigError, ModelError
from seralign.policy.identity import PolicySource
from seralign.policy.load import load_model, load_tokenizer
from seralign.records import Candidate, Prompt
from seralign.runs.results import Results
from seralign.sampling import (
    SampledPolicy,
    answering,
    candidates_of,
    connecting,
    make_sampler,
    params_of,
    sample_candidates,
)
from seralign.sampling.fitting import EMPTY, LONG, PROMPT, TEXT, UNKNOWN, make_fitting
from seralign.sampling.probe import Own, departure
from seralign.sampling.stale import nearness_of
from seralign.sampling.wire import Choice, Question, Reply, Way
from seralign.servers import client as client_module
from seralign.servers.usage import Usage

ENDS = frozenset({tiny.EOS})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_FIRST_WAIT", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and one with other weights."""
    root = tmp_path_factory.mktemp("models")
    for seed in (0, 1):
        tiny.save_model(root / str(seed), seed=seed)
    return root / "0", root / "1"


def policy_of(folder: Path, ends: frozenset[int] = ENDS) -> SampledPolicy:
    source = PolicySource(str(folder))
    load = partial(load_model, source, PolicyConfig(), "float32")
    tokenizer = load_tokenizer(source, PolicyConfig())
    return SampledPolicy("round 1", source, "float32", "default", tokenizer, ends, load, PolicyConfig())


def prompts_of(folder: Path, texts: list[str], messages: list[str | None] | None = None) -> datasets.Dataset:
    tokenizer = load_tokenizer(PolicySource(str(folder)), PolicyConfig())
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    table = tiny.plain_prompts([f"p{number}" for number in range(len(texts))], texts, ids)  # pyright: ignore
    if messages is None:
        return table
    given = {name: table[name][:] for name in table.column_names} | {"messages": messages}
    return datasets.Dataset.from_dict(given, table.features)


TEXTS = [f"w{number} w{number + 3} w7" for number in range(9)]


@dataclass(frozen=True)
class Setting:
    """Where and how prompts are sampled."""

    url: str
    folder: Path
    store: Path
    samples: int = 4
    length: int = 8

    def sample(self, prompts: datasets.Dataset, **options: Any) -> pa.Table:
        given = {"url": self.url, "model": "m", "retries": 1, "parallel": 3} | options
        config = SamplingConfig(engine="server", engine_options=given, max_new_tokens=self.length)
        policy = policy_of(self.folder)
        with closing(Results(self.store)) as results:
            return sample_candidates(
                prompts, make_sampler(policy, config, "bootstrap"), params_of(config, self.samples), policy="digest",
                end_tokens=ENDS, seed=4, results=results, label="sampling",
            )  # fmt: skip


@contextmanager
def served_by(script: ModelServer, folder: Path, tmp_path: Path, **more: Any) -> Iterator[tuple[Setting, FakeServer]]:
    with fake_server(script, models=None) as server:
        yield Setting(server.url, folder, tmp_path / "results.sqlite", **more), server


def test_token_ids_go_there_and_back(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """One request a prompt, for all its responses; the ids are those of the server, in the order of the prompts."""
    script = ModelServer(folders[0])
    prompts = prompts_of(folders[0], TEXTS)
    with served_by(script, folders[0], tmp_path) as (setting, server):
        table = setting.sample(prompts)
        assert len(script.sampled) == len(TEXTS)
        before = len(server.asked)
        assert setting.sample(prompts).equals(table)
        assert len(server.asked) == before, "stored answers need no server"
    found = candidates_of(table)
    assert [(one.prompt_id, one.index) for one in found] == [(f"p{n}", i) for n in range(9) for i in range(4)]
    assert {one.finished for one in found} == {True, False}
    tokenizer = tiny.make_tokenizer()
    for one in found:
        assert one.text == tokenizer.decode(list(one.ids), skip_special_tokens=True)
        assert one.finished == (one.ids[-1] == tiny.EOS)
        assert tiny.EOS not in one.ids[:-1]
        assert len(one.ids) == 8 or one.finished
    assert len({body["seed"] for body in script.sampled}) == 9
    for body in script.sampled:
        wanted = {"n": 4, "temperature": 1.0, "top_p": 1.0, "max_tokens": 8, "top_k": 0, "min_p": 0.0,
                  "repetition_penalty": 1.0, "stop_token_ids": [0], "return_token_ids": True}  # fmt: skip
        assert {name: body[name] for name in wanted} == wanted
    by_prompt = {tuple(body["prompt"]): body for body in script.sampled}
    first = script._choice(by_prompt[tuple(prompts[0]["ids"])], list(prompts[0]["ids"]), 2, chat=False)
    assert found[2].ids == tuple(first["token_ids"])


def test_a_server_of_text_is_asked_for_one_response_at_a_time(folders: tuple[Path, Path], tmp_path: Path) -> None:
    script = ModelServer(folders[0], owner="someone", takes=("text",))
    with served_by(script, folders[0], tmp_path) as (setting, _):
        found = candidates_of(setting.sample(prompts_of(folders[0], TEXTS)))
    assert len(found) == len(script.sampled) == 36
    assert len({body["seed"] for body in script.sampled}) == 36
    assert all("n" not in body and "top_k" not in body for body in script.sampled)
    tokenizer = tiny.make_tokenizer()
    for one in found:
        ids = tokenizer(one.text, add_special_tokens=False)["input_ids"]
        assert list(one.ids) == [*ids, *[tiny.EOS] * one.finished]


def test_messages_are_sent_where_nothing_else_is_taken(tmp_path: Path) -> None:
    text_model.save_text_model(tmp_path / "model", text_model.CHAT_TEMPLATE)
    script = ModelServer(tmp_path / "model", owner="library", takes=("messages",))
    texts = [f"<|user|>{word}</s><|assistant|>" for word in ("hello", "what?")]
    given = [json.dumps([{"role": "user", "content": word}]) for word in ("hello", "what?")]
    prompts = prompts_of(tmp_path / "model", texts, given)  # pyright: ignore
    with served_by(script, tmp_path / "model", tmp_path, length=2, samples=8) as (setting, _):
        found = candidates_of(setting.sample(prompts))
    assert 0 < len(found) <= 16
    assert script.sampled[0]["messages"] in [json.loads(each) for each in given]
    for one in found:
        assert "\ufffd" not in one.text


def test_a_server_that_reads_other_tokens_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    script = ModelServer(folders[0], extra_tokens=1)
    says = (
        r"^bootstrap\.engine_options: http.* does not read the prompts as round 1 does: as tokens: it reads 4 tokens "
    )
    with (
        served_by(script, folders[0], tmp_path) as (setting, _),
        pytest.raises(ConfigError, match=says + r"in place of 3; as text: it reads 4 tokens in place of 3$"),
    ):
        setting.sample(prompts_of(folders[0], TEXTS))
    assert not script.sampled


@pytest.mark.parametrize(("owner", "why"), [("vllm", r"log-probabilities differ by \d.*nats"), ("other", "it contin")])
def test_a_server_with_other_weights_is_refused(
    owner: str, why: str, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """By log-probabilities, or by greedy answers. The message names both models."""
    script = ModelServer(folders[1], owner=owner)
    named = rf"round 1 \({folders[0]}\), but m \({folders[1]}\): {why}"
    with (
        served_by(script, folders[0], tmp_path) as (setting, _),
        pytest.raises(ConfigError, match=rf"^bootstrap\.engine_options: http.* does not serve the weights of {named}"),
    ):
        setting.sample(prompts_of(folders[0], TEXTS))
    assert not script.sampled


@pytest.mark.parametrize(("second", "passes"), [(-0.5, True), (math.nan, False), (-0.52, False)])
def test_log_probabilities_of_every_prompt_must_agree(
    second: float, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first prompt agrees exactly; a difference that is not a number is none that passes."""
    row = torch.tensor([[-0.5, -0.9327521]])
    own = [Own(Prompt(name, name, (1,)), (0,), row, (0,), (-0.5,)) for name in "ab"]
    monkeypatch.setattr(connecting, "_logps", lambda *_: [[-0.5], [second]])
    monkeypatch.setattr(connecting, "_served", lambda *_: "m")
    client: Any = SimpleNamespace(settings=SimpleNamespace(url="http://x"))
    policy: Any = SimpleNamespace(name="round 1", source="folder", dtype="float32")
    refused = pytest.raises(ConfigError, match=r"log-probabilities differ by (nan|0\.02) nats a token")
    with nullcontext() if passes else refused:
        connecting.prove(client, Way("m", "vllm", "tokens"), policy, [], own, [], None, "key")


def test_drawn_tokens_tell_policies_apart_that_agree_on_what_is_likely() -> None:
    """Logits 8, 2, 0 and 8, 1, 0: the most likely token is the same, with log-probabilities that differ by 0.002; the
    second one's differ by 1."""
    policy, other = torch.tensor([[8.0, 2.0, 0.0]]).log_softmax(-1), torch.tensor([[8.0, 1.0, 0.0]]).log_softmax(-1)
    greedy = Own(PROMPT_, (0,), policy, (0,), (float(policy[0, 0]),))
    drawn = Own(PROMPT_, (0,), policy, (1,), (float(policy[0, 1]),))
    assert greedy.mean_difference([float(other[0, 0])]) == pytest.approx(0.0016, abs=2e-4)
    assert drawn.mean_difference([float(other[0, 1])]) == pytest.approx(1.0, abs=2e-3)
    assert drawn.mean_difference([float(policy[0, 1])]) == 0.0


@pytest.fixture(scope="module")
def moved(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first model after a small update, which moves log-probabilities by less than the tolerance."""
    folder = tmp_path_factory.mktemp("moved") / "model"
    shutil.copytree(folders[0], folder)
    weights, generator = load_file(folder / "model.safetensors"), torch.Generator().manual_seed(0)
    for name, value in weights.items():
        weights[name] = value + 1e-4 * torch.randn(value.shape, generator=generator)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@dataclass
class Rounded(ModelServer):
    """Log-probabilities with errors of this size, as of a server that computes in a lower precision."""

    size: float = 0.0

    def _echo(self, body: Any, ids: list[int]) -> Scripted:
        found = super()._echo(body, ids)
        generator = torch.Generator().manual_seed(sum(ids))
        values = found.body["choices"][0]["logprobs"]["token_logprobs"]
        if values is None:
            return found
        rounded = [each and each + self.size * float(torch.randn((), generator=generator)) for each in values]
        found.body["choices"][0]["logprobs"]["token_logprobs"] = rounded
        return found


def sampled_after_an_update(script: ModelServer, folders: tuple[Path, Path], moved: Path, tmp_path: Path) -> None:
    with served_by(script, moved, tmp_path) as (setting, _):
        sampler = make_sampler(
            replace(policy_of(moved), name="round 2", before=policy_of(folders[0])),
            SamplingConfig(engine="server", engine_options={"url": setting.url, "model": "m"}, max_new_tokens=8),
            "bootstrap",
        )
        with closing(Results(setting.store)) as results:
            sample_candidates(
                prompts_of(moved, TEXTS), sampler, params_of(SamplingConfig(), 1, 8), policy="digest", end_tokens=ENDS,
                seed=4, results=results, label="sampling",
            )  # fmt: skip


def test_a_server_of_the_round_before_is_refused_however_little_the_policy_moved(
    folders: tuple[Path, Path], moved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served_by(ModelServer(folders[0]), moved, tmp_path) as (setting, _):
        assert len(setting.sample(prompts_of(moved, TEXTS))) == 36, "within the tolerance"
    (tmp_path / "other").mkdir()
    named = rf"still serves the weights of round 1 \({folders[0]}\) in place of those of round 2 \({moved}\)"
    for size in (0.0, 1e-4):
        script = Rounded(folders[0], size=size)
        with pytest.raises(ConfigError, match=rf"^bootstrap\.engine_options: http.* {named}"):
            sampled_after_an_update(script, folders, moved, tmp_path / "other")
        assert not script.sampled
    capsys.readouterr()
    for size in (0.0, 1e-4):
        sampled_after_an_update(Rounded(moved, size=size), folders, moved, tmp_path / "other")
    assert "alike" not in capsys.readouterr().err


@pytest.mark.parametrize(("owner", "size"), [("vllm", 5e-3), ("other", 0.0)])
def test_a_server_that_cannot_be_told_from_the_round_before_is_a_warning(
    owner: str,
    size: float,
    folders: tuple[Path, Path],
    moved: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its rounding is larger than the update; or it gives greedy answers alone, which are the same."""
    capsys.readouterr()
    sampled_after_an_update(Rounded(moved, owner=owner, size=size), folders, moved, tmp_path)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("may serve the weights of round 2 or those before its training") == 1


@pytest.mark.parametrize(
    ("before", "served", "share", "error"),
    [
        ([-1.0, -2.0, -3.0], [-1.0, -2.0, -3.0], None, None),  # a policy that did not move
        ([-1.2, -2.0, -2.9], [-1.0, -2.0, -3.0], 0.0, 0.0),
        ([-1.2, -2.0, -2.9], [-1.2, -2.0, -2.9], 1.0, 0.0),
        # Rounding of .3 where the policies agree: .09 / 2 over the way's squares, .05.
        ([-1.2, -2.0, -2.9], [-1.0, -2.3, -3.0], 0.0, math.sqrt(0.9)),
    ],
)
def test_how_near_a_server_is_to_the_policy_before(
    before: list[float], served: list[float], share: float | None, error: float | None
) -> None:
    found = nearness_of([-1.0, -2.0, -3.0], before, served)
    if share is None or found is None:
        assert found is share
        return
    assert (found.share, found.error) == (pytest.approx(share, abs=1e-9), pytest.approx(error, abs=1e-9))
    assert found.apart == pytest.approx(0.1)
    assert (found.is_stale, found.is_sure) == (share == 1.0, error == 0.0)


def test_a_server_that_fails_to_prove_its_weights_is_an_error_and_not_asked_for_less(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    class Failing(ModelServer):
        def _echo(self, body: Any, ids: list[int]) -> Scripted:
            return Scripted({"error": {"message": "out of memory"}}, 500)

    script = Failing(folders[0])
    with (
        served_by(script, folders[0], tmp_path) as (setting, _),
        pytest.raises(ConfigError, match=r"did not give the log-probabilities that prove .*out of memory"),
    ):
        setting.sample(prompts_of(folders[0], TEXTS))
    assert not script.sampled


def test_a_server_without_log_probabilities_is_proved_by_its_greedy_answers(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    class Refusing(ModelServer):
        def _echo(self, body: Any, ids: list[int]) -> Scripted:
            return Scripted({"error": {"message": "echo is not supported"}}, 400)

    with served_by(Refusing(folders[0]), folders[0], tmp_path) as (setting, _):
        assert len(setting.sample(prompts_of(folders[0], TEXTS))) == 36


def test_a_server_is_looked_at_when_a_run_starts(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(url: str, model: str) -> str:
        options = {"url": url, "model": model}
        config = SamplingConfig(engine="server", engine_options=options)
        sampler: Any = make_sampler(policy_of(folders[0]), config, "bootstrap")
        capsys.readouterr()  # what loading the model says
        sampler.check()
        return " ".join(capsys.readouterr().err.split())

    script = ModelServer(folders[0])
    with served_by(script, folders[0], tmp_path) as (setting, _):
        assert check(setting.url, "m") == ""
        said = check(setting.url, "n")
        assert said == f"warning: bootstrap.engine_options.model: {setting.url} lists m, and not 'n'"
    assert check(setting.url, "m").startswith("warning: bootstrap.engine_options.url: http")


def test_text_that_does_not_fit_is_dropped_and_counted(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every third response has two spaces, which this tokenizer does not give back. The others keep their places."""
    change = lambda number, text: text if number % 3 else text.replace(" ", "  ")  # noqa: E731
    script = ModelServer(folders[0], owner="someone", change=change)
    plain = ModelServer(folders[0], owner="someone")
    prompts = prompts_of(folders[0], TEXTS)
    with served_by(plain, folders[0], tmp_path) as (setting, _):
        whole = {(one.prompt_id, one.index): one for one in candidates_of(setting.sample(prompts))}
    with served_by(script, folders[0], tmp_path / "other") as (setting, _):
        (tmp_path / "other").mkdir()
        found = candidates_of(setting.sample(prompts, parallel=1))
    assert 24 <= len(found) < 36
    assert [whole[one.prompt_id, one.index] for one in found] == found
    assert [one.prompt_id for one in found] == sorted(one.prompt_id for one in found)
    says = f"{36 - len(found)} of 36 responses of {setting.url} do not fit the policy's tokenizer: {TEXT} "
    assert says in " ".join(capsys.readouterr().err.split())


def test_a_server_of_which_nothing_fits_is_an_error(folders: tuple[Path, Path], tmp_path: Path) -> None:
    script = ModelServer(folders[0], owner="someone", change=lambda number, text: text + "  ")
    with (
        served_by(script, folders[0], tmp_path) as (setting, _),
        pytest.raises(
            ConfigError, match=rf"36 of 36 responses of .* do not fit the policy's tokenizer: {TEXT} 36\. The text"
        ),
    ):
        setting.sample(prompts_of(folders[0], TEXTS))


def test_what_was_answered_before_a_failure_is_not_asked_again(folders: tuple[Path, Path], tmp_path: Path) -> None:
    prompts = prompts_of(folders[0], TEXTS)
    script = ModelServer(folders[0], fail_after=4)
    with served_by(script, folders[0], tmp_path) as (setting, server):
        with pytest.raises(
            ConfigError, match=rf"^bootstrap.*{server.url}.*out of memory.*give the same command again$"
        ):
            setting.sample(prompts)
        assert len(script.sampled) == 4
        script.fail_after = None
        table = setting.sample(prompts)
    assert len(table) == 36
    assert Counter(tuple(body["prompt"]) for body in script.sampled) == {tuple(ids): 1 for ids in prompts["ids"]}
    with served_by(ModelServer(folders[0]), folders[0], tmp_path / "new") as (setting, _):
        (tmp_path / "new").mkdir()
        assert setting.sample(prompts).equals(table)


@pytest.mark.parametrize(
    "body",
    [
        "<html>", {}, {"choices": None}, {"choices": [{"index": 0, "text": None, "finish_reason": "stop"}] * 4},
        {"choices": [None] * 4}, {"choices": ["a"] * 4}, {"choices": [{"text": "w1"}, {"index": 1, "text": "w1"}] * 2},
    ],
)  # fmt: skip
def test_a_server_that_answers_garbage_is_an_error(body: Any, folders: tuple[Path, Path], tmp_path: Path) -> None:
    model = ModelServer(folders[0])

    def script(asked: Any, number: int) -> Scripted:
        sampled = asked.body is not None and asked.body.get("temperature", 0) > 0
        return Scripted(body) if sampled else model(asked, number)

    with (
        fake_server(script, models=None) as server,
        pytest.raises(ConfigError, match=r"^bootstrap\.engine_options.*(not an answer of the OpenAI API|choices)"),
    ):
        Setting(server.url, folders[0], tmp_path / "r.sqlite").sample(prompts_of(folders[0], TEXTS))


@pytest.mark.parametrize("message", ["no", "Server is pinned to 'm'; requested 'other'."])
def test_a_wrong_model_names_its_key_and_the_models_there(
    message: str, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """Also where the server does not say what is wrong."""
    model = ModelServer(folders[0])

    def script(asked: Any, number: int) -> Scripted:
        wrong = asked.body is not None and asked.body["model"] != "m"
        return Scripted({"error": {"message": message}}, 400) if wrong else model(asked, number)

    says = r"^bootstrap\.engine_options\.model: http\S* has no model 'other' \(.*status 400: .*\); it has m$"
    with fake_server(script, models=None) as server, pytest.raises(ConfigError, match=says):
        Setting(server.url, folders[0], tmp_path / "r.sqlite").sample(prompts_of(folders[0], TEXTS[:1]), model="other")


@pytest.mark.parametrize("body", ["<html>", '"a"', "[]", {"data": ["a"]}, {"data": 3}])
def test_a_server_without_a_list_of_models_is_asked_all_the_same(
    body: Any, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    model = ModelServer(folders[0])

    def script(asked: Any, number: int) -> Scripted:
        return Scripted(body) if asked.path.endswith("/models") else model(asked, number)

    with fake_server(script, models=None) as server:
        found = Setting(server.url, folders[0], tmp_path / "r.sqlite").sample(prompts_of(folders[0], TEXTS[:1]))
    assert len(found) == 4


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, r"url is missing"),
        ({"url": "localhost", "model": "m"}, r"url must be an address such as"),
        ({"url": "http://x/v1"}, r"model is missing"),
        ({"url": "http://x/v1", "model": "m", "modle": 1}, r"modle: engine server has no such option; it has url, "),
        ({"url": "http://x/v1", "model": "m", "prompts": "ids"}, r"prompts must be one of tokens, text, messages"),
        ({"url": "http://x/v1", "model": "m", "tolerance": 0}, r"tolerance must be"),
        ({"url": "http://x/v1", "model": "m", "api_key_env": "NO_SUCH_KEY"}, r"api_key_env: .* NO_SUCH_KEY is not set"),
    ],
)
def test_wrong_options_are_refused_with_their_key(options: Any, says: str, folders: tuple[Path, Path]) -> None:
    config = SamplingConfig(engine="server", engine_options=options)
    with pytest.raises(ConfigError, match=rf"^evaluation\.engine_options\.{says}"):
        make_sampler(policy_of(folders[0]), config, "evaluation")


def test_the_identity_does_not_change_with_the_address(folders: tuple[Path, Path]) -> None:
    def identity(**options: Any) -> str:
        config = SamplingConfig(engine="server", engine_options={"url": "http://x:1/v1", "model": "m"} | options)
        return make_sampler(policy_of(folders[0]), config, "bootstrap").identity

    assert identity(url="https://y/v1", parallel=2, timeout=3.0) == identity()
    others = [identity(model="n"), identity(software="vllm"), identity(prompts="text"), identity(extra_body={"k": 1})]
    assert len({identity(), *others}) == 5


# --- what fits

PROMPT_ = Prompt("p", "w0 w1", (3, 4))
WORDS = {"w0": 3, "w1": 4, "w2": 5}


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        (Choice("w0 w1", (3, 4, 0), "stop"), Candidate("p", 7, "w0 w1", (3, 4, 0), True)),
        (Choice("w0 w1", (3, 4), "length"), Candidate("p", 7, "w0 w1", (3, 4), False)),
        (Choice("w0 w1", None, "stop"), Candidate("p", 7, "w0 w1", (3, 4, 0), True)),
        (Choice("w0 w1", None, "length"), Candidate("p", 7, "w0 w1", (3, 4), False)),
        (Choice("", None, "stop"), Candidate("p", 7, "", (0,), True)),
        (Choice("w0", (3, 0, 4), "length"), Candidate("p", 7, "w0", (3, 0), True)),
        (Choice("", None, "length"), EMPTY),
        (Choice("", (), "length"), EMPTY),
        (Choice("w0 w1 w2 w0", None, "stop"), LONG),
        (Choice("w0 w1 w2 w0", (3, 4, 5, 3, 0), "stop"), LONG),
        (Choice("w0  w1", None, "stop"), TEXT),
        (Choice("x", (3, 4000), "length"), UNKNOWN),
        (Choice("w0", None, "content_filter"), "ended by content_filter"),
        (Choice("w0", (3, 0), "tool_calls"), "ended by tool_calls"),
    ],
)
def test_what_comes_back_is_a_candidate_or_has_a_reason(choice: Choice, wanted: Any) -> None:
    question = Question(PROMPT_, (7,), params_of(SamplingConfig(max_new_tokens=4), 1), ENDS, 0)
    fitting = make_fitting(tiny.make_tokenizer(), ENDS, chat=False)
    assert fitting.fit(question, Reply((choice,), None)) == [wanted]


def test_responses_to_a_prompt_that_was_read_otherwise_are_dropped() -> None:
    question = Question(PROMPT_, (0, 1), params_of(SamplingConfig(max_new_tokens=4), 2), ENDS, 0)
    fitting = make_fitting(tiny.make_tokenizer(), ENDS, chat=False)
    both = (Choice("w0", None, "stop"),) * 2
    assert fitting.fit(question, Reply(both, Usage(1, 3, 2))) == [PROMPT, PROMPT]
    assert [type(one) for one in fitting.fit(question, Reply(both, Usage(1, 2, 2)))] == [Candidate, Candidate]


def test_answers_of_conversations_end_as_the_chat_template_ends_them() -> None:
    tokenizer = tiny.make_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}w1 w2 w9 {% endfor %}"
    ends = frozenset({tiny.EOS, WORDS["w2"]})
    assert make_fitting(tokenizer, ends, chat=True).end == WORDS["w2"]
    assert make_fitting(tokenizer, ends, chat=False).end == tiny.EOS
    tokenizer.chat_template = "{{ raise_exception('no conversations') }}"
    with pytest.raises(ModelError, match=r"fails for every conversation.*no conversations"):
        make_fitting(tokenizer, ends, chat=True)


# --- whose weights


def own(logits: list[list[float]], ids: tuple[int, ...]) -> Own:
    rows = torch.full((len(logits), len(tiny.VOCABULARY)), -20.0)
    rows[:, 3:6] = torch.tensor(logits)
    return Own(PROMPT_, ids, rows.log_softmax(-1), ids, (0.0,) * len(ids))


@pytest.mark.parametrize(
    ("text", "ids", "fits"),
    [
        ("w0 w1 w2", (3, 4, 5), True),
        ("w0 w2 w2", (3, 5, 5), True),  # at the second place w1 and w2 are as good as tied; then anything may follow
        ("w0 w2 w0", (3, 5, 3), True),
        ("w1 w1 w2", (4, 4, 5), False),  # w1 is one nat less likely than w0
        ("w0 w1 w0", (3, 4, 3), False),
        ("w0 w0 w2", (3, 3, 5), False),
        ("w0", (3, 0), False),  # nothing says that it could end here
        ("x", (3, 10**6), False),
    ],
)
def test_near_ties_pass_and_other_tokens_do_not(text: str, ids: tuple[int, ...], fits: bool) -> None:
    policy = policy_of_words()
    mine = own([[1.0, 0.0, -1.0], [0.0, 2.0, 1.995], [0.0, 0.0, 3.0]], (3, 4, 5))
    for choice in (Choice(text, ids, "length"), Choice(text, None, "length")):
        assert (departure(policy, mine, choice, 0.01) is None) == fits


def policy_of_words() -> SampledPolicy:
    source = PolicySource("nowhere")
    return SampledPolicy(
        "p", source, "float32", "default", tiny.make_tokenizer(), ENDS, tiny.make_model, PolicyConfig()
    )


# --- a real server


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose text always comes back as the same tokens."""
    folder = tmp_path_factory.mktemp("words")
    tiny.save_model(folder)
    return folder


@pytest.mark.timeout(120)
def test_transformers_serve_samples_from_its_model_and_from_no_other(served: serving.Served, tmp_path: Path) -> None:
    """Ten responses to a prompt are not the greedy one, which this server would give without its own settings."""
    prompts = prompts_of(served.folder, ["hello", "what is it?", "abc", "12"])
    setting = Setting(served.url, served.folder, tmp_path / "r.sqlite", samples=10, length=2)
    found = candidates_of(setting.sample(prompts, model=served.model))
    assert len(found) > 4
    tokenizer = policy_of(served.folder).tokenizer
    for one in found:
        assert one.text == tokenizer.decode(list(one.ids), skip_special_tokens=True)
        assert one.finished == (one.ids[-1] == tiny.EOS)
    assert len({one.text for one in found}) > 4

    changed = tmp_path / "changed"
    text_model.save_text_model(changed, None)
    tiny.save_model(changed, seed=5, vocab_size=259, max_position_embeddings=1024)
    with pytest.raises(ConfigError, match=rf"not serve the weights of round 1 \({changed}\), but {served.folder}: it"):
        Setting(served.url, changed, tmp_path / "s.sqlite").sample(prompts, model=served.model)


@pytest.mark.real
@pytest.mark.timeout(180)
def test_a_real_server_that_is_killed_loses_nothing_and_doubles_nothing(
    words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, kill_at, answers = prompts_of(words, TEXTS), 14, list[tuple[str, int]]()
    original = answering.ask

    def counted(api: Any, question: Question, way: Any) -> Reply:
        reply = original(api, question, way)
        answers.append((question.prompt.prompt_id, question.indices[0]))
        if len(answers) == kill_at:
            os.kill(server.pid, signal.SIGKILL)
        return reply

    monkeypatch.setattr(answering, "ask", counted)
    store = tmp_path / "r.sqlite"
    says = r"http://127.*no connection.*give the same command again"
    with serving.serve(words) as server, pytest.raises(ConfigError, match=says):
        Setting(server.url, words, store).sample(prompts, model=server.model, parallel=1)
    done = {prompt for prompt in {name for name, _ in answers} if sum(name == prompt for name, _ in answers) == 4}
    assert len(done) == 3
    kill_at, before = -1, len(answers)
    with serving.serve(words) as server:
        table = Setting(server.url, words, store).sample(prompts, model=server.model, parallel=1)
    assert len(table) == 36
    assert not done & {name for name, _ in answers[before:]}, "what was complete is not asked again"
    assert Counter(answers[before:]) == {(f"p{n}", i): 1 for n in range(9) for i in range(4) if f"p{n}" not in done}
