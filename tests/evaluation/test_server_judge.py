"""The judge that asks a server: what it asks, how answers are read, what is stored, and what ends it."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_server import Asked, FakeServer, Scripted, chat, fake_server

from seralign.errors import ConfigError, StoreError
from seralign.evaluation.judges import Comparison, Verdict, make_judge
from seralign.evaluation.judges.reading import Unreadable, read
from seralign.evaluation.judges.server import ServerJudge
from seralign.evaluation.judges.templates import load_template
from seralign.evaluation.win_rates import decide
from seralign.records import Prompt
from seralign.runs.results import Results
from seralign.servers import client
from seralign.servers.chat import Reply
from seralign.servers.usage import Usage


def prompt(name: str, **more: Any) -> Prompt:
    return Prompt(name, f"<user>{name}<end>", (1,), **more)


COMPARISONS = [Comparison(prompt(f"p{at}"), f"good {at}", f"bad {at}") for at in range(6)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Results]:
    with closing(Results(tmp_path / "results.sqlite")) as found:
        yield found


def judge_of(server: FakeServer, results: Results | None, **options: Any) -> Any:
    given = {"url": server.url, "model": "m", "retries": 0, **options}
    return make_judge("server", given, None, results=results)


def said(asked: Asked) -> str:
    return asked.body["messages"][-1]["content"]


def first_shown(asked: Asked) -> str:
    """``good`` or ``bad``: what stands first in a question."""
    found = re.search(r"(good|bad) \d", said(asked))
    assert found
    return found[1]


def honest(asked: Asked, number: int) -> Scripted:
    """Prefers what is good, wherever it stands."""
    return chat("Because.\n[[A]]" if first_shown(asked) == "good" else "Because.\n[[B]]", 100, 10)


def _reply(text: str, finished: bool = True, tops: Sequence[dict[str, float]] | None = None) -> Reply:
    return Reply(text, finished, None if tops is None else tuple(tuple(one.items()) for one in tops), None)


@pytest.mark.parametrize(
    ("template", "text", "value"),
    [
        ("pairwise", "A is better. [[A]]", 1.0),
        ("pairwise", "[[B]]", 0.0),
        ("pairwise", "Both. Final verdict: [[C]].", 0.5),
        ("pairwise", "I say [[B]]. So: [[B]]", 0.0),
        ("pairwise", "<think>[[B]] seems right, or [[A]]</think>[[A]]", 1.0),
        ("pairwise", "Not [[A]] but [[B]]", "several verdicts that contradict each other"),
        ("pairwise", "A", "no verdict"),
        ("pairwise", "[[D]]", "no verdict"),
        ("pairwise", "", "no verdict: .an empty answer."),
        ("pairwise", "<think>[[A]] hm", "the answer ends within its reasoning"),
        ("five_grades", "[[A>>B]]", 1.0),
        ("five_grades", "My verdict: [[A>B]]", 0.75),
        ("five_grades", "[[A=B]]", 0.5),
        ("five_grades", "[[B>A]]", 0.25),
        ("five_grades", "[[B>>A]]", 0.0),
        ("five_grades", "[[A>A]]", "a verdict that the template does not list"),
        ("five_grades", "[[A>B]] or [[A>>B]]", "several verdicts"),
        ("five_grades", "[[A=B]], that is [[B=A]]", 0.5),
        ("single", "Rating: [[7]]", 7.0),
        ("single", "Rating: [[7.5]]", 7.5),
        ("single", "[[10]] out of 10, thus [[10.0]]", 10.0),
        ("single", "[[0]]", "a grade that is not on the scale"),
        ("single", "[[11]]", "a grade that is not on the scale"),
        ("single", "7", "no verdict"),
        ("single", "[[3]] and [[4]]", "several verdicts"),
    ],
)
def test_answers_are_read_by_the_template_and_never_guessed(template: str, text: str, value: float | str) -> None:
    found = read(load_template(template, "key"), _reply(text))
    if isinstance(value, str):
        assert isinstance(found, Unreadable)
        assert re.match(value, found.reason)
    else:
        assert found == value


def test_a_cut_answer_says_that_it_was_cut() -> None:
    found = read(load_template("pairwise", "key"), _reply("First, assistant A", finished=False))
    assert found == Unreadable("no verdict before the answer was cut: First, assistant A")


@pytest.mark.parametrize(
    ("tops", "value"),
    [
        ([{"m": math.log(0.6), "M": math.log(0.2), "x": math.log(0.2)}], 0.75),
        ([{"m": math.log(0.5), " m": math.log(0.1), "M": math.log(0.2)}], 0.75),
        ([{"M": math.log(0.9), "x": math.log(0.1)}], 0.0),
        ([{"\u0120m": math.log(0.6), "\u2581M": math.log(0.2)}], 0.75),
        # A line break before the answer: the next token is read.
        ([{"\n": math.log(0.9), "M": math.log(0.05)}, {"m": math.log(0.8), "M": math.log(0.2)}], 0.8),
        ([{"m": math.log(0.26), "M": math.log(0.25), "x": math.log(0.4)}], 26 / 51),
        ([{"x": math.log(0.9), "y": math.log(0.1)}], None),
        ([{"x": math.log(0.9)}, {"m": 0.0}], None),
        ([], None),
    ],
)
def test_probabilities_of_the_answer_token(tops: list[dict[str, float]], value: float | None) -> None:
    """p = p(m) / (p(m) + p(M)): 0.6 and 0.2 give 0.75."""
    found = read(load_template("pairwise_logprobs", "key"), _reply("m", tops=tops))
    if value is None:
        assert isinstance(found, Unreadable)
        assert found.reason.startswith("none of m, M is among the most probable tokens")
    else:
        assert found == pytest.approx(value)


@pytest.mark.parametrize(
    "tops",
    [
        # A letter that is not among the most probable tokens must not make the other one certain.
        [{"The": math.log(0.8), "M": math.log(0.05)}],
        [{"m": math.log(0.25), "M": math.log(0.24), "x": math.log(0.4)}],
        # The answer is a line break.
        [{"\n": math.log(0.9), "M": math.log(0.05)}],
    ],
)
def test_letters_that_are_improbable_together_are_no_verdict(tops: list[dict[str, float]], tmp_path: Path) -> None:
    template = load_template("pairwise_logprobs", "key")
    found = read(template, _reply("The", tops=tops))
    assert found == Unreadable("m, M together have a probability below 0.5 (min_probability): The")
    lenient = replace(template, min_probability=0.0)
    assert isinstance(read(lenient, _reply("The", tops=tops)), float)
    assert lenient.digest != template.digest, "verdicts that were read by another rule are not used again"


def test_both_orders_are_asked_and_averaged(results: Results) -> None:
    """One judge sees the better answer; one always prefers the first place, which gives a tie of two winners."""
    with fake_server(honest) as server:
        verdicts = decide(judge_of(server, results), COMPARISONS, results, "a against b")
        assert len(server.asked) == 12
        shown = Counter(first_shown(asked) for asked in server.asked)
        assert shown == {"good": 6, "bad": 6}
        request = server.asked[0].body
        server.script = lambda asked, number: chat("[[A]]")
        biased = decide(judge_of(server, results, model="biased"), COMPARISONS, results, "a against b")
    explanation = "Because.\n[[A]]\n\n---\n\nBecause.\n[[B]]"
    assert verdicts == [Verdict(1.0, None, explanation, orders=(1.0, 1.0), usage=Usage(2, 200, 20))] * 6
    assert [(verdict.first_better, verdict.orders) for verdict in biased] == [(0.5, (1.0, 0.0))] * 6
    assert {key: request[key] for key in ("model", "temperature", "top_p", "max_tokens")} == {
        "model": "m", "temperature": 0.0, "top_p": 1.0, "max_tokens": 1024,
    }  # fmt: skip
    assert "logprobs" not in request


def test_one_order_is_asked_once_and_the_same_when_the_responses_change_places() -> None:
    with fake_server(honest) as server:
        judge = judge_of(server, None, orders="one")
        many = [Comparison(prompt(f"p{at}"), f"good {at % 10}", f"bad {at}") for at in range(30)]
        turned = [replace(one, first=one.second, second=one.first) for one in many]
        straight = dict(judge.judge(many))
        asked = sorted(said(one) for one in server.asked)
        back = dict(judge.judge(turned))
        assert sorted(said(one) for one in server.asked[30:]) == asked
        shown = Counter(first_shown(one) for one in server.asked[:30])
    assert min(shown["good"], shown["bad"]) > 5
    assert {verdict.first_better for verdict in straight.values()} == {1.0}
    assert {verdict.first_better for verdict in back.values()} == {0.0}
    assert {verdict.orders for verdict in straight.values()} == {None}


def test_token_probabilities_are_averaged_over_both_orders(results: Results) -> None:
    """The better one has 0.9 when it stands first, 0.6 when it stands second: 0.75."""

    def script(asked: Asked, number: int) -> Scripted:
        p = 0.9 if first_shown(asked) == "good" else 0.4
        return chat("m", logprobs=[{"m": math.log(p), "M": math.log(1 - p)}])

    with fake_server(script) as server:
        judge = judge_of(server, results, template="pairwise_logprobs")
        verdicts = decide(judge, COMPARISONS, results, "a against b")
        body = server.asked[0].body
        again = decide(judge, COMPARISONS, results, "a against b")
    for verdict in verdicts:
        assert verdict.orders == (pytest.approx(0.9), pytest.approx(0.6))
        assert verdict.first_better == pytest.approx(0.75)
    assert again == verdicts
    assert (body["logprobs"], body["top_logprobs"], body["max_tokens"], body["temperature"]) == (True, 20, 1, 1.0)


def test_a_server_without_log_probabilities_is_one_clear_error(results: Results) -> None:
    with fake_server(lambda asked, number: chat("m")) as server:
        judge = judge_of(server, results, template="pairwise_logprobs")
        says = r"^evaluation\.judge_options\.template: http\S+ returns no log-probabilities of tokens, which pairwise_l"
        with pytest.raises(ConfigError, match=says):
            decide(judge, COMPARISONS, results, "a against b")


def test_each_response_is_graded_once_whatever_it_is_compared_with(results: Results) -> None:
    """Three responses of grades 8, 5 and 5, in all three pairs: 1, 1, 0.5, for three requests."""
    grades = {"good 0": 8, "bad 0": 5, "bad 1": 5}

    def script(asked: Asked, number: int) -> Scripted:
        (text,) = [name for name in grades if name in said(asked)]
        return chat(f"Fine. [[{grades[text]}]]", 100, 10)

    pairs = [Comparison(prompt("p"), *pair) for pair in (("good 0", "bad 0"), ("good 0", "bad 1"), ("bad 0", "bad 1"))]
    with fake_server(script) as server:
        first = decide(judge_of(server, results, template="single"), pairs[:1], results, "a against b")
        verdicts = decide(judge_of(server, results, template="single"), pairs, results, "a against b")
        assert len(server.asked) == 3
    assert verdicts[:1] == first
    assert [verdict.first_better for verdict in verdicts] == [1.0, 1.0, 0.5]
    assert [verdict.scores for verdict in verdicts] == [(8.0, 5.0), (8.0, 5.0), (5.0, 5.0)]
    assert {verdict.orders for verdict in verdicts} == {None}


def test_equal_responses_are_a_tie_that_costs_nothing(results: Results) -> None:
    with fake_server(honest) as server:
        found = decide(judge_of(server, results), [Comparison(prompt("p"), "same", "same")], results, "a against b")
        assert server.asked == []
    assert found == [Verdict(0.5, explanation="the responses are equal")]


def test_what_cannot_be_read_is_stored_and_a_failed_request_is_not(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    """p0: no verdict in one order. p1: the second request fails, and later succeeds; the first is not sent again."""

    def script(asked: Asked, number: int) -> Scripted:
        if "bad 0" in said(asked) and first_shown(asked) == "bad":
            return chat("I cannot say.", 100, 10)
        if "bad 1" in said(asked) and first_shown(asked) == "bad" and broken:
            return Scripted({"error": {"message": "overloaded"}}, 503)
        return honest(asked, number)

    broken = True
    with fake_server(script) as server:
        verdicts = decide(judge_of(server, results), COMPARISONS[:3], results, "a against b")
        assert len(server.asked) == 6
        broken = False
        again = decide(judge_of(server, results), COMPARISONS[:3], results, "a against b")
        assert len(server.asked) == 7
        assert "bad 1" in said(server.asked[-1])
        assert decide(judge_of(server, results), COMPARISONS[:3], results, "a against b", replay=True) == again
    assert verdicts[0] == again[0]
    assert verdicts[0].first_better is None
    assert verdicts[0].unreadable == "no verdict: I cannot say."
    assert (verdicts[0].orders, verdicts[0].error, verdicts[0].usage) == (None, None, Usage(2, 200, 20))
    assert verdicts[1] == Verdict(None, error="status 503: overloaded")
    assert [verdict.first_better for verdict in again] == [None, 1.0, 1.0]
    told = " ".join(capsys.readouterr().err.split())
    assert "1: the judge's answer could not be read (one of them: no verdict: I cannot say.); they are ignored" in told


def test_a_budget_stops_cleanly_and_what_is_decided_stays(results: Results) -> None:
    """110 tokens a request, one at a time: at 450 of 400 tokens two comparisons are decided, not a third."""
    with fake_server(honest) as server:
        judge = judge_of(server, results, parallel=1, max_tokens_spent=400)
        says = (
            r"^evaluation\.judge_options\.max_tokens_spent: the budget is spent, 440 of 400 in 4 requests; of 6 open "
            r"comparisons, 2 are decided and stored; raise it, or give the same command again"
        )
        with pytest.raises(ConfigError, match=says):
            decide(judge, COMPARISONS, results, "a against b")
        assert len(server.asked) == 4
        assert judge.usage == Usage(4, 400, 40)
        verdicts = decide(judge_of(server, results), COMPARISONS, results, "a against b")
        assert len(server.asked) == 12
    assert [verdict.first_better for verdict in verdicts] == [1.0] * 6


def test_a_budget_in_money(results: Results) -> None:
    """100 tokens at 20 and 10 at 100 a million: 0.003 a request, 0.006 a comparison."""
    prices = {"prompt": 20.0, "completion": 100.0}
    with fake_server(honest) as server:
        judge = judge_of(server, results, parallel=1, prices=prices, max_cost=0.0119)
        with pytest.raises(ConfigError, match=r"max_cost: the budget is spent, 0\.012 of 0\.0119 in 4 requests"):
            decide(judge, COMPARISONS, results, "a against b")
        assert judge.usage.cost == pytest.approx(0.012)
        verdicts = decide(judge_of(server, results, prices=prices), COMPARISONS, results, "a against b")
    costs = [verdict.usage.cost for verdict in verdicts if verdict.usage]
    assert costs == [pytest.approx(0.006)] * 6


def test_requests_under_way_count_for_the_budget(results: Results) -> None:
    """Eight at a time of 110 tokens each: without them 8 more would be sent after the first answers."""

    def slow(asked: Asked, number: int) -> Scripted:
        return Scripted(honest(asked, number).body, delay=0.02)

    many = [Comparison(prompt(f"p{at}"), f"good {at % 10}", f"bad {at}") for at in range(40)]
    with fake_server(slow) as server:
        with pytest.raises(ConfigError, match="max_tokens_spent: the budget is spent"):
            decide(judge_of(server, results, max_tokens_spent=2200), many, results, "a against b")
        assert 18 <= len(server.asked) <= 22


def test_a_budget_needs_a_server_that_counts(results: Results) -> None:
    def script(asked: Asked, number: int) -> Scripted:
        return Scripted({**chat("[[A]]").body, "usage": None})

    with fake_server(script) as server:
        with pytest.raises(ConfigError, match=r"max_tokens_spent: http.* does not report the tokens of its answers"):
            decide(judge_of(server, results, max_tokens_spent=100), COMPARISONS, results, "a against b")
        verdicts = decide(judge_of(server, results), COMPARISONS, results, "a against b")
    assert {verdict.usage for verdict in verdicts} == {Usage(2, unreported=2)}


def test_a_wrong_key_ends_the_work_and_what_was_answered_is_kept(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-secret")

    def script(asked: Asked, number: int) -> Scripted:
        return honest(asked, number) if number < 4 else Scripted({"error": {"message": "expired"}}, 401)

    with fake_server(script) as server:
        judge = judge_of(server, results, parallel=1, api_key_env="MY_KEY")
        with pytest.raises(ConfigError, match=r"^evaluation\.judge_options\.api_key_env: .* refuses the key in MY_KEY"):
            decide(judge, COMPARISONS, results, "a against b")
        server.script = honest
        decide(judge_of(server, results), COMPARISONS, results, "a against b")
        assert len(server.asked) == 5 + 8
    stored = results.path.read_bytes()
    assert b"sk-secret" not in stored


def test_a_replay_needs_no_server_and_no_key(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_server(honest) as server:
        verdicts = decide(judge_of(server, results), COMPARISONS[:4], results, "a against b")
    options = {"url": "http://127.0.0.1:9/v1", "model": "m", "api_key_env": "NOT_SET"}
    judge = make_judge("server", options, None, results=results)
    assert decide(judge, COMPARISONS[:4], results, "a against b", replay=True) == verdicts
    with pytest.raises(StoreError, match=r"no stored verdict on 2 of 6 comparisons .* \(server m, pairwise, "):
        decide(judge, COMPARISONS, results, "a against b", replay=True)
    with pytest.raises(ConfigError, match="the environment variable NOT_SET is not set"):
        decide(judge, COMPARISONS, results, "a against b")


def test_a_killed_evaluation_resumes_and_asks_only_what_was_not_answered(tmp_path: Path) -> None:
    """Killed after 21 requests, of which at most 4 were under way."""
    code = tmp_path / "judges.py"
    code.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from seralign.evaluation.judges import Comparison, make_judge\n"
        "from seralign.evaluation.win_rates import decide\n"
        "from seralign.records import Prompt\n"
        "from seralign.runs.results import Results\n"
        "results = Results(Path(sys.argv[2]))\n"
        "judge = make_judge('server', {'url': sys.argv[1], 'model': 'm', 'parallel': 4}, None, results=results)\n"
        "asked = [Comparison(Prompt(str(at), 'q', (1,)), f'good {at % 10}{at}', f'bad {at}') for at in range(20)]\n"
        "print([verdict.first_better for verdict in decide(judge, asked, results, 'a against b')])\n"
        "results.close()\n"
    )
    command = [sys.executable, str(code)]
    answered = []

    def script(asked: Asked, number: int) -> Scripted:
        if number >= 21 and not resumed:
            return Scripted(chat("late").body, delay=5)
        answered.append(said(asked))
        return honest(asked, number)

    resumed = False
    with fake_server(script) as server:
        command += [server.url, str(tmp_path / "results.sqlite")]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(server.asked) < 25 and running.poll() is None:
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        resumed = True
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert len(server.asked) == 25 + 40 - 21
    assert done.stdout == f"{[1.0] * 20}\n"
    assert len(set(answered)) == len(answered) == 40


def test_a_template_of_your_own(tmp_path: Path, results: Results) -> None:
    """A response with a placeholder in it stays as it is."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "messages:\n"
        "- {role: user, content: 'Q: {prompt} / 1: {first} / 2: {second} / json: {\"winner\": 1}'}\n"
        "pattern: '\"winner\": (1|2|0)'\n"
        "labels: {'1': 1.0, '2': 0.0, '0': 0.5}\n"
        "max_tokens: 7\n",
        encoding="utf-8",
    )
    with fake_server(lambda asked, number: chat('{"winner": 1}')) as server:
        judge = judge_of(server, results, template=str(path))
        found = decide(judge, [Comparison(prompt("p"), "a {second}", "b")], results, "a against b")
        bodies = sorted(said(asked) for asked in server.asked)
        assert server.asked[0].body["max_tokens"] == 7
        before = judge.identity
        path.write_text(path.read_text(encoding="utf-8").replace("Q:", "Question:"), encoding="utf-8")
        assert judge_of(server, results, template=str(path)).identity != before
    assert bodies == [
        'Q: <user>p<end> / 1: a {second} / 2: b / json: {"winner": 1}',
        'Q: <user>p<end> / 1: b / 2: a {second} / json: {"winner": 1}',
    ]
    assert found[0].first_better == 0.5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("messages: []", r"labels or scale must be set"),
        ("messages: 3", "messages must be a list of sections, got 3"),
        ("messages: [{role: bot, content: x}]\nlabels: {a: 1, b: 0}", r"messages\[0\] must be a role"),
        ("messages: [{role: user, content: '{prompt} {answer_a}'}]\nlabels: {a: 1, b: 0}",
         r"must have the placeholders \{first\}, \{prompt\}, \{second\} and no others; wrong or missing: \{answer_a\}"),
        ("messages: [{role: user, content: '{prompt}{first}{second}'}]\nscale: [1, 10]\npattern: (x)",
         r"must have the placeholders \{prompt\}, \{response\} and no others"),
        ("messages: [{role: user, content: '{prompt}{first}{second}'}]\nlabels: {a: 1, b: 2}",
         r"labels must be at least two labels with numbers in \[0, 1\]"),
        ("messages: [{role: user, content: '{prompt}{response}'}]\nscale: [1, 10]", "pattern must be set"),
        ("messages: [{role: user, content: '{prompt}{first}{second}'}]\nlabels: {a: 1, b: 0}\nmin_probability: 1.5",
         "min_probability must be between 0 and 1"),
        ("messages: [{role: user, content: '{prompt}{first}{second}'}]\nlabels: {a: 1, b: 0}\npattern: (a|b)\n"
         "min_probability: 0.5", "min_probability is for templates without a pattern"),
        ("messages: [{role: user, content: '{prompt}{response}'}]\nscale: [10, 1]\npattern: (x)", "scale must be"),
        ("messages: [{role: user, content: '{prompt}{first}{second}'}]\nlabels: {a: 1, b: 0}\npattern: '(('",
         "pattern is no regular expression"),
        ("messages: [{role: user, content: '{prompt}{first}{second}'}]\nlabels: {a: 1, b: 0}\npattern: 'x'",
         "pattern must be a regular expression with a group"),
        ("mesages: []", "mesages"),
    ],
)  # fmt: skip
def test_a_wrong_template_names_its_file_and_key(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"^evaluation\.judge_options\.template: {path}: .*{says}"):
        make_judge("server", {"url": "http://x/v1", "model": "m", "template": str(path)}, None)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, r"url is missing"),
        ({"url": "http://x/v1"}, "model is missing"),
        ({"url": "x", "model": "m"}, "url must be an address"),
        ({"template": "pairwse"}, "template must be one of five_grades, pairwise, pairwise_logprobs, single, or the"),
        ({"template": "no.yaml"}, "template: there is no file no.yaml"),
        ({"orders": "three"}, "orders must be one of both, one, got 'three'"),
        ({"api_key": "x"}, "api_key"),
        ({"temperature": -1}, "temperature must be at least 0"),
        ({"extra": {"model": "x"}}, "extra must not have model"),
        ({"max_cost": 1.0}, "max_cost needs prices"),
        ({"max_cost": 1.0, "prices": {"prompt": 1.0}}, "prices.completion is missing"),
        ({"max_tokens_spent": 0}, "max_tokens_spent must be greater than 0"),
    ],
)
def test_options_that_cannot_be_are_refused_at_the_start(options: dict[str, Any], says: str) -> None:
    given = options if "url" in options or not options else {"url": "http://x/v1", "model": "m", **options}
    with pytest.raises(ConfigError, match=rf"^evaluation\.judge_options\.{says}"):
        make_judge("server", given, None)


def test_the_identity_covers_what_a_verdict_depends_on_and_nothing_else() -> None:
    def identity(**options: Any) -> str:
        return make_judge("server", {"url": "http://x/v1", "model": "m", **options}, None).identity

    same: list[dict[str, Any]] = [
        {"url": "http://other/v1"}, {"parallel": 2}, {"retries": 9}, {"timeout": 3.0}, {"max_tokens_spent": 5},
        {"prices": {"prompt": 1.0, "completion": 2.0}}, {"temperature": 0.0}, {"top_logprobs": 5},
    ]  # fmt: skip
    other: list[dict[str, Any]] = [
        {"model": "n"}, {"template": "five_grades"}, {"orders": "one"}, {"temperature": 0.5}, {"top_p": 0.5},
        {"seed": 1}, {"max_tokens": 5}, {"extra": {"reasoning_effort": "low"}},
    ]  # fmt: skip
    assert {identity(**options) for options in same} == {identity()}
    assert len({identity(), *(identity(**options) for options in other)}) == len(other) + 1


def test_a_conversation_is_shown_without_the_marks_of_the_template() -> None:
    shown: list[str] = []

    def script(asked: Asked, number: int) -> Scripted:
        shown.append(said(asked).split("[Request]\n")[1].split("\n[End of the request]")[0])
        return chat("[[A]]")

    one = '[{"role": "user", "content": "Why?"}]'
    two = (
        '[{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Why"}, '
        '{"type": "text", "text": "?"}]}, {"role": "assistant", "content": null, "tool_calls": [{"id": 1}]}]'
    )
    prompts = [prompt("a", messages=one), prompt("b", messages=two), prompt("c"),
               prompt("d", messages=one, template_inputs='{"tools": []}')]  # fmt: skip
    with fake_server(script) as server:
        judge: ServerJudge = judge_of(server, None, orders="one", parallel=1)
        list(judge.judge([Comparison(each, "good 1", "bad 1") for each in prompts]))
    assert shown == [
        "Why?",
        'system: Be brief.\n\nuser: Why?\n\nassistant: {"tool_calls": [{"id": 1}]}',
        "<user>c<end>",
        'template inputs: {"tools": []}\n\nuser: Why?',
    ]


def test_other_keys_of_a_request_are_sent() -> None:
    extra = {"max_completion_tokens": 9, "reasoning_effort": "low"}
    with fake_server(honest) as server:
        list(judge_of(server, None, extra=extra, seed=3, temperature=1.0).judge(COMPARISONS[:1]))
        body = server.asked[0].body
    assert {key: body[key] for key in (*extra, "seed", "temperature")} == {**extra, "seed": 3, "temperature": 1.0}
    assert "max_tokens" not in body


def test_a_model_that_wants_another_name_of_the_limit_gets_it(results: Results) -> None:
    def script(asked: Asked, number: int) -> Scripted:
        if "max_tokens" in asked.body:
            says = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
            return Scripted({"error": {"message": says, "param": "max_tokens", "code": "unsupported_parameter"}}, 400)
        return honest(asked, number)

    with fake_server(script) as server:
        judge = judge_of(server, results, parallel=1, max_tokens=7)
        verdicts = decide(judge, COMPARISONS, results, "a against b")
        assert [one.first_better for one in verdicts] == [1.0] * 6
        assert [one.body.get("max_completion_tokens") for one in server.asked] == [None, *[7] * 12], "refused once"


def test_a_wrong_model_is_one_error_before_all_questions(results: Results) -> None:
    def script(asked: Asked, number: int) -> Scripted:
        return Scripted({"detail": "Server is pinned to '/a'; requested 'm'."}, 400)

    with fake_server(script, models=("big", "small")) as server:
        says = r"^evaluation\.judge_options\.model: .* has no model 'm' .*; it has big, small$"
        with pytest.raises(ConfigError, match=says):
            decide(judge_of(server, results), COMPARISONS, results, "a against b")
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda body: {**body, "choices": []},
        lambda body: {"choices": None},
        lambda body: [],
        lambda body: {**body, "choices": [{"message": {"content": 3}, "finish_reason": "stop"}]},
        lambda body: "a page",
    ],
)
def test_what_is_no_chat_completion_is_a_failed_request(wrong: Callable[[Any], Any], results: Results) -> None:
    def script(asked: Asked, number: int) -> Scripted:
        good = honest(asked, number)
        return Scripted(wrong(good.body)) if "bad 0" in said(asked) else good

    with fake_server(script) as server:
        verdicts = decide(judge_of(server, results, retries=1), COMPARISONS[:2], results, "a against b")
    assert (verdicts[0].error or "").startswith("not an answer of the OpenAI API: ")
    assert verdicts[1].first_better == 1.0
