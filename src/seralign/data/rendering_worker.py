"""The process that chat templates run in: ``python -m seralign.data.rendering_worker FILE_DESCRIPTOR SECONDS``."""

from __future__ import annotations

import math
import os
import resource
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

from seralign.data.answers import render_chat
from seralign.data.content import Chat, Inputs
from seralign.data.rendering import (
    CHARACTERS,
    MEMORY_MEGABYTES,
    Conversation,
    Refused,
    Result,
    Template,
    TemplateRefusal,
    requests,
)


def main(arguments: list[str]) -> None:
    """Answer requests until the other end of the pipe is closed."""
    limit_memory()
    pipe, seconds = Connection(int(arguments[0])), int(arguments[1])
    # The parent reads stderr only until here; later it would fill up.
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), sys.stderr.fileno())
    pipe.send("ready")
    for template, conversations in requests(pipe):
        for number, conversation in enumerate(conversations):
            limit_time(seconds)
            pipe.send(render_one(template, conversation, careful=number == 0))


def limit_memory() -> None:
    """Limit this process's memory to ``MEMORY_MEGABYTES`` more than it has, on systems with such limits."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    statm = Path("/proc/self/statm")
    if statm.exists():
        now = int(statm.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = now + MEMORY_MEGABYTES * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most if hard < 0 else min(most, hard), hard))


def limit_time(seconds: int) -> None:
    """Limit this process to this many more seconds of processor time; then the system ends it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard < 0 else min(soft, hard), hard))


def render_one(template: Template, conversation: Conversation, careful: bool) -> Result:
    """The texts of one row, or the reason why there are none."""

    def apply(chat: Chat, inputs: Inputs, add_generation_prompt: bool) -> str:
        texts, _ = render_jinja_template(
            [list(chat)],
            tools=list(inputs.tools) or None,
            documents=list(inputs.documents) or None,
            chat_template=template.source,
            add_generation_prompt=add_generation_prompt,
            **{**template.special, **inputs.settings},
        )
        if len(texts[0]) > CHARACTERS:
            raise TemplateRefusal(f"it writes more than {CHARACTERS} characters")
        return texts[0]

    try:
        return render_chat(apply, conversation, careful)
    except TemplateRefusal as error:
        return Refused(str(error))
    except MemoryError:
        return Refused(f"it needs more than {MEMORY_MEGABYTES} MB of memory")
    except Exception as error:
        message = " ".join(str(error).split())[:300]
        # A template raises TemplateError itself, with a message for the user.
        return Refused(message if type(error).__name__ == "TemplateError" else f"{type(error).__name__}: {message}")


if __name__ == "__main__":
    main(sys.argv[1:])
