"""``seralign chat``: talk to a policy, alone or beside another one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from seralign.cli.console import stdout
from seralign.cli.policies import PLACES, add_sampling, add_which, sampling, which_policy
from seralign.config.flags import Parser
from seralign.errors import DataError
from seralign.terminal import printable

if TYPE_CHECKING:
    from seralign.data.content import Message
    from seralign.pipeline.asking import Speaker
    from seralign.pipeline.saved import SavedPolicy
    from seralign.policy.sampling import SamplingParams
    from seralign.records import Candidate

NEW, QUIT = "/new", "/quit"
ASK = "> "


@dataclass
class _Talk:
    """A policy and what was said with it so far."""

    speaker: Speaker
    params: SamplingParams
    messages: list[Message] = field(default_factory=list)


def main(arguments: list[str]) -> int:
    """``RUN [--round N | --start] [--beside M] [--key value ...]``; 0, or 130 where the user interrupted."""
    parser = Parser(
        "seralign chat",
        description="Talk to a policy: each line is a prompt, and the conversation continues until /new; /quit or "
        "Ctrl-D ends it, Ctrl-C stops an answer. Prompts are read from a pipe as well, a line each, and "
        "printed before their answers.",
    )
    parser.add_argument("policy", metavar="RUN", help=PLACES)
    add_which(parser)
    parser.add_argument(
        "--beside",
        metavar="M",
        help=f"answer each prompt by this one, too: a round's number, start or baseline of the same run, or {PLACES}",
    )
    add_sampling(parser)
    given = parser.parse_args(arguments)

    from seralign.pipeline.saved import saved_policy

    policies = [saved_policy(given.policy, which_policy(given))]
    if given.beside is not None:
        policies.append(_beside(given.beside, given.policy))
    talks = [_talk(given, policy, policies[0]) for policy in policies]
    try:
        _converse(talks, given.seed)
    except KeyboardInterrupt:
        return 130
    return 0


def _beside(name: str, run: str) -> SavedPolicy:
    """The other policy: of the same run where the name says so, but a folder of that name comes first."""
    from seralign.pipeline.saved import saved_policy

    if not Path(name).exists():
        if name.isdigit():
            return saved_policy(run, int(name))
        if name == "start" or name == "baseline":
            return saved_policy(run, name)
    return saved_policy(name)


def _talk(given: argparse.Namespace, policy: SavedPolicy, first: SavedPolicy) -> _Talk:
    """Both policies are sampled alike, by the settings of the first one's run."""
    from seralign.pipeline.asking import load_reader, make_speaker
    from seralign.sampling import params_of

    settings = sampling(given, first)
    reader = load_reader(policy, system=given.system, plain=given.plain)
    return _Talk(make_speaker(policy, reader, settings, "evaluation"), params_of(settings, 1))


def _converse(talks: list[_Talk], seed: int) -> None:
    if sys.stdin.isatty():
        from seralign.progress import say

        for talk in talks:
            how = "in turns" if talk.speaker.reader.chat else "plain text, each prompt by itself"
            say(f"{talk.speaker.name} ({how})")
        example = talks[0].speaker.reader.example
        if example is not None:
            say(f"a prompt of the run is, for example: {example}")
        say(f"{NEW} begins another conversation; {QUIT} or Ctrl-D ends")
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
    """Tell a person and let them go on; a script ends here."""
    if not sys.stdin.isatty():
        raise error
    text = "stopped; the last turn is forgotten" if isinstance(error, KeyboardInterrupt) else f"error: {error}"
    print(f"\n{printable(text)}", file=sys.stderr)


def _prompts() -> Iterator[str]:
    """What the user types, or the lines of a pipe; empty ones are passed over."""
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
            # What a person types is on the terminal; a pipe's prompts would be missing from the transcript.
            print(f"{ASK}{printable(line.strip())}", flush=True)
            yield line.strip()


def _exchange(talks: list[_Talk], text: str, seed: int) -> None:
    """Ask, show the answers, and remember them."""
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
        """The text so far; a character whose bytes are not all there yet waits, and so does a space at the end."""
        whole = text.rstrip().rstrip("\ufffd")
        if whole.startswith(self._shown):
            sys.stdout.write(printable(whole[len(self._shown) :]))
            sys.stdout.flush()
            self._shown = whole

    def end(self, text: str) -> None:
        """The whole text; where its end is another than what was shown, the text is printed again."""
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
