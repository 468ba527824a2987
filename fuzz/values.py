"""Random values: texts that break things, JSON of any shape, and changes to a valid value."""

from __future__ import annotations

import copy
import random
from typing import Any

ODD_TEXTS = [
    "", " ", "\n", "\x00", "\x1b[31mred", "\u202eabc", "\ud800", "\ufeff", "é", "e\u0301", "👩‍👩‍👧", "007", "3.10",
    "1e-6", "true", "null", "None", "NaN", "2024-01-01", "1:30", "[]", "{}", '{"a": 1}',
    '[{"role": "user", "content": "Hi"}]', "[{'role': 'user', 'content': 'Hi'}]", "<think>\nno\n</think>\n\nyes",
    "</think>", "<|im_end|>", "</s>", "{{ 1 }}", "{% for a in b %}", "\n\nHuman: Hi\n\nAssistant: Hello",
    "\n\nAssistant:", "[INST] Hi [/INST] Ho", "../../etc/passwd", "*.jsonl", "a" * 5000,
]  # fmt: skip
ODD_NUMBERS = [
    0, 1, -1, 2, -100, 0.5, 1.0, 0.2, 1.5, -0.0, 1e-300, 1e300, 2**31, 2**63, -(2**63) - 1, 10**30, float("nan"),
    float("inf"), float("-inf"), True, False,
]  # fmt: skip
WORDS = ["The", "sky", "is", "blue", "green", "grass", "What", "bread", "hello", "4", "Paris", "."]
KEYS = ["role", "content", "from", "value", "text", "type", "name", "arguments", "function", "tool_calls", "x"]


def text(source: random.Random) -> str:
    """A text: words, an odd text, or characters from anywhere."""
    kind = source.randrange(6)
    if kind < 3:
        return " ".join(source.choice(WORDS) for _ in range(source.randrange(1, 6)))
    if kind == 3:
        return source.choice(ODD_TEXTS)
    if kind == 4:
        return source.choice(ODD_TEXTS) + text(source)
    return "".join(chr(source.randrange(0x110000)) for _ in range(source.randrange(8)))


def value(source: random.Random, depth: int = 3) -> Any:
    """Any JSON value."""
    kind = source.randrange(8 if depth else 5)
    if kind < 2:
        return text(source)
    if kind == 2:
        return source.choice(ODD_NUMBERS)
    if kind == 3:
        return None
    if kind == 4:
        return source.randrange(-10, 500)
    if kind == 5:
        return [value(source, depth - 1) for _ in range(source.randrange(4))]
    if kind == 6:
        return {source.choice(KEYS): value(source, depth - 1) for _ in range(source.randrange(4))}
    deep: Any = []
    for _ in range(source.choice([5, 50, 400])):
        deep = [deep]
    return deep


def mutated(source: random.Random, valid: Any) -> Any:
    """A copy of a value with a few changes at random places."""
    changed = copy.deepcopy(valid)
    for _ in range(source.choice([0, 1, 1, 1, 2, 3])):
        changed = _change(source, changed)
    return changed


def _change(source: random.Random, node: Any) -> Any:
    inside = isinstance(node, dict | list) and len(node) > 0
    if not inside or source.random() < 0.15:
        return _other(source, node)
    if isinstance(node, dict):
        key = source.choice(list(node))
        kind = source.randrange(8)
        if kind == 0:
            del node[key]
        elif kind == 1:
            node[source.choice([*KEYS, text(source)])] = node.pop(key)
        elif kind == 2:
            node[source.choice([*KEYS, text(source)])] = value(source, 2)
        else:
            node[key] = _change(source, node[key])
        return node
    place = source.randrange(len(node))
    kind = source.randrange(6)
    if kind == 0:
        del node[place]
    elif kind == 1:
        node.insert(place, copy.deepcopy(node[place]))
    elif kind == 2:
        node.insert(place, value(source, 2))
    else:
        node[place] = _change(source, node[place])
    return node


def _other(source: random.Random, node: Any) -> Any:
    if isinstance(node, str) and source.random() < 0.5:
        at = source.randrange(len(node) + 1)
        return node[:at] + text(source) + node[at + source.randrange(3) :]
    if isinstance(node, dict) and source.random() < 0.3:
        return [node]
    if isinstance(node, list) and len(node) == 1 and source.random() < 0.3:
        return node[0]
    return value(source, 2)


def damaged(source: random.Random, content: bytes) -> bytes:
    """Bytes, half of the time with a few changes: flipped, cut, doubled, overwritten, filled in."""
    changed = bytearray(content)
    for _ in range(source.choice([0, 0, 0, 1, 1, 5])):
        at = source.randrange(len(changed) + 1)
        kind = source.randrange(6)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << source.randrange(8)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            del changed[at : at + source.randrange(1, 20)]
        elif kind == 3:
            changed[at:at] = changed[max(0, at - source.randrange(1, 50)) : at]
        elif kind == 4:
            changed[at:at] = bytes(source.randrange(256) for _ in range(source.randrange(1, 6)))
        else:
            changed[at:at] = text(source).encode("utf-8", "surrogatepass")
    return bytes(changed)
