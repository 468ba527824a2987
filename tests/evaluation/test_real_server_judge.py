"""The judge that asks a server, against a real one: ``transformers serve`` with a tiny random model."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import serving
import text_model

from seralign.errors import ConfigError
from seralign.evaluation.judges import Comparison, make_judge
from seralign.evaluation.judges.storing import asked_verdicts, stored_verdicts
from seralign.evaluation.win_rates import decide
from seralign.records import Prompt
from seralign.runs.results import Results
from seralign.servers.process import free_port

COMPARISONS = [
    Comparison(Prompt(str(at), f"Why {at}?", (at,)), f"Because {at}.", f"It is not so, {at}.") for at in range(6)
]
# Any answer reads as 0.25.
ANYTHING = """
messages:
- {role: user, content: '{prompt} {first} {second}'}
pattern: '(?s)\\A.*?()\\Z'
labels: {'': 0.25, x: 0.75}
max_tokens: 8
"""


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Results]:
    with closing(Results(tmp_path / "results.sqlite")) as found:
        yield found


@pytest.fixture
def anything(tmp_path: Path) -> str:
    path = tmp_path / "anything.yaml"
    path.write_text(ANYTHING, encoding="utf-8")
    return str(path)


def test_a_random_model_is_asked_and_what_it_says_is_stored_as_unreadable(
    served: serving.Served, results: Results
) -> None:
    options = {"url": served.url, "model": served.model, "max_tokens": 8, "parallel": 2}
    judge = make_judge("server", options, None, results=results)
    found = dict(asked_verdicts(judge, COMPARISONS[:2], results))
    assert dict(stored_verdicts(judge, COMPARISONS[:2], results)) == found
    for verdict in found.values():
        assert (verdict.first_better, verdict.error) == (None, None)
        assert (verdict.unreadable or "").startswith("no verdict before the answer was cut: ")
        assert verdict.usage is not None
        assert verdict.usage.requests == 2
        assert verdict.usage.prompt_tokens > 100
        assert 2 <= verdict.usage.completion_tokens <= 16


def test_every_order_is_asked_and_a_replay_gives_the_same(
    served: serving.Served, results: Results, anything: str
) -> None:
    """A template that reads 0.25 from any answer: 0.25 in one order and 0.75 in the other."""
    options = {"url": served.url, "model": served.model, "template": anything, "parallel": 2}
    judge = make_judge("server", options, None, results=results)
    verdicts = decide(judge, COMPARISONS[:2], results, "a against b")
    assert [(one.first_better, one.orders) for one in verdicts] == [(0.5, (0.25, 0.75))] * 2
    away = make_judge("server", {**options, "url": "http://127.0.0.1:9/v1"}, None, results=results)
    assert decide(away, COMPARISONS[:2], results, "a against b", replay=True) == verdicts


def test_a_wrong_model_is_one_error(served: serving.Served, results: Results) -> None:
    judge: Any = make_judge("server", {"url": served.url, "model": "someone/else"}, None, results=results)
    says = r"^evaluation\.judge_options\.model: .* has no model 'someone/else' \(status 400: Server is pinned to"
    with pytest.raises(ConfigError, match=says):
        decide(judge, COMPARISONS, results, "a against b")
    assert judge.usage.requests == 0


@pytest.mark.real
def test_a_server_that_is_killed_and_started_again_is_asked_only_for_the_rest(
    tmp_path: Path, results: Results, anything: str
) -> None:
    folder, port = tmp_path / "model", free_port()
    text_model.save_text_model(folder, text_model.CHAT_TEMPLATE)
    options = {"url": f"http://127.0.0.1:{port}/v1", "model": str(folder), "template": anything, "parallel": 1,
               "retries": 0}  # fmt: skip
    judge = make_judge("server", options, None, results=results)
    decided = []

    def kill_after_two(pid: int) -> None:
        for comparison, verdict in asked_verdicts(judge, COMPARISONS, results):
            if verdict.error is None:
                decided.append(comparison)
                if len(decided) == 2:
                    os.kill(pid, signal.SIGKILL)

    with serving.serve(folder, port=port) as server, pytest.raises(ConfigError, match="no longer answers"):
        kill_after_two(server.pid)
    assert len(decided) == 2
    with serving.serve(folder, port=port):
        again = make_judge("server", options, None, results=results)
        verdicts = decide(again, COMPARISONS, results, "a against b")
        assert again.usage.requests == 8  # pyright: ignore[reportAttributeAccessIssue]
    assert [one.first_better for one in verdicts] == [0.5] * 6
