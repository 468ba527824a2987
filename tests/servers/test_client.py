"""The client of servers: what is sent again, how fast, what ends it, and that no key is shown."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from fake_server import Asked, FakeServer, Script, Scripted, chat, fake_server

from seralign.config.server import ServerConfig
from seralign.config.values import build
from seralign.errors import ConfigError
from seralign.servers import client as module
from seralign.servers.client import Client, ServerFailure
from seralign.servers.pace import Pace
from seralign.servers.usage import Usage

KEY = "evaluation.judge_options"
SECRET = "sk-very-secret-0123456789abcdef"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_WAIT", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def ask(api: Any, item: str) -> Any:
    return api.chat.completions.create(model="m", messages=[{"role": "user", "content": item}])


def said(asked: Asked) -> str:
    return asked.body["messages"][0]["content"]


def client(server: FakeServer, **settings: Any) -> Client:
    return Client(ServerConfig(**{"url": server.url, "model": "m", "retries": 2, **settings}), KEY)


def answers(one: Client, items: Any) -> dict[str, Any]:
    found = {}
    for item, answer in one.map(items, ask):
        assert item not in found
        found[item] = answer if isinstance(answer, ServerFailure) else answer.choices[0].message.content
    return found


def echo(asked: Asked, number: int) -> Scripted:
    return chat(said(asked).upper(), 10, 2)


def test_every_item_is_answered_once_in_parallel_and_usage_is_added_up() -> None:
    def slow(asked: Asked, number: int) -> Scripted:
        return Scripted(echo(asked, number).body, delay=0.05)

    with fake_server(slow) as server:
        one = client(server, parallel=4)
        assert answers(one, (f"q{at}" for at in range(12))) == {f"q{at}": f"Q{at}" for at in range(12)}
        assert answers(one, []) == {}
        assert len(server.asked) == 12
        assert server.most_at_once == 4
    assert one.usage == Usage(12, 120, 24)
    assert one.usage.tokens == 144


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (Scripted({"error": {"message": "busy"}}, 429), "status 429: busy (3 attempts)"),
        (Scripted("<html>broken", 502, {"content-type": "text/html"}), "status 502: <html>broken (3 attempts)"),
        (Scripted("{no json"), "not an answer of the OpenAI API: "),
        (Scripted(echo, delay=1), "no answer within 0.3 s (3 attempts)"),
    ],
)
def test_a_failed_request_is_sent_again_and_at_last_is_a_failure(wrong: Scripted, reason: str) -> None:
    """Request b fails always, a only the first time. The other requests are untouched."""

    def script(asked: Asked, number: int) -> Scripted:
        first = sum(said(one) == said(asked) for one in server.asked) == 1
        if said(asked) == "b" or (said(asked) == "a" and first):
            return wrong if not callable(wrong.body) else Scripted(chat("late").body, delay=wrong.delay)
        return echo(asked, number)

    with fake_server(script) as server:
        found = answers(client(server, timeout=0.3), "abc")
        counts = {name: sum(said(one) == name for one in server.asked) for name in "abc"}
    failure = found.pop("b")
    assert found == {"a": "A", "c": "C"}
    assert isinstance(failure, ServerFailure)
    assert failure.again
    assert failure.reason.startswith(reason)
    assert counts == {"a": 2, "b": 3, "c": 1}


def test_a_request_that_the_server_refuses_for_what_it_says_is_not_sent_again() -> None:
    def script(asked: Asked, number: int) -> Scripted:
        long = Scripted({"error": {"message": "the context is 4096 tokens long"}}, 400)
        return long if said(asked) == "b" else echo(asked, number)

    with fake_server(script) as server:
        found = answers(client(server), "abc")
        assert len(server.asked) == 3
    assert found == {"a": "A", "b": ServerFailure("status 400: the context is 4096 tokens long", False), "c": "C"}


@pytest.mark.parametrize("dated", [False, True])
def test_the_server_says_how_long_to_wait_and_then_nothing_is_sent_before(dated: bool) -> None:
    def script(asked: Asked, number: int) -> Scripted:
        if number:
            return echo(asked, number)
        # A date has whole seconds, and may so lie up to a second earlier.
        until = format_datetime(datetime.now(UTC) + timedelta(seconds=1.5), usegmt=True) if dated else "0.5"
        return Scripted({"error": {"message": "slow down"}}, 429, {"retry-after": until})

    with fake_server(script) as server:
        assert answers(client(server, parallel=1), "abc") == {"a": "A", "b": "B", "c": "C"}
        times = [one.at for one in server.asked]
    assert len(times) == 4
    assert 0.45 <= times[1] - times[0] < 2.5


def test_a_server_that_asks_for_an_hour_ends_the_work() -> None:
    with fake_server(lambda asked, number: Scripted({}, 429, {"retry-after": "3600"})) as server:
        says = rf"^{KEY}\.url: http.* asks to wait 3600 s .*give the same command again after that$"
        with pytest.raises(ConfigError, match=says):
            answers(client(server), "abc")


class Clock:
    """A clock that stands still but for those who wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("seralign.servers.pace.time.monotonic", lambda: self.now)

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> None:
        self.now += seconds


def test_requests_keep_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """120 a minute: one every half second, also after a time without requests."""
    clock: Any = Clock(monkeypatch)
    pace, times = Pace(120, None), []
    for _ in range(4):
        pace.wait(clock)
        times.append(clock.now)
    clock.now += 10
    for _ in range(2):
        pace.wait(clock)
        times.append(clock.now)
    assert times == [0, 0.5, 1, 1.5, 11.5, 12]


def test_the_client_keeps_to_its_rates() -> None:
    """600 a minute: six requests take half a second at least."""
    with fake_server(echo) as server:
        began = time.monotonic()
        answers(client(server, requests_per_minute=600), "abcdef")
        assert time.monotonic() - began >= 0.5


def test_tokens_keep_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 a second. The first request counts 1000, so the second waits 10 s, or 0.12 s once it used only 12."""
    clock: Any = Clock(monkeypatch)
    pace = Pace(None, 6000)
    counted = pace.wait(clock)
    assert (counted, clock.now) == (1000.0, 0.0)
    pace.used(12, counted)
    counted = pace.wait(clock)
    assert (counted, clock.now) == (12.0, pytest.approx(0.12))
    pace.used(36, counted)
    assert pace.wait(clock) == 24.0
    assert clock.now == pytest.approx(0.12 + 0.36)
    pace.unused(24.0)
    pace.wait(clock)
    assert clock.now == pytest.approx(0.48)
    pace.pause(5.0)
    pace.wait(clock)
    assert clock.now == pytest.approx(5.48)


def _error(status: int, message: str, **more: Any) -> Script:
    def script(asked: Asked, number: int) -> Scripted:
        return Scripted({"error": {"message": message, **more}}, status)

    return script


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (_error(401, f"Incorrect API key provided: {SECRET}"), r"api_key_env: http\S* refuses the key in MY_KEY "
         r"\(status 401: Incorrect API key provided: \*\*\*\); set it to the environment variable with a key"),
        (_error(403, "no access"), r"api_key_env: http\S* refuses the key in MY_KEY \(status 403: no access\)"),
        (_error(404, "The model `m` does not exist."), r"model: http\S* has no model 'm' .*; it has one, two$"),
        (_error(400, "Server is pinned to '/a'; requested 'm'."),
         r"model: http\S* has no model 'm' .*; it has one, two$"),
        (_error(400, "Unsupported value: 'temperature'", code="unsupported_value", param="temperature"),
         r"model: m at http\S* does not take temperature as it is set \(status 400: Unsupported .*; set another value"),
        (_error(400, "m is not a valid model ID"), r"model: http\S* has no model 'm' .*; it has one, two$"),
        (_error(404, "Not Found"), r"url: http\S* does not have the OpenAI API \(status 404: Not Found\); it must be "
         r"the base address, which usually ends in /v1$"),
        (_error(402, "no credit"), r"url: http\S* wants to be paid first \(status 402: no credit\)"),
        (_error(429, "over quota", type="insufficient_quota"), r"url: http\S* wants to be paid first \(status 429"),
    ],
)  # fmt: skip
def test_what_cannot_succeed_ends_the_work_and_names_the_key(
    script: Script, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    with (
        fake_server(script, models=("one", "two")) as server,
        pytest.raises(ConfigError, match=rf"^{KEY}\.{says}") as caught,
    ):
        answers(client(server, api_key_env="MY_KEY"), (str(at) for at in range(100)))
    assert SECRET not in str(caught.value)
    assert len([one for one in server.asked if one.path.endswith("completions")]) <= 8


def test_a_model_that_is_not_listed_is_tried_by_one_request_before_all_others() -> None:
    """Refused: one error with the models there. Answered: a warning, and the work is done."""

    def refuse(asked: Asked, number: int) -> Scripted:
        return Scripted({"error": {"message": "no"}}, 400)

    with fake_server(refuse, models=("one", "two")) as server:
        asking = client(server)
        asking.look_up_model()
        says = (
            rf"^{KEY}\.model: {server.url} does not list a model 'm', and does not answer to that name "
            r"\(status 400: no\); it has one, two$"
        )
        with pytest.raises(ConfigError, match=says):
            answers(asking, (str(at) for at in range(100)))
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("models", "warns"), [(("one",), True), (("m",), False), (("one", "m:latest"), False), ((), False)]
)
def test_an_answer_to_a_name_that_is_not_listed_is_a_warning(
    models: tuple[str, ...], warns: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def slow(asked: Asked, number: int) -> Scripted:
        return Scripted(echo(asked, number).body, delay=0.05)

    with fake_server(slow, models=models) as server:
        asking = client(server)
        asking.look_up_model()
        assert len(answers(asking, "abcdef")) == 6
        assert server.most_at_once > 1
        second = [one.at for one in server.asked][1]
        assert (second - server.asked[0].at >= 0.05) == warns, "the first request alone"
    said = f"{KEY}.model: {server.url} answers to the name 'm', but does not list such a model; it has one"
    assert (said in " ".join(capsys.readouterr().err.split())) == warns


def test_a_list_of_models_that_fails_is_no_reason_to_stop() -> None:
    def script(asked: Asked, number: int) -> Scripted:
        return Scripted("no", 500) if asked.path.endswith("/models") else echo(asked, number)

    with fake_server(script, models=None) as server:
        asking = client(server)
        asking.look_up_model()
        assert len(answers(asking, "ab")) == 2


def test_answers_under_way_are_kept_when_the_work_ends() -> None:
    def script(asked: Asked, number: int) -> Scripted:
        if said(asked) == "c":
            return Scripted({"error": {"message": "key expired"}}, 401)
        return Scripted(echo(asked, number).body, delay=0.2)

    found = []
    with fake_server(script) as server, pytest.raises(ConfigError, match="a request without a key"):
        found.extend(item for item, _ in client(server, parallel=3).map("abcdef", ask))
    assert sorted(found) == ["a", "b"]


def test_a_server_that_is_not_there_is_one_error_about_its_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(ConfigError, match=rf"^{KEY}\.url: {url} does not answer: no connection: .*start the server"):
        answers(Client(ServerConfig(url, "m", retries=1), KEY), (str(at) for at in range(100)))


def test_a_server_that_goes_away_keeps_what_it_answered() -> None:
    def script(asked: Asked, number: int) -> Scripted:
        return echo(asked, number) if number < 5 else Scripted({}, 500)

    found = []
    with fake_server(script) as server, pytest.raises(ConfigError, match="no longer answers: status 500"):
        found.extend(client(server, parallel=1, retries=0).map((str(at) for at in range(50)), ask))
    assert [isinstance(answer, ServerFailure) for _, answer in found] == [False] * 5 + [True] * 3


def test_the_key_is_read_from_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_server(echo) as server:
        answers(client(server), "a")
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
        answers(client(server), "b")
        with pytest.raises(ConfigError, match=rf"^{KEY}\.api_key_env: the environment variable MY_KEY is not set$"):
            client(server, api_key_env="MY_KEY")
        monkeypatch.setenv("MY_KEY", "with\nline")
        with pytest.raises(ConfigError, match=r"the value of MY_KEY has characters that no key has$"):
            client(server, api_key_env="MY_KEY")
        assert [one.headers["authorization"] for one in server.asked] == ["Bearer none", f"Bearer {SECRET}"]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"url": "localhost:8000"}, "url must be an address such as http://localhost:8000/v1, got 'localhost:8000'"),
        ({"url": "http://a b/v1"}, "url must be an address such as"),
        ({"url": "http://x:port/v1"}, "url must be an address such as"),
        ({"url": "http://x/v1?a=1"}, "url must be a base address without"),
        ({"url": "http://x/v1/chat/completions"}, "url must be the base address, without /chat/completions, got"),
        ({"url": "https://me:pass@x/v1"}, "url: this looks like a secret"),
        ({"api_key_env": SECRET}, "api_key_env must be the name of an environment variable, such as OPENAI_API_KEY$"),
        ({"parallel": 0}, r"parallel must be in \[1, 1024\], got 0"),
        ({"timeout": 0}, "timeout must be greater than 0"),
        ({"retries": -1}, "retries must be in"),
        ({"requests_per_minute": 0.0}, "requests_per_minute must be greater than 0"),
        ({"tokens_per_minute": 0.0}, "tokens_per_minute must be greater than 0"),
        ({"modell": "x"}, "model"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        build(ServerConfig, {"url": "http://x/v1", "model": "m", **values}, KEY)
    assert SECRET not in str(caught.value)


def test_unknown_exceptions_are_not_hidden() -> None:
    def broken(api: Any, item: str) -> Any:
        raise ZeroDivisionError

    with fake_server(echo) as server, pytest.raises(ZeroDivisionError):
        list(client(server).map("abc", broken))


def test_a_key_press_ends_requests_that_wait(tmp_path: Path) -> None:
    """Requests take two minutes. An interrupt ends the process before they end, and what was answered is printed."""
    code = tmp_path / "asks.py"
    code.write_text(
        "import signal, sys\n"
        "from seralign.config.server import ServerConfig\n"
        "from seralign.servers.client import Client\n"
        # A shell starts what it runs in the background with interrupts ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def ask(api, item):\n"
        "    return api.chat.completions.create(model='m', messages=[{'role': 'user', 'content': item}])\n"
        "for item, answer in Client(ServerConfig(sys.argv[1], 'm'), 'key').map('abcd', ask):\n"
        "    print(item, flush=True)\n"
    )

    def script(asked: Asked, number: int) -> Scripted:
        return echo(asked, number) if said(asked) == "a" else Scripted(chat("late").body, delay=120)

    with fake_server(script) as server:
        running = subprocess.Popen(
            [sys.executable, str(code), server.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert running.stdout is not None
        assert running.stdout.readline() == "a\n"
        while len(server.asked) < 4:
            time.sleep(0.01)
        os.kill(running.pid, signal.SIGINT)
        _, complaint = running.communicate(timeout=90)
        server.script = lambda asked, number: Scripted({})
    assert running.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in complaint
    assert "Traceback" not in complaint.split("KeyboardInterrupt", 1)[1]


def test_items_are_read_only_as_they_are_needed() -> None:
    """A caller that ends the items gets the answers under way, and nothing else is asked."""
    taken = []

    def items() -> Iterator[str]:
        for name in "abcdefgh":
            if len(found) >= 3:
                return
            taken.append(name)
            yield name

    found: list[str] = []
    with fake_server(echo) as server:
        for item, _ in client(server, parallel=2).map(items(), ask):
            found.append(item)
        assert len(server.asked) == len(taken) == len(found) == 4
