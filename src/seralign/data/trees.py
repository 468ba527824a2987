"""Message trees as in OpenAssistant (oasst1, oasst2): a message a row, with the id of the message that it answers.

Each message of a prompter becomes one row: the conversation up to it, its ranked replies, and their ranks. The rows of
a tree may be anywhere in the source. Only the texts of trees of which a row is still to come are held, so little more
than one tree if the rows are ordered by tree, and all texts in the worst case; besides, about 200 bytes a message for
the ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from seralign.data.columns import MESSAGE_COLUMNS, TREE
from seralign.data.place import Place, Reading
from seralign.data.readers.part import Located, Size
from seralign.data.single import rank
from seralign.data.values import shown
from seralign.errors import DataError
from seralign.records import dense_ranks

DELETED = "deleted message"
FAILED_REVIEW = "message that failed its review"
MISSING_PARENT = "message whose parent is missing"
IN_CYCLE = "message in a cycle of parents"
WRONG_TURN = "message of the same role as its parent, or first message of an assistant"
BELOW = "message below one that is left out"
NO_RANK = "reply without a rank"

_ROLES = {"prompter": "user", "assistant": "assistant"}
_TRUTHS = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True, slots=True)
class _Message:
    """A message; ``fault`` is why it is left out for itself, whatever the messages above it are."""

    parent: str | None
    role: str
    text: str
    rank: int | None
    fault: str | None
    row: Mapping[str, Any]
    where: str


_Tree = dict[str, _Message]


@dataclass(frozen=True, slots=True)
class Forest:
    """The trees of a source. ``read`` starts at the first message each time; ``last`` is the last row of each tree."""

    read: Callable[[], Iterator[Located]]
    last: Mapping[str, int]

    def rows(self) -> Iterator[Located]:
        """A row for each message of a prompter whose conversation is whole, a tree after the other."""
        for rows, _ in self._trees():
            yield from rows

    def measure(self, limit: int | None) -> tuple[Size, Counter[str]]:
        """The size of the rows, at most ``limit``, and how many messages of their trees are left out, by reason.

        Raises:
            DataError: A message cannot be read; names the row.
        """
        count, columns, left_out = 0, dict[str, None](), Counter[str]()
        for rows, left in self._trees():
            if count == limit:
                break
            left_out += left
            for row, _ in islice(rows, None if limit is None else limit - count):
                count += 1
                columns |= dict.fromkeys(row)
        return Size(count, tuple(columns)), left_out

    def _trees(self) -> Iterator[tuple[list[Located], Counter[str]]]:
        """The rows of each tree, as soon as its last message is read."""
        open_trees: dict[str, _Tree] = {}
        for number, (row, where) in enumerate(self.read()):
            name = _name(row, "message_tree_id", where)
            open_trees.setdefault(name, {})[_name(row, "message_id", where)] = _message(row, where)
            if self.last[name] == number:
                yield _rows_of(open_trees.pop(name))


def is_tree(columns: Iterable[str]) -> bool:
    """Whether a source with these columns has message trees."""
    return set(TREE) <= {*columns}


def read_forest(read: Callable[[], Iterator[Located]]) -> Forest:
    """Find the trees of a source; reads it once.

    Raises:
        DataError: A row has no id or tree, or two messages have the same id; names the row.
    """
    last, seen = dict[str, int](), set[str]()
    for number, (row, where) in enumerate(read()):
        last[_name(row, "message_tree_id", where)] = number
        name = _name(row, "message_id", where)
        if name in seen:
            first = next(place for other, place in read() if other.get("message_id") == name)
            raise DataError(f"{where}: message_id {name!r} is already that of {first}; it must be unique")
        seen.add(name)
    return Forest(read, last)


def _name(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value:
        raise DataError(f"{where}: {column} must be text, got {shown(value)}; each row must be a message of a tree")
    return value


def _message(row: Mapping[str, Any], where: str) -> _Message:
    place = Place(where, Reading())
    role, text, parent = row.get("role"), row.get("text"), row.get("parent_id")
    if role not in _ROLES:
        raise place.error(f"role must be prompter or assistant, got {shown(role)}")
    if parent is not None and not isinstance(parent, str):
        raise place.error(f"parent_id must be text, or null for the first message of a tree, got {shown(parent)}")
    deleted, reviewed = _truth(row, "deleted", place), _truth(row, "review_result", place)
    fault = DELETED if deleted else FAILED_REVIEW if reviewed is False else None
    if fault is None and not isinstance(text, str):
        raise place.error(f"text must be text, got {shown(text)}")
    given = row.get("rank")
    found = None if given is None else rank(given, "rank", place)
    return _Message(parent or None, _ROLES[role], text or "", found, fault, row, where)


def _truth(row: Mapping[str, Any], column: str, place: Place) -> bool | None:
    value = row.get(column)
    found = _TRUTHS.get(value.strip().lower()) if isinstance(value, str) else value
    if (found is None and value is None) or isinstance(found, bool):
        return found
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    raise place.error(f"{column} must be true, false or null, got {shown(value)}")


def _rows_of(tree: _Tree) -> tuple[list[Located], Counter[str]]:
    """The rows of a tree, and the counts of what is left out."""
    faults = _faults(tree)
    left_out = Counter(fault for fault in faults.values() if fault is not None)
    replies: dict[str, list[str]] = {}
    for name, message in tree.items():
        if message.role == "assistant" and message.parent is not None:
            replies.setdefault(message.parent, []).append(name)
    rows: list[Located] = []
    for name, message in tree.items():
        if message.role != "user" or faults[name] is not None:
            continue
        answers = [tree[reply] for reply in replies.get(name, ()) if faults[reply] is None]
        ranked = [answer for answer in answers if answer.rank is not None]
        left_out.update({NO_RANK: len(answers) - len(ranked)} if len(answers) > len(ranked) else {})
        kept = {column: value for column, value in message.row.items() if column not in MESSAGE_COLUMNS}
        rows.append((
            {
                **kept,
                "messages": _conversation(tree, name),
                "responses": [answer.text for answer in ranked],
                "ranks": _ranks(ranked, [tree[reply] for reply in replies.get(name, ())]),
                "pair_id": name,
            },
            message.where,
        ))  # fmt: skip
    return rows, left_out


def _ranks(kept: list[_Message], replies: list[_Message]) -> list[int]:
    """The ranks of replies. The hole that a reply leaves which is left out here is closed, and no other one."""
    ranks = [reply.rank for reply in kept if reply.rank is not None]
    if dense_ranks([reply.rank for reply in replies if reply.rank is not None]) is None:
        return ranks
    return [sorted({*ranks}).index(each) for each in ranks]


def _conversation(tree: _Tree, name: str) -> list[dict[str, str]]:
    turns: list[dict[str, str]] = []
    at: str | None = name
    while at is not None:
        turns.append({"role": tree[at].role, "content": tree[at].text})
        at = tree[at].parent
    return turns[::-1]


def _faults(tree: _Tree) -> dict[str, str | None]:
    """Why each message is left out, or None; without recursion, since a conversation may be long."""
    faults: dict[str, str | None] = {}
    for name in tree:
        path: dict[str, None] = {}
        at: str | None = name
        while at is not None and at in tree and at not in faults and at not in path:
            path[at] = None
            at = tree[at].parent
        if at in path:
            circle = list(path)[list(path).index(at) :]
            faults |= dict.fromkeys(circle, IN_CYCLE)
        for each in reversed([step for step in path if step not in faults]):
            faults[each] = _fault(tree, each, faults)
    return faults


def _fault(tree: _Tree, name: str, faults: Mapping[str, str | None]) -> str | None:
    """Why a message is left out; that of its parent is known."""
    message = tree[name]
    if message.fault is not None:
        return message.fault
    if message.parent is None:
        return WRONG_TURN if message.role == "assistant" else None
    if message.parent not in tree:
        return MISSING_PARENT
    if faults[message.parent] is not None:
        return BELOW
    return WRONG_TURN if tree[message.parent].role == message.role else None
