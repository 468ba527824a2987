"""Pairs under prompts that ask for a score (reward-augmented data, 2410.08067).

As the authors' code has it: with the score of the chosen response in the prompt a pair stays as it is, and with the
score of the rejected response it is the other way round, because the rejected response is the one that was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seralign.errors import ConfigError, DataError
from seralign.preferences.opinions import Scored
from seralign.preferences.pairing import Chosen
from seralign.preferences.stored import Judged


def goal_rows(row: Mapping[str, Any], one: Judged, pair: Chosen, goal: str) -> list[dict[str, Any]]:
    """The two rows of a pair, with the scores of its chosen and of its rejected response as the goal.

    For example, the prompt ``q``, a chosen ``a`` with score 3, a rejected ``b`` with score 1 and the goal
    ``Score {score}:`` give ``Score 3:\\n\\nq`` with a over b, and ``Score 1:\\n\\nq`` with b over a.

    Args:
        row: The pair as a row.
        one: The responses, with the opinion of the only signal.
        pair: Which of them the pair is of.
        goal: A text with ``{score}``.

    Raises:
        ConfigError: The signal compares responses, and gives no score.
        DataError: The prompt is messages whose first one has no text to put the goal before.
    """
    opinion = one.opinions[0]
    if not isinstance(opinion, Scored):
        raise ConfigError("pairs.goal needs a signal that gives each response a score, and this one compares them")
    scores = opinion.scores[pair.chosen], opinion.scores[pair.rejected]
    asked = [goal.replace("{score}", f"{score:g}") for score in scores if score is not None]
    assert len(asked) == 2
    prompts = [_with_goal(row["prompt"], each, one.where) for each in asked]
    swapped = {"chosen": row["rejected"], "rejected": row["chosen"]}
    return [{**row, "prompt": prompts[0]}, {**row, **swapped, "prompt": prompts[1]}]


def _with_goal(prompt: Any, goal: str, where: str) -> Any:
    if isinstance(prompt, str):
        return f"{goal}\n\n{prompt}"
    messages = [prompt] if isinstance(prompt, Mapping) else list(prompt)
    first = messages[0] if messages else None
    key = "content" if isinstance(first, Mapping) and "content" in first else "value"
    if not isinstance(first, Mapping) or not isinstance(first.get(key), str):
        raise DataError(f"{where}: pairs.goal is put before the text of the first message, which has none")
    return [{**first, key: f"{goal}\n\n{first[key]}"}, *messages[1:]]
