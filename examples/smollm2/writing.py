"""A program that follows the instructions: it puts short statements into the format that is asked for.

It writes the answers of the prompts that show how (``Task.shown``), and answers where the model never passes, from
statements of the model itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from examples.smollm2.checks import NUMBERS, Instruction, occurrences, words

LONGEST = 14
"""Number of words that a statement is cut to."""


def statements(text: str) -> list[str]:
    """Short statements in an answer, without the marks of a list, quotation marks and the full stop."""
    found = []
    for part in re.split(r"(?<=[.!?])\s+|\n+", text):
        plain = re.sub(r"^\s*(?:[-*•#>]+|\d+[.)])\s*|[\"*`|{}_#]", "", part).strip(" .!?:;,-")
        chosen = words(plain)[:LONGEST]
        if len(chosen) >= 3:
            found.append(" ".join(chosen).strip(" .!?:;,-"))
    return found


def write(instruction: Instruction, facts: Sequence[str]) -> str | None:
    """An answer that follows the instruction, or None if there are too few statements or no rule for its kind."""
    rule = _RULES.get(instruction.kind.name)
    try:
        return None if rule is None or not facts else rule(list(facts), **instruction.parameters)
    except IndexError:
        return None


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentences(facts: Sequence[str]) -> str:
    return " ".join(f"{_capital(re.sub(r'[.!?]', '', fact))}." for fact in facts)


def _several(facts: list[str], count: int) -> list[str]:
    if len(facts) < count:
        raise IndexError(count)
    return facts[:count]


def _bullets(facts: list[str], n: str) -> str:
    return "\n".join(f"- {_capital(fact)}" for fact in _several(facts, int(n)))


def _numbered(facts: list[str], n: str) -> str:
    return "\n".join(f"{number}. {_capital(fact)}" for number, fact in enumerate(_several(facts, int(n)), start=1))


def _json(facts: list[str], a: str, b: str) -> str:
    return json.dumps({a: _capital(facts[0]), b: _capital(facts[1])}, ensure_ascii=False)


def _table(facts: list[str], a: str, b: str) -> str:
    rows = [(a, b), ("---", "---"), (facts[0], facts[1])] + ([(facts[2], facts[3])] if len(facts) > 3 else [])
    return "\n".join(f"| {left} | {right} |" for left, right in rows)


def _max_words(facts: list[str], n: str) -> str:
    return f"{_capital(' '.join(facts[0].split()[: int(n)]))}."


def _one_sentence(facts: list[str]) -> str:
    return _sentences(facts[:1])


def _lower_case(facts: list[str]) -> str:
    return _sentences(facts[:2]).lower()


def _ends_with(facts: list[str], phrase: str) -> str:
    return f"{_capital(facts[0])}, {phrase}."


def _word_times(facts: list[str], keyword: str, n: str) -> str:
    others = [fact for fact in facts if not occurrences(fact, keyword)]
    return " ".join(f"About {keyword}: {fact}." for fact in _several(others, NUMBERS[n]))


def _no_comma(facts: list[str], n: str) -> str:
    return _sentences([fact.replace(",", "") for fact in _several(facts, NUMBERS[n])])


_RULES: dict[str, Callable[..., str]] = {
    "bullets": _bullets,
    "numbered": _numbered,
    "json": _json,
    "table": _table,
    "max_words": _max_words,
    "one_sentence": _one_sentence,
    "lower_case": _lower_case,
    "ends_with": _ends_with,
    "word_times": _word_times,
    "no_comma": _no_comma,
}
