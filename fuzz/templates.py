"""Chat templates, changed at random: some loop, some fail, some write what no one expects."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from fuzz.rows import PAIRS, TEMPLATES, TOKENIZERS, read_row
from fuzz.target import Target
from fuzz.values import text
from seralign.config import DataConfig

PIECES = [
    "{% for i in range(1000000000) %}x{% endfor %}", "{{ 'x' * 1000000000 }}", "{{ 1 / 0 }}", "{{ messages[99] }}",
    "{{ messages | reverse | list }}", "{% set x = messages | tojson %}{{ x }}", "{{ m['content'] }}",
    "{% for a in messages %}{% for b in messages %}{{ a.content }}{% endfor %}{% endfor %}", "{{ bos_token }}",
    "{{ eos_token }}", "{% if loop.last %}", "{% endif %}", "{{ raise_exception('no') }}", "{{ ''.__class__ }}",
    "{{ messages[::-1][0]['content'] }}", "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "<think>\n",
    "{{ '%s' | format(messages) }}", "{{ strftime_now('%Y') }}", "{% generation %}", "{{ 9 ** 9999999 }}",
    "{{ 'a'.center(1000000000) }}", "{{ m['content'][:1] }}", "{{ m['content'] | upper }}", "{{ tools }}",
]  # fmt: skip


@dataclass(frozen=True)
class TemplateInput:
    """A template and the pair that is rendered with it."""

    template: str
    pair: int
    tokenizer: int


def make(source: random.Random) -> TemplateInput:
    """A real template with pieces put in or cut out."""
    template = source.choice([template for template in TEMPLATES if template])
    for _ in range(source.choice([0, 1, 1, 2])):
        at = source.randrange(len(template) + 1)
        piece = source.choice([source.choice(PIECES), source.choice(PIECES), text(source)])
        template = template[:at] + piece + template[at + source.choice([0, 0, 3, 20]) :]
    return TemplateInput(template, source.randrange(len(PAIRS)), source.randrange(len(TOKENIZERS)))


def read(made: TemplateInput, folder: Path) -> None:
    """Render and encode the pair."""
    read_row("pair", PAIRS[made.pair], DataConfig(as_chat=True), TOKENIZERS[made.tokenizer](made.template))


TEMPLATES_TARGET = Target("templates", 0.02, make, read)
