"""What a chat template does to an answer: all of it is trained on, or the row is dropped, noted or refused."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
import tiny_tokenizers as tiny

from seralign.config import DataConfig
from seralign.data import rendering
from seralign.data.content import Chat, Inputs, Unencoded
from seralign.data.rendering import Conversation, Refused, Rendered, Template, render_apart
from seralign.data.tokens import Encoded, make_encoder
from seralign.errors import ConfigError, DataError, ModelError, SeralignError

USER = {"role": "user", "content": "What is 2 + 2?"}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome", "days": 3}}}
WEATHER = {"type": "function", "function": {"name": "weather"}}

# As the distilled models of DeepSeek-R1: the generation prompt opens the thought, and answers lose theirs.
R1 = (
    "{{ bos_token }}{% for m in messages %}{% set c = m['content'] %}{% if m['role'] == 'assistant' %}"
    "{% if '</think>' in c %}{% set c = c.split('</think>')[-1] %}{% endif %}{{ '<|im_start|>assistant\n' + c + "
    "'<|im_end|>' }}{% else %}{{ '<|im_start|>' + m['role'] + '\n' + c + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
R1_OLD = R1.replace("assistant\n<think>\n' }}{% endif %}", "assistant\n' }}{% endif %}")
TOOLS = (
    "{% if tools %}{{ 'Tools: ' + tools | tojson + '\n' }}{% endif %}"
    "{% for d in documents or [] %}{{ 'Document: ' + d['text'] + '\n' }}{% endfor %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['reasoning_content'] %}{{ '<think>' + m['reasoning_content'] + '</think>' }}{% endif %}{{ m['content'] }}"
    "{% for c in m['tool_calls'] %}{{ '<tool_call>' + c['function'] | tojson + '</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SWITCH = tiny.QWEN3.replace(
    "assistant\n' }}{% endif %}",
    "assistant\n' }}{% if enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}",
)
MISTRAL = (
    "{% set rest = messages %}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set rest = messages[1:] %}{% endif %}{{ bos_token }}{% for m in rest %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' }}{% if loop.last and system is defined %}{{ system + '\n\n' }}{% endif %}"
    "{{ m['content'] + '[/INST]' }}{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
ASSISTANT_TURN = "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n"


def answer(content: str, **more: Any) -> Chat:
    return ({"role": "assistant", "content": content, **more},)


def encode(template: str, *answers: Chat, prompt: Chat = (USER,), inputs: Inputs | None = None, **data: Any) -> Any:
    encoder = make_encoder(tiny.byte_bpe(template, eos="<|im_end|>"), DataConfig(**data), frozenset())
    return encoder.encode([Unencoded(prompt, answers, "f row 7", inputs or Inputs())])[0]


def kept(template: str, *answers: Chat, **more: Any) -> Encoded:
    encoded = encode(template, *answers, **more)
    assert isinstance(encoded, Encoded), encoded
    return encoded


def test_a_thought_that_the_template_strips_follows_the_opening_of_the_generation_prompt() -> None:
    encoded = kept(R1, answer("<think>\nIt is 4.\n</think>\n\n4"), answer("5"))
    assert encoded.prompt == f"<s>{ASSISTANT_TURN}<think>\n"
    assert encoded.responses == ("It is 4.\n</think>\n\n4", "5")
    tokenizer = tiny.byte_bpe()
    assert tokenizer.decode(list(encoded.response_ids[0])) == "It is 4.\n</think>\n\n4<|im_end|>"
    assert encoded.notes == (
        "thought kept although the chat template leaves it out",
        "response does not close the thought that the prompt opens",
    )


@pytest.mark.parametrize(
    ("content", "response"),
    [("<think>It is 4.</think>4", "It is 4.</think>4"), ("<think>\n\n</think>\n\n4", "\n</think>\n\n4")],
)
def test_white_space_around_the_tags_of_a_thought_may_differ(content: str, response: str) -> None:
    assert kept(R1, answer(content)).responses == (response,)


def test_an_answer_may_go_on_with_the_thought_that_the_prompt_opens() -> None:
    encoded = kept(R1, answer("It is 4.\n</think>\n\n4"), answer("So 5.</think>5"))
    assert encoded.prompt == f"<s>{ASSISTANT_TURN}<think>\n"
    assert encoded.responses == ("It is 4.\n</think>\n\n4", "So 5.</think>5")
    assert encoded.notes == ("thought kept although the chat template leaves it out",)


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_the_space_before_an_answer_is_the_responses_though_the_prompt_is_written_differently_once_answered(
    system: str | None,
) -> None:
    """Mistral's template puts the system message before the last message of the user, and only while it is last."""
    before = () if system is None else ({"role": "system", "content": system},)
    encoded = kept(MISTRAL, answer("4"), answer(" 5"), prompt=(*before, USER))
    shown = "What is 2 + 2?" if system is None else f"{system}\n\nWhat is 2 + 2?"
    assert encoded.prompt == f"<s>[INST] {shown}[/INST]"
    assert encoded.responses == (" 4", "  5")


def test_a_stripped_thought_is_put_back_where_the_generation_prompt_opens_none() -> None:
    content = "<think>\nIt is 4.\n</think>\n\n4"
    encoded = kept(R1_OLD, answer(content))
    assert (encoded.prompt, encoded.responses) == (f"<s>{ASSISTANT_TURN}", (content,))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        # A field that the template does not read.
        (R1_OLD, answer("4", reasoning_content="It is 4.")),
        (tiny.CHATML, answer("4", thinking="It is 4.")),
        (tiny.CHATML, answer("", tool_calls=[CALL])),
        (tiny.CHATML, answer("Let me see.", tool_calls=[CALL])),
        (tiny.CHATML, answer("", refusal="I will not.")),
        (tiny.CHATML.replace("m['content']", "m['content'] | truncate(9, True)"), answer("four and twenty")),
        (tiny.CHATML.replace("m['content']", "m['content'] | upper"), answer("four")),
        # Its first call alone.
        (TOOLS.replace("m['tool_calls']", "(m['tool_calls'] or [])[:1]"),
         answer("", tool_calls=[CALL, {"function": {"name": "time", "arguments": {}}}])),
        ("{{ messages[0]['content'] }}", answer("4")),
    ],
)  # fmt: skip
def test_rows_whose_answer_the_template_cuts_are_dropped_by_that_name(template: str, message: Chat) -> None:
    assert encode(template, message, answer("no")) == "chat template leaves out a part of the answer"


def test_calls_and_thoughts_that_the_template_writes_are_trained_on() -> None:
    encoded = kept(TOOLS, answer("", tool_calls=[CALL]), answer("4", reasoning_content="It is 4."))
    assert encoded.responses == (
        '<tool_call>{"name": "weather", "arguments": {"city": "Rome", "days": 3}}</tool_call>',
        "<think>It is 4.</think>4",
    )
    assert encoded.notes == ()
    assert encode(TOOLS, answer(""), answer("no")) == "empty response"
    assert encode(TOOLS, answer("", reasoning_content=" "), answer("no")) == "empty response"


def test_values_of_a_call_may_be_written_in_any_way() -> None:
    coder = TOOLS.replace(
        "c['function'] | tojson",
        "c['function']['name'] ~ '\n' ~ c['function']['arguments'].items() | map('join', '=') | join('\n')",
    )
    text = 'a "quoted" word\nand ö'
    call = {"function": {"name": "say", "arguments": {"text": text, "loud": True}}}
    for template in (coder, TOOLS, TOOLS.replace("tojson", "tojson(ensure_ascii=True)")):
        assert kept(template, answer("", tool_calls=[call])).notes == ()


def test_what_the_template_makes_no_use_of_is_noted() -> None:
    inputs = Inputs((WEATHER,), ({"text": "x"},), {"enable_thinking": False})
    assert kept(tiny.CHATML, answer("4"), inputs=inputs).notes == (
        "chat template does not use tools",
        "chat template does not use documents",
        "chat template does not use chat_template_kwargs",
    )
    encoded = kept(TOOLS, answer("4"), inputs=Inputs((WEATHER,), ({"text": "x"},)))
    assert encoded.prompt.startswith('Tools: [{"type": "function", "function": {"name": "weather"}}]\nDocument: x\n')
    assert encoded.notes == ()
    system = {"role": "system", "content": "Be brief."}
    silent = "{% for m in messages if m['role'] != 'system' %}" + tiny.CHATML.partition("%}")[2]
    assert kept(silent, answer("4"), prompt=(system, USER)).notes == ("chat template leaves out a part of the prompt",)
    earlier = (USER, *answer("<think>\nhm\n</think>\n\n4"), USER)
    assert kept(R1, answer("5"), prompt=earlier).notes == ("response does not close the thought that the prompt opens",)


def test_settings_of_the_template() -> None:
    closed = f"{ASSISTANT_TURN}<think>\n\n</think>\n\n"
    for more in (
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"inputs": Inputs((), (), {"enable_thinking": False})},
    ):
        encoded = kept(SWITCH, answer("Blue"), **more)
        assert (encoded.prompt, encoded.responses, encoded.notes) == (closed, ("Blue",), ())
    # A row's own wins.
    encoded = kept(
        SWITCH,
        answer("Blue"),
        inputs=Inputs((), (), {"enable_thinking": True}),
        chat_template_kwargs={"enable_thinking": False},
    )
    assert (encoded.prompt, encoded.responses) == (ASSISTANT_TURN, ("<think>\n\n</think>\n\nBlue",))
    with pytest.raises(
        ConfigError, match=r"data\.chat_template_kwargs\.enable_thinking: the chat template has no such"
    ):
        encode(tiny.CHATML, answer("Blue"), chat_template_kwargs={"enable_thinking": False})
    made = make_encoder(tiny.byte_bpe(SWITCH), DataConfig(chat_template_kwargs={"enable_thinking": 1}), frozenset())
    with pytest.raises(ConfigError, match=r"data\.chat_template_kwargs needs conversations, but f row 7 is not one"):
        made.encode([Unencoded("text", ("a",), "f row 7")])


def test_a_template_of_its_own_for_tools() -> None:
    tokenizer = tiny.byte_bpe(eos="<|im_end|>")
    tokenizer.chat_template = {"default": tiny.CHATML, "tool_use": TOOLS}  # pyright: ignore
    encoder = make_encoder(tokenizer, DataConfig(), frozenset())
    plain, tools = (Unencoded((USER,), (answer("4"),), "f", inputs) for inputs in (Inputs(), Inputs((WEATHER,))))
    starts = [encoded.prompt[:5] for encoded in encoder.encode([plain, tools, plain]) if isinstance(encoded, Encoded)]
    assert starts == ["<|im_", "Tools", "<|im_"]
    tokenizer.chat_template = {"other": tiny.CHATML}  # pyright: ignore
    with pytest.raises(ModelError, match=r"policy\.chat_template: This model has multiple chat templates"):
        encoder.encode([plain])


BACKWARD = (
    "{% for m in messages | reverse %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


@pytest.mark.parametrize(
    "template",
    [
        BACKWARD,
        BACKWARD.replace("m['content']", "m['content'] | upper"),
        tiny.CHATML + "{{ messages[0]['content'] }}",
        tiny.CHATML + "{% if not add_generation_prompt %}{{ messages[0]['content'] }}{% endif %}",
        "{{ strftime_now('%f') }}" + tiny.CHATML,
    ],
)
def test_a_template_that_puts_the_prompt_into_the_response_is_refused(template: str) -> None:
    what = "writes a part of the prompt into the response"
    with pytest.raises(ModelError, match=rf"^the chat template of .* fails for every conversation, .*{what}\. Give "):
        encode(template, answer("four"), answer("five"))
    row = "{% if '2 + 2' not in messages[0]['content'] %}" + tiny.CHATML + "{% else %}" + template + "{% endif %}"
    with pytest.raises(DataError, match=rf"^f row 7: the chat template .* {what}$"):
        encode(row, answer("four"), answer("five"))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ 1 // 0 }}", "ZeroDivisionError: integer division or modulo by zero"),
        ("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", "RecursionError: maximum recursion depth exceeded"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "RecursionError: maximum recursion depth exceeded"),
        ("{{ messages[0].a.b }}", "UndefinedError: 'dict object' has no attribute 'a'"),
        ("{{ raise_exception('Roles must alternate') }}", "Hi': Roles must alternate. Give"),
        ("{% for %}", "TemplateSyntaxError: "),
        ("{{ 'x' * 99999999999 }}", "it needs more than 1024 MB of memory"),
        ("{{ '%9999999999d' % 1 }}", "it needs more than 1024 MB of memory"),
        ("{% set n = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
         "it needs more than 1024 MB of memory"),
        ("{{ 'x' * 20000000 }}", "it writes more than 16777216 characters"),
    ],
)  # fmt: skip
def test_a_template_that_fails_for_any_row_is_itself_to_blame(template: str, reason: str) -> None:
    tokenizer = tiny.byte_bpe(template, eos="<|im_end|>")
    tokenizer.name_or_path = "models/mine"
    with pytest.raises(ModelError, match=r"^the chat template of models/mine \(policy\.chat_template, if ") as error:
        make_encoder(tokenizer, DataConfig(), frozenset()).encode([Unencoded((USER,), (answer("4"),), "f row 7")])
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('Roles must alternate') }}", "cannot render the row: Roles must alternate"),
        ("{{ messages[0].a.b }}", "cannot render the row: UndefinedError: 'dict object' has no attribute 'a'"),
        ("{{ 1 // 0 }}", "cannot render the row: ZeroDivisionError: integer division or modulo by zero"),
    ],
)
def test_a_row_that_a_template_cannot_take_is_named(template: str, reason: str) -> None:
    of_row = "{% if messages | length > 3 %}" + template + "{% endif %}" + tiny.CHATML
    several = (USER, *answer("4"), USER)
    assert kept(of_row, answer("4")).notes == ()
    with pytest.raises(DataError, match=r"^f row 7: the chat template \(policy\.chat_template, or the ") as error:
        encode(of_row, answer("four"), prompt=several)
    assert str(error.value).endswith(reason)


def test_a_template_may_need_a_system_message() -> None:
    needs = "{% if messages[0]['role'] != 'system' %}{{ raise_exception('no system') }}{% endif %}" + tiny.CHATML
    with pytest.raises(DataError, match=r"^f row 7: .* cannot render the row: no system$"):
        encode(needs, answer("four"))
    assert kept(needs, answer("four"), system="Be brief.").notes == ()


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ (9 + (messages | length)) ** 30000000 % 7 }}",
    ],
)
def test_a_template_that_takes_too_long_is_ended(template: str) -> None:
    """Also where a single operation takes it all, which no counting of steps would end."""
    worker = rendering._Worker(cpu_seconds=1)
    fast = Rendered("fast", ())
    slow = Template(
        "{{ messages[0]['content'] }}{% if messages[0]['content'] == 'slow' %}" + template + "{% endif %}", {}
    )
    rows = [Conversation(({"role": "user", "content": text},), (), Inputs()) for text in ("fast", "slow", "fast")]
    try:
        why = "it takes more than 1 s of processor time for one row"
        assert worker.render(slow, rows) == [fast, Refused(why)]
        # The next one finds a new process.
        assert worker.render(slow, rows[:1]) == [fast]
    finally:
        worker.stop()


def test_a_worker_that_ends_is_replaced() -> None:
    template, conversation = Template(tiny.CHATML, {}), Conversation((USER,), (), Inputs())
    right = [Rendered(ASSISTANT_TURN, ())]
    assert render_apart(template, [conversation]) == right
    process = rendering._worker().process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert render_apart(template, [conversation]) == right


STARTS = "cannot start the process that runs chat templates: "


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (lambda patch: patch.setattr(sys, "executable", "/no/such/python"), "[Errno 2] No such file or directory"),
        (lambda patch: patch.setattr(rendering, "WORKER", "seralign.no_such_module"), "exit code 1: "),
        (lambda patch: patch.setattr(rendering, "Pipe", refuse_pipe), "[Errno 24] Too many open files"),
    ],
    ids=["python", "module", "files"],
)
def test_a_worker_that_cannot_start_is_no_fault_of_the_template(
    break_it: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, rows = rendering._Worker(), [Conversation((USER,), (), Inputs())]
    try:
        with monkeypatch.context() as patch:
            break_it(patch)
            with pytest.raises(SeralignError) as caught:
                worker.render(Template(tiny.CHATML, {}), rows)
            assert str(caught.value).startswith(STARTS + why)
            assert "\n" not in str(caught.value)
        assert worker.render(Template(tiny.CHATML, {}), rows) == [Rendered(ASSISTANT_TURN, ())]
    finally:
        worker.stop()


def refuse_pipe() -> Any:
    raise OSError(errno.EMFILE, "Too many open files")


def test_a_worker_without_memory_to_start_says_so() -> None:
    """As under ``ulimit -v``: enough for this process, too little for what it starts."""
    code = (
        "import resource, subprocess; from seralign.data.rendering import *; from seralign.data.content import Inputs\n"
        "from seralign.errors import SeralignError; import seralign.data.rendering as r\n"
        "start = subprocess.Popen\n"
        "limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (60 * 2**20,) * 2)\n"
        "r.subprocess.Popen = lambda *a, **k: start(*a, **k, preexec_fn=limit)\n"
        "try: render_apart(Template('{{ 1 }}', {}), [Conversation((), (), Inputs())])\n"
        "except SeralignError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(STARTS)
    assert "template" not in done.stdout.removeprefix(STARTS)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_a_forked_process_has_a_worker_of_its_own() -> None:
    """Of two that read one pipe, each would get answers to the other."""
    code = (
        "import os; import seralign.data.rendering as r; from seralign.data.content import Inputs\n"
        "def answer(): return r.render_apart(r.Template('{{ 1 }}', {}), [r.Conversation((), (), Inputs())])\n"
        "right, first = answer(), r._worker().process.pid\n"
        "child = os.fork()\n"
        "if not child: raise SystemExit(0 if answer() == right and r._worker().process.pid != first else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), answer() == right, r._worker().process.pid == first)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0 True True\n"


def test_threads_take_turns() -> None:
    found: dict[int, Any] = {}

    def render(number: int) -> None:
        chats = [Conversation(({"role": "user", "content": f"{number}/{i}"},), (), Inputs()) for i in range(50)]
        found[number] = [result.prompt for result in render_apart(Template(tiny.CHATML, {}), chats)]  # pyright: ignore

    threads = [threading.Thread(target=render, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    turn = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    assert found == {number: [turn.format(f"{number}/{i}") for i in range(50)] for number in range(4)}


def test_the_worker_ends_with_the_process_and_loads_no_torch() -> None:
    code = (
        "from seralign.data.rendering import *; from seralign.data.content import Inputs;"
        "import seralign.data.rendering as r;"
        "print(render_apart(Template('{{ 1 }}', {}), [Conversation((), (), Inputs())])); p = r._worker().process.pid;"
        "print(p, 'torch' in open(f'/proc/{p}/maps').read())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "[Rendered(prompt='1', responses=(), notes=())]"
    pid, loads_torch = done.stdout.splitlines()[1].split()
    assert loads_torch == "False"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
