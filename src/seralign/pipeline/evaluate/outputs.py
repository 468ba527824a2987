"""The outputs of policies: one answer of each policy to each prompt."""

from __future__ import annotations

from dataclasses import dataclass

from seralign.errors import DataError


@dataclass(frozen=True, slots=True)
class Output:
    """An answer. ``finished`` and ``tokens`` are None where a file does not have them."""

    text: str
    finished: bool | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Outputs:
    """The answers of a policy to N prompts.

    Args:
        name: Name of the policy.
        source: Where they are from, for people.
        answers: In the order of the prompts [N]; None where the policy could not be asked.
        reasons: Why each prompt has no answer [N]; None where it has one.
    """

    name: str
    source: str
    answers: tuple[Output | None, ...]
    reasons: tuple[str | None, ...]


def checked(outputs: Outputs) -> Outputs:
    """The outputs, if any of them has text.

    Raises:
        DataError: all are empty.
    """
    answers = [answer for answer in outputs.answers if answer is not None]
    if not any(answer.text.strip() for answer in answers):
        raise DataError(f"policies.{outputs.name}: all {len(answers)} outputs are empty ({outputs.source})")
    return outputs
