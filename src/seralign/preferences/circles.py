"""Preferences that contradict each other: a over b, b over c, c over a."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)


def in_circles(preferences: Iterable[tuple[Item, Item]]) -> set[tuple[Item, Item]]:
    """The preferences (better, worse) that lie on a circle, with two or more members.

    Worked by hand: of a > b, b > c, c > a and a > d, all but the last one.
    """
    edges = list(dict.fromkeys(preferences))
    part = components(edges)
    return {(better, worse) for better, worse in edges if part[better] == part[worse]}


def components(edges: Iterable[tuple[Item, Item]]) -> dict[Item, Item]:
    """For each item one member of its circle, the same for all items of the circle; the item itself if it is on none.

    These are the strongly connected components, by the algorithm of Kosaraju.
    """
    forth: defaultdict[Item, list[Item]] = defaultdict(list)
    back: defaultdict[Item, list[Item]] = defaultdict(list)
    items: dict[Item, None] = {}
    for better, worse in edges:
        forth[better].append(worse)
        back[worse].append(better)
        items |= {better: None, worse: None}
    ended: list[Item] = []
    seen: set[Item] = set()
    for start in items:
        stack = [(start, False)]
        while stack:
            item, done = stack.pop()
            if done:
                ended.append(item)
            elif item not in seen:
                seen.add(item)
                stack += [(item, True), *((each, False) for each in forth[item])]
    part: dict[Item, Item] = {}
    for start in reversed(ended):
        open_ones = [start]
        while open_ones:
            item = open_ones.pop()
            if item not in part:
                part[item] = start
                open_ones += back[item]
    return part
