"""``seralign chat``: chat with a policy, or with two policies side by side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from seralign.cli.console import stdout
from seralign.cli.policies import PLACES, add_sampling, add_which, aligned, sampling, which_policy
from seralign.config.flags import Parser
from seralign.errors import ConfigError, DataError
from seralign.terminal import printable

if TYPE_CHECKING:
    from seralign.data.content import Message
    from seralign.pipeline.asking import Speaker
    from seralign.policy.sampling import SamplingParams
    from seralign.policy.saved import SavedPolicy, Which
    from seralign.records import Candidate

NEW, QUIT = "/new", "/quit"
ASK = "> "


@dataclass
class _Talk:
    """A policy and the conversation with it so far."""

    speaker: Speaker
    params: SamplingParams
    messages: list[Message] = field(default_factory=list)


def main(arguments: list[str]) -> int:
    """``RUN [--round N | --start] [--beside M [--beside_round N]] [--key value ...]``; 0, or 130 if interrupted."""
    parser = Parser(
        "seralign chat",
        description="Chat with a policy. Each line is a prompt, and /new starts a new conversation. /quit or Ctrl-D "
        "ends the chat, and Ctrl-C stops an answer. Prompts can also be read from a pipe, one per line; they are "
        "printed before their answers.",
    )
    parser.add_argument("policy", metavar="RUN", help=PLACES)
    add_which(parser)
    parser.add_argument(
        "--beside",
        metavar="M",
        help="also answer each prompt with this policy: the number of a round, start or baseline of the same run, or "
        f"{PLACES}",
    )
    parser.add_argument(
        "--beside_round", metavar="N", help="with --beside, if M is another run: a round of it, start or baseline"
    )
    add_sampling(parser)
    given = parser.parse_args(arguments)
    if given.beside_round is not None and given.beside is None:
        raise ConfigError("--beside_round needs --beside, the run that the round is of")

    from seralign.policy.saved import saved_policy

    policies = [saved_policy(given.policy, which_policy(given))]
    if given.beside is not None:
        policies.append(_beside(given.beside, given.beside_round, given.policy))
    talks = [_talk(given, policy, policies[0]) for policy in policies]
    try:
        _converse(talks, given.seed)
    except KeyboardInterrupt:
        return 130
    return 0


def _beside(name: str, round_of_it: str | None, run: str) -> SavedPolicy:
    """The second policy: one of the same run, or any other. If a folder of that name exists, it comes first."""
    from seralign.policy.saved import saved_policy

    if round_of_it is not None:
        which = _which(round_of_it)
        if which is None:
            raise ConfigError(f"--beside_round must be the number of a round, start or baseline, got {round_of_it!r}")
        return saved_policy(name, which)
    which = None if Path(name).exists() else _which(name)
    return saved_policy(name) if which is None else saved_policy(run, which)


def _which(name: str) -> Which | None:
    """The policy of a run that a name means: the number of a round, ``start`` or ``baseline``."""
    if name.isdecimal():
        return int(name)
    return name if name == "start" or name == "baseline" else None


def _talk(given: argparse.Namespace, policy: SavedPolicy, first: SavedPolicy) -> _Talk:
    """Both policies are sampled with the settings of the first one's run."""
    from seralign.pipeline.asking import load_reader, make_speaker
    from seralign.sampling import params_of

    settings = sampling(given, first)
    reader = load_reader(policy, system=given.system, plain=given.plain, aligned=aligned(given))
    return _Talk(make_speaker(policy, reader, settings, "evaluation"), params_of(settings, 1))


def _converse(talks: list[_Talk], seed: int) -> None:
    if sys.stdin.isatty():
        from seralign.progress import say

        for talk in talks:
            how = "conversation" if talk.speaker.reader.chat else "plain text, each prompt alone"
            say(f"{talk.speaker.name} ({how})")
        example = talks[0].speaker.reader.example
        if example is not None:
            say(f"a prompt of the run is, for example: {example}")
        say(f"{NEW} starts a new conversation; {QUIT} or Ctrl-D ends")
    for line in _prompts():
        if line == NEW:
            for talk in talks:
                talk.messages.clear()
        elif line == QUIT:
            return
        else:
            before = [list(talk.messages) for talk in talks]
            try:
                _exchange(talks, line, seed)
            except (DataError, KeyboardInterrupt) as error:
                _complain(error)
                for talk, messages in zip(talks, before, strict=True):
                    talk.messages[:] = messages


def _complain(error: BaseException) -> None:
    """At a terminal, print the error and continue; in a script, end."""
    if not sys.stdin.isatty():
        raise error
    text = "stopped; the last turn is discarded" if isinstance(error, KeyboardInterrupt) else f"error: {error}"
    print(f"\n{printable(text)}", file=sys.stderr)


def _prompts() -> Iterator[str]:
    """What the user types, or the lines of a pipe. Empty lines are skipped."""
    if sys.stdin.isatty():
        import readline  # noqa: F401  gives input() a history and the arrow keys

        while True:
            try:
                line = input(ASK)
            except EOFError:
                print()
                return
            if line.strip():
                yield line.strip()
    for line in sys.stdin:
        if line.strip():
            # Typed prompts are on the terminal already; those of a pipe would be missing from the transcript.
            print(f"{ASK}{printable(line.strip())}", flush=True)
            yield line.strip()


def _exchange(talks: list[_Talk], text: str, seed: int) -> None:
    """Answer a prompt, print the answers, and add them to the conversations."""
    if len(talks) == 1:
        printer = _Printer()
        found = [_ask(talks[0], text, seed, printer)]
        printer.end(found[0].text)
    else:
        found = [_ask(talk, text, seed, None) for talk in talks]
        _side_by_side([talk.speaker.name for talk in talks], [candidate.text for candidate in found])
    for talk, candidate in zip(talks, found, strict=True):
        if not candidate.finished and sys.stdin.isatty():
            length = len(candidate.ids)
            print(f"({printable(talk.speaker.name)}: cut at {length} tokens, see --max_new_tokens)", file=sys.stderr)


def _ask(talk: _Talk, text: str, seed: int, printer: _Printer | None) -> Candidate:
    from seralign.pipeline.asking import answer, read, turn

    reader = talk.speaker.reader
    said = (*talk.messages, turn("user", text)) if reader.chat else text
    prompt = read(reader, said, "the prompt")
    candidate = answer(talk.speaker, prompt, talk.params, seed, None if printer is None else printer.show)
    if reader.chat:
        talk.messages += [turn("user", text), turn("assistant", candidate.text)]
    return candidate


class _Printer:
    """Prints a text as it grows."""

    def __init__(self) -> None:
        self._shown = ""

    def show(self, text: str) -> None:
        """The text so far. Incomplete characters and spaces at the end are printed later."""
        whole = text.rstrip().rstrip("\ufffd")
        if whole.startswith(self._shown):
            sys.stdout.write(printable(whole[len(self._shown) :]))
            sys.stdout.flush()
            self._shown = whole

    def end(self, text: str) -> None:
        """The whole text. If it differs from what was printed, it is printed again."""
        rest = text[len(self._shown) :] if text.startswith(self._shown) else "\n" + text
        print(printable(rest.rstrip()), flush=True)


def _side_by_side(names: list[str], texts: list[str]) -> None:
    from rich.table import Table
    from rich.text import Text

    console = stdout()
    if not console.is_terminal:
        for name, text in zip(names, texts, strict=True):
            print(f"[{printable(name)}]\n{printable(text.rstrip())}", flush=True)
        return
    table = Table(expand=True, header_style="bold")
    for name in names:
        table.add_column(Text(printable(name)), ratio=1, overflow="fold")
    table.add_row(*(Text(printable(text.rstrip())) for text in texts))
    console.print(table)
