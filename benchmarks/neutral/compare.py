"""Differences of two runs' facts, in words."""

from __future__ import annotations

from benchmarks.neutral.facts import Facts, Value

_SHOWN = 3
_NOTHING = "nothing"


def differences(base: Facts, tree: Facts) -> list[str]:
    """One line for each series that is not the same to the last bit, in the order of their names."""
    lines = []
    for name in sorted(base.keys() | tree.keys()):
        old, new = base.get(name, {}), tree.get(name, {})
        labels = [*old, *(label for label in new if label not in old)]
        changed = [label for label in labels if not _same(old.get(label, _NOTHING), new.get(label, _NOTHING))]
        if changed:
            shown = [f"{label}: {old.get(label, _NOTHING)} -> {new.get(label, _NOTHING)}" for label in changed[:_SHOWN]]
            more = "; ..." if len(changed) > _SHOWN else ""
            lines.append(f"{name}: {len(changed)} of {len(labels)} differ ({'; '.join(shown)}{more})")
    return lines


def _same(old: Value, new: Value) -> bool:
    """Equal, and of one type; a number that is none is equal to itself."""
    return type(old) is type(new) and (old == new or (old != old and new != new))
