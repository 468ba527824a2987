"""Which data an objective can be trained on."""

from __future__ import annotations

from collections.abc import Sequence

from seralign.errors import ConfigError
from seralign.objectives import OBJECTIVES, ObjectiveSum


def check_forms(found: Sequence[str], objective: ObjectiveSum, source: str) -> None:
    """Refuse data whose form of preference a term of the objective does not take.

    Args:
        found: The forms of a table's examples.
        objective: What is trained.
        source: Configuration key of the data, such as ``data.pairs``, for messages.

    Raises:
        ConfigError: A term takes another form.
    """
    for term in objective.terms:
        for form in found:
            if form in term.objective.forms:
                continue
            others = [name for name, kind in OBJECTIVES.items() if form in kind.forms]
            advice = f"an objective that takes {form} ({', '.join(others)})" if others else "another objective"
            raise ConfigError(
                f"objective.name: {term.name} takes {' and '.join(sorted(term.objective.forms))}, but {source} has the "
                f"form {form}; give {advice}, or other data as {source}"
            )
