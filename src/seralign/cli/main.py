"""Which command is meant, and how it ends: exit code 0, or 2 with one line for a user's mistake."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable

from seralign.cli import chat, demo, inspect, lab, merge, plan, push, report, sample, show, train, verify
from seralign.errors import ConfigError, SeralignError
from seralign.terminal import error_line

USAGE = """usage: seralign COMMAND ...

Align language models with preferences, round after round (SeRA, arXiv 2410.09362).

commands:
  train [RUN.yaml] [--key value ...]     run, or go on with, a whole run
  inspect [RUN.yaml] [--key value ...]   what the data look like as tokens, before any training
  inspect FILE --model M                 the same for one file, without a configuration
  plan [RUN.yaml] [--key value ...]      time, memory and disk of a run before it starts, and what will not fit
  show RUN [--json]                      what a run did, round by round, and what should worry you
  report RUN [RUN ...] [--open]          the same with charts and every pair, as one HTML file
  chat RUN [--round N] [--beside M]      talk to the result, or to a round, alone or beside another policy
  sample RUN --prompts FILE [--out FILE] answers of a policy to a file of prompts, as lines of JSON
  merge RUN --out FOLDER                 an adapter and its base as one whole model
  push RUN --repo OWNER/NAME             the result, with its model card, to the Hugging Face hub
  demo [--out DIR]                       the whole loop on a small built-in task, in a few minutes
  verify RUN [--json]                    whether every file of a run is as it was written
  lab run | compare | report ...         studies in worlds where the true quality of every answer is known

seralign COMMAND --help lists a command's options."""

COMMANDS: dict[str, Callable[[list[str]], int | None]] = {
    "train": train.main,
    "inspect": inspect.main,
    "chat": chat.main,
    "sample": sample.main,
    "merge": merge.main,
    "push": push.main,
    "demo": demo.main,
    "lab": lab.main,
    "plan": plan.main,
    "show": show.main,
    "report": report.main,
    "verify": verify.main,
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Returns:
        0; 1 for a plan that does not fit or a run that is harmed, and where the machine gave out (a file, standard
        output, memory); 2 for a user's mistake; 130 where the user interrupted. What went wrong is told in one line
        on standard error.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    if sys.stdout is None:
        return _failed("standard output is closed; redirect it to /dev/null if nothing is to be shown", 1)
    for stream in (sys.stdout, sys.stderr):
        # An encoding without the characters of the data shows them as escapes.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except SeralignError as error:
        return _failed(str(error), 2)
    except KeyboardInterrupt:
        return _failed("interrupted; the same command goes on where it was", 130, begin="")
    except BrokenPipeError:
        _drop_output()
        return 0
    except OSError as error:
        return _failed(_told(error), 1)
    except MemoryError:
        return _failed("out of memory; what is finished is kept, and the same command goes on from there", 1)


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    name, *rest = arguments
    if name in ("-V", "--version"):
        from importlib.metadata import version

        print(version("seralign"))
        return 0
    if name not in COMMANDS:
        raise ConfigError(f"no command {name!r}; the commands are {', '.join(COMMANDS)}")
    if not sys.stderr.isatty():
        # In a log file every redrawn bar is another line. Set before the libraries are imported.
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return COMMANDS[name](rest) or 0


def _failed(text: str, code: int, begin: str = "error: ") -> int:
    with contextlib.suppress(OSError):
        print(f"{begin}{error_line(text)}", file=sys.stderr, flush=True)
    return code


def _told(error: OSError) -> str:
    """What the system refused, and for which file; standard output has no name."""
    why = error.strerror or str(error)
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
        return f"standard output cannot be written: {why}"
    name = error.filename
    return f"{os.fsdecode(name)}: {why}" if isinstance(name, str | bytes | os.PathLike) else why


def _drop_output() -> None:
    """What is left in the buffer goes nowhere, or it would fail a second time when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
