"""Checks of formats: does an answer follow the instruction in its prompt? A program decides.

A check reads its parameters from the instruction itself, so a prompt is all that it needs. ``passes`` is the scorer of
the runs (``evaluation.scorer: examples.smollm2.checks:passes``). For a task of your own, replace ``KINDS``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# How far an answer follows its instruction: 1.0 if it passes, less than 1 otherwise. Arguments after the answer are
# those of the instruction.
Check = Callable[..., float]


@dataclass(frozen=True)
class Kind:
    """A kind of instruction.

    Args:
        name: Name of the kind.
        phrasings: Sentences with parameters in braces; two parameters are always at least a word apart.
        check: The degree in [0, 1] to which an answer follows the instruction; exactly 1.0 if it passes. Called with
            the answer and the parameters, all text.
        values: Values of each parameter, from which prompts are made. ``keyword`` is taken from the topic.
        unseen: Whether the kind is kept for the evaluation: no prompt of it is trained on.
    """

    name: str
    phrasings: tuple[str, ...]
    check: Check
    values: dict[str, tuple[str, ...]]
    unseen: bool = False


@dataclass(frozen=True)
class Instruction:
    """An instruction that was found in a prompt."""

    kind: Kind
    parameters: dict[str, str]

    def degree(self, answer: str) -> float:
        """How far the answer follows the instruction, in [0, 1]; 1.0 if it passes."""
        return self.kind.check(answer.strip(), **self.parameters) if answer.strip() else 0.0


def instruction_in(prompt: str) -> Instruction:
    """The last instruction in the text of a prompt.

    Raises:
        ValueError: there is none.
    """
    found = [(match.end(), Instruction(kind, match.groupdict())) for kind, pattern in _PATTERNS
             for match in pattern.finditer(prompt)]  # fmt: skip
    if not found:
        raise ValueError(f"no instruction that is known here: {prompt!r}")
    return max(found, key=lambda item: item[0])[1]


def degrees(prompts: list[str], answers: list[str]) -> list[float]:
    """The degree to which each answer follows the instruction in its prompt."""
    return [instruction_in(prompt).degree(answer) for prompt, answer in zip(prompts, answers, strict=True)]


def passes(prompts: list[str], answers: list[str]) -> list[float]:
    """1.0 for each answer that follows the instruction in its prompt, 0.0 for each that does not."""
    return [float(degree == 1.0) for degree in degrees(prompts, answers)]


# --- what an answer consists of


def lines(answer: str) -> list[str]:
    """Lines with text, without the spaces around it."""
    return [line.strip() for line in answer.splitlines() if line.strip()]


def sentences(answer: str) -> int:
    """Number of sentences. Text after the last full stop counts as one more."""
    ended = re.split(r"(?<=[.!?])[\"')\]]*\s+", answer.strip())
    return len([part for part in ended if re.search(r"\w", part)])


def words(answer: str) -> list[str]:
    """Words: what is between spaces and has a letter or a digit."""
    return [word for word in answer.split() if re.search(r"\w", word)]


def occurrences(answer: str, word: str) -> int:
    """How often a word occurs as a word of its own, in upper or lower case."""
    return len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", answer, flags=re.IGNORECASE))


def _near(found: int, wanted: int) -> float:
    """1 if the numbers are equal, else their ratio, smaller by larger."""
    return 1.0 if found == wanted else min(found, wanted) / max(found, wanted)


# --- the checks


def _bullets(answer: str, n: str) -> float:
    rows = lines(answer)
    items = [row for row in rows if re.match(r"[-*•] +\S", row)]
    return _near(len(items), int(n)) * len(items) / len(rows)


def _numbered(answer: str, n: str) -> float:
    rows = lines(answer)
    numbers = [int(found[1]) for row in rows if (found := re.match(r"(\d{1,4})[.)] +\S", row))]
    in_order = numbers == list(range(1, len(numbers) + 1))
    return _near(len(numbers), int(n)) * len(numbers) / len(rows) * (1.0 if in_order else 0.5)


def _json(answer: str, a: str, b: str) -> float:
    bare = re.sub(r"^```(?:json)?\s*|\s*```$", "", answer)
    try:
        value = json.loads(bare)
    except (ValueError, RecursionError):
        return 0.1 if bare.startswith("{") else 0.0
    if not isinstance(value, dict):
        return 0.2
    wanted = {a, b}
    share = len(wanted & set(value)) / len(wanted | set(value))
    return (1.0 if bare == answer else 0.8) * (0.4 + 0.6 * share)


def _table(answer: str, a: str, b: str) -> float:
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in lines(answer) if _is_row(row)]
    parts = [
        len(rows) == len(lines(answer)),
        bool(rows) and rows[0] == [a, b],
        len(rows) > 1 and len(rows[1]) == 2 and all(re.fullmatch(r":?-{2,}:?", cell) for cell in rows[1]),
        len(rows) > 2 and all(len(row) == 2 and all(row) for row in rows[2:]),
    ]
    return sum(parts) / len(parts)


def _is_row(line: str) -> bool:
    return len(line) > 2 and line.startswith("|") and line.endswith("|")


def _max_words(answer: str, n: str) -> float:
    return min(1.0, int(n) / max(1, len(words(answer))))


def _one_sentence(answer: str) -> float:
    return _exact_sentences(answer, "one")


def _lower_case(answer: str) -> float:
    if not re.search(r"[^\W\d_]", answer):
        return 0.0
    return 1 / (1 + sum(word != word.lower() for word in answer.split()))


def _ends_with(answer: str, phrase: str) -> float:
    at_end = answer.lower().rstrip(".!?\"'* ").endswith(phrase.lower())
    return 1.0 if at_end else 0.5 * (phrase.lower() in answer.lower())


def _word_times(answer: str, keyword: str, n: str) -> float:
    return _near(occurrences(answer, keyword), NUMBERS[n])


def _no_comma(answer: str, n: str) -> float:
    return _near(sentences(answer), NUMBERS[n]) / (1 + answer.count(","))


def _capitals(answer: str) -> float:
    if not re.search(r"[^\W\d_]", answer):
        return 0.0
    return 1.0 - sum(word != word.upper() for word in answer.split()) / len(answer.split())


def _starts_with(answer: str, phrase: str) -> float:
    at_start = answer.lower().lstrip("\"'* ").startswith(phrase.lower())
    return 1.0 if at_start else 0.5 * (phrase.lower() in answer.lower())


def _quoted(answer: str) -> float:
    return (0.5 * answer.startswith('"') + 0.5 * answer.endswith('"')) if len(answer) > 2 else 0.0


def _exact_sentences(answer: str, n: str) -> float:
    return _near(sentences(answer), NUMBERS[n]) / len(lines(answer))


def _without_word(answer: str, keyword: str) -> float:
    return 1 / (1 + occurrences(answer, keyword))


NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}
_COUNTS = ("2", "3", "4", "5")
_PHRASES = ("and that is all", "as far as I know", "so take your time", "that is the main point")
_OPENINGS = ("In short", "To begin with", "As a rule", "Let us see")

KINDS = (
    Kind(
        "bullets",
        ("Answer with exactly {n} bullet points and nothing else.",
         "Reply with a bullet list of exactly {n} items, one per line, and no other text."),
        _bullets,
        {"n": _COUNTS},
    ),
    Kind(
        "numbered",
        ("Answer with a numbered list of exactly {n} items and nothing else.",
         "Reply only with a list numbered from 1 to {n}, one item per line."),
        _numbered,
        {"n": _COUNTS},
    ),
    Kind(
        "json",
        ('Answer with a JSON object with exactly the keys "{a}" and "{b}", and nothing else.',
         'Reply only with JSON: one object whose keys are "{a}" and "{b}".'),
        _json,
        {"a": ("summary", "topic", "answer"), "b": ("reason", "tip", "example")},
    ),
    Kind(
        "table",
        ('Answer with a Markdown table with the columns "{a}" and "{b}", and nothing else.',
         'Reply only with a Markdown table that has the two columns "{a}" and "{b}".'),
        _table,
        {"a": ("Item", "Name", "Part"), "b": ("Use", "Note", "Detail")},
    ),
    Kind(
        "max_words",
        ("Answer in at most {n} words.", "Use no more than {n} words."),
        _max_words,
        {"n": ("6", "8", "10", "12", "15")},
    ),
    Kind(
        "one_sentence",
        ("Answer in exactly one sentence.", "Reply with a single sentence."),
        _one_sentence,
        {},
    ),
    Kind(
        "lower_case",
        ("Write your whole answer in lower case letters, without any capital letter.",
         "Use only lower case letters in your answer."),
        _lower_case,
        {},
    ),
    Kind(
        "ends_with",
        ('End your answer with the words "{phrase}".', 'The last words of your answer must be "{phrase}".'),
        _ends_with,
        {"phrase": _PHRASES},
    ),
    Kind(
        "word_times",
        ('Use the word "{keyword}" exactly {n} times in your answer.',
         'Your answer must contain the word "{keyword}" exactly {n} times.'),
        _word_times,
        {"n": ("two", "three", "four")},
    ),
    Kind(
        "no_comma",
        ("Answer in exactly {n} sentences and use no comma.", "Reply with {n} sentences that contain no comma."),
        _no_comma,
        {"n": ("two", "three")},
    ),
    Kind(
        "capitals",
        ("Write your whole answer in capital letters.", "Use only capital letters in your answer."),
        _capitals,
        {},
        unseen=True,
    ),
    Kind(
        "starts_with",
        ('Begin your answer with the words "{phrase}".', 'The first words of your answer must be "{phrase}".'),
        _starts_with,
        {"phrase": _OPENINGS},
        unseen=True,
    ),
    Kind(
        "quoted",
        ("Put your whole answer in double quotation marks.",
         "Your answer must begin and end with a double quotation mark."),
        _quoted,
        {},
        unseen=True,
    ),
    Kind(
        "sentences",
        ("Answer in exactly {n} sentences.", "Reply with exactly {n} sentences on one line."),
        _exact_sentences,
        {"n": ("two", "three")},
        unseen=True,
    ),
    Kind(
        "without_word",
        ('Do not use the word "{keyword}" in your answer.', 'Answer without the word "{keyword}".'),
        _without_word,
        {},
        unseen=True,
    ),
)  # fmt: skip


def _pattern(phrasing: str) -> re.Pattern[str]:
    parts: list[str] = []
    for text, name in re.findall(r"([^{}]*)(?:\{(\w+)\})?", phrasing):
        parts.append(re.escape(text) + (rf"(?P<{name}>[^\".]+?)" if name else ""))
    return re.compile("".join(parts))


_PATTERNS: list[tuple[Kind, Any]] = [(kind, _pattern(phrasing)) for kind in KINDS for phrasing in kind.phrasings]
