"""The command line: runs a command; exit code 0, or 2 with one line for a user error."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable

from seralign import distributed
from seralign.cli import (
    accuracy,
    best_of,
    chat,
    demo,
    evaluate,
    import_config,
    inspect,
    lab,
    label,
    merge,
    plan,
    push,
    query,
    report,
    sample,
    show,
    train,
    verify,
)
from seralign.errors import AwaitingLabels, ConfigError, PeerError, SeralignError
from seralign.terminal import error_line
from seralign.termination import CODE, Terminated, terminable

USAGE = """usage: seralign COMMAND ...

Align language models with preference pairs, in rounds (SeRA, arXiv 2410.09362).

commands:
  train [RUN.yaml] [--key value ...]     start a run, or resume it
  inspect [RUN.yaml] [--key value ...]   show the data as tokens, before any training
  inspect FILE --model M                 the same for one file, without a configuration
  label CONFIG.yaml [--key value ...]    make preferences of candidates with votes, scores, checks or a judge
  query CONFIG.yaml [--key value ...]    choose pairs to have labelled, and make preferences of the labels
  import-config FILE [--out RUN.yaml]    turn a TRL, axolotl or LLaMA-Factory configuration into one of seralign
  plan [RUN.yaml] [--key value ...]      estimate time, memory and disk of a run before it starts
  show RUN [--json]                      print what each round did, and warnings
  report RUN [RUN ...] [--open]          write the same with charts and every pair, as one HTML file
  chat RUN [--round N] [--beside M]      chat with a policy of a run, or with two policies side by side
  sample RUN --prompts FILE [--out FILE] answer a file of prompts, as lines of JSON
  sample CONFIG.yaml [--key value ...]   sample candidates of several models and temperatures, to label
  evaluate CONFIG.yaml [--key value ...] compare policies by a judge: win rates with intervals
  best-of RUN --prompts FILE --out FILE  keep the best of n answers, by a scorer, a judge or a reward
  accuracy PAIRS --judge NAME            how often a judge, reward model or policy ranks pairs right, by category
  merge RUN --out FOLDER                 merge an adapter into its base model
  push RUN --repo OWNER/NAME             upload the result with its model card to the Hugging Face hub
  demo [--out DIR]                       run all rounds on a small built-in task, in a few minutes
  verify RUN [--json]                    check every file of a run against its digest
  lab run | status | report | judge ...  studies in worlds where the true quality of every answer is known

seralign COMMAND --help lists the options of a command."""

COMMANDS: dict[str, Callable[[list[str]], int | None]] = {
    "train": train.main,
    "inspect": inspect.main,
    "import-config": import_config.main,
    "label": label.main,
    "query": query.main,
    "chat": chat.main,
    "sample": sample.main,
    "evaluate": evaluate.main,
    "best-of": best_of.main,
    "accuracy": accuracy.main,
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
        0: success. 1: a plan that does not fit, a damaged run, a failure of the machine (a file, standard output,
        memory), or another process of the run has ended. 2: a user error. 3: pairs have to be labelled; then the same
        command continues. 130: the user interrupted. 143: SIGTERM. Errors are printed as one line on standard error.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    if sys.stdout is None:
        return _failed("standard output is closed; redirect it to /dev/null to hide the output", 1)
    for stream in (sys.stdout, sys.stderr):
        # Characters that the encoding lacks are shown as escapes.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with terminable():
            code = _run(arguments)
        sys.stdout.flush()
        return code
    except AwaitingLabels as error:
        return _failed(str(error), 3, begin="")
    except PeerError as error:
        # Once is enough, however many processes there are.
        return _failed(str(error), 1) if distributed.is_main() else 1
    except SeralignError as error:
        return _failed(str(error), 2)
    except Terminated:
        return _failed("terminated; give the same command again to resume", CODE, begin="")
    except KeyboardInterrupt:
        return _failed("interrupted; give the same command again to resume", 130, begin="")
    except BrokenPipeError:
        _drop_output()
        return 0
    except OSError as error:
        return _failed(_told(error), 1)
    except MemoryError:
        return _failed("out of memory; finished work is kept, and the same command resumes the run", 1)


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
        # In a log file, every update of a bar is a new line. This must be set before the libraries are imported.
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return COMMANDS[name](rest) or 0


def _failed(text: str, code: int, begin: str = "error: ") -> int:
    with contextlib.suppress(OSError):
        print(f"{begin}{error_line(text)}", file=sys.stderr, flush=True)
    return code


def _told(error: OSError) -> str:
    """The error of the system and the file that it concerns; standard output has no name."""
    why = error.strerror or str(error)
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
        return f"standard output cannot be written: {why}"
    name = error.filename
    return f"{os.fsdecode(name)}: {why}" if isinstance(name, str | bytes | os.PathLike) else why


def _drop_output() -> None:
    """Discard the rest of the buffer, or writing it would fail again when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
