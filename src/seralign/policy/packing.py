"""The tensors of one forward pass: one packed row with shared prompts, or one padded row per sequence.

Legend: B rows, T tokens of a row, R responses, N tokens of all responses, S segments of a packed row.

Both forms have the same keys: ``input_ids`` [B, T]; ``attention_mask``, for packed rows a layout (see
``seralign.policy.attention``); ``source`` [N], the position in the flattened input of the token that predicts each
response token; ``target`` [N], the response tokens; ``lengths`` [R]; ``ends`` [R], the position in the flattened input
of the last token of each response, where a reward is read. Packed rows also have ``position_ids``. Responses keep the
order in which they were given.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from seralign.progress import say_once

BATCH_NAMES = ("input_ids", "attention_mask", "position_ids", "source", "target", "lengths", "ends")

Sequence = tuple[Seq[int], Seq[int]]


def make_batch(sequences: Seq[Sequence], longest: int) -> dict[str, Tensor]:
    """Pack (prompt ids, response ids) into one row; pad them if one is longer than the model's packed rows allow."""
    if max(len(prompt) + len(response) for prompt, response in sequences) <= longest:
        return pack_sequences(sequences)
    if longest:
        say_once(f"sequences longer than the attention's window of {longest} tokens are padded, not packed")
    return pad_sequences(sequences)


def pack_sequences(sequences: Seq[Sequence]) -> dict[str, Tensor]:
    """Make one row: each distinct prompt once, followed by its distinct responses. No padding.

    Raises:
        ValueError: a prompt is empty.
    """
    groups: dict[tuple[int, ...], dict[tuple[int, ...], tuple[int, int]]] = {}
    for prompt, response in sequences:
        groups.setdefault(tuple(prompt), {})[tuple(response)] = (0, 0)
    ids: list[int] = []
    positions: list[int] = []
    layout: list[tuple[int, int]] = []
    for prompt, responses in groups.items():
        _check_prompt(prompt)
        last = len(ids) + len(prompt) - 1
        ids += prompt
        positions += range(len(prompt))
        # A prompt with a single response is one ordinary sequence, so it is one segment.
        alone = len(responses) == 1
        layout.append((len(prompt) + (sum(map(len, responses)) if alone else 0), 0))
        for response in responses:
            responses[response] = (last, len(ids))
            ids += response
            positions += range(len(prompt), len(prompt) + len(response))
            if not alone:
                layout.append((len(response), 1))
    starts = [groups[tuple(prompt)][tuple(response)] for prompt, response in sequences]
    source = [
        at
        for (last, first), (_, response) in zip(starts, sequences, strict=True)
        for at in ([last, *range(first, first + len(response) - 1)] if len(response) else [])
    ]
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "attention_mask": torch.tensor(layout, dtype=torch.int32)[None, None],
        "source": torch.tensor(source, dtype=torch.long),
        "ends": torch.tensor(
            [
                first + len(response) - 1 if len(response) else last
                for (last, first), (_, response) in zip(starts, sequences, strict=True)
            ]
        ),
    } | _targets(sequences)


def pad_sequences(sequences: Seq[Sequence]) -> dict[str, Tensor]:
    """Make one right-padded row for each sequence.

    Masks come from lengths, never from token values, so the padding token may be any token.

    Raises:
        ValueError: a prompt is empty.
    """
    width = max(len(prompt) + len(response) for prompt, response in sequences)
    input_ids = torch.zeros(len(sequences), width, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    source: list[int] = []
    ends: list[int] = []
    for row, (prompt, response) in enumerate(sequences):
        _check_prompt(prompt)
        start, end = len(prompt), len(prompt) + len(response)
        input_ids[row, :start] = torch.as_tensor(prompt, dtype=torch.long)
        input_ids[row, start:end] = torch.as_tensor(response, dtype=torch.long)
        attention_mask[row, :end] = 1
        source += range(row * width + start - 1, row * width + end - 1)
        ends.append(row * width + end - 1)
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "source": torch.tensor(source, dtype=torch.long),
        "ends": torch.tensor(ends),
    } | _targets(sequences)


def _targets(sequences: Seq[Sequence]) -> dict[str, Tensor]:
    return {
        "target": torch.tensor([token for _, response in sequences for token in response], dtype=torch.long),
        "lengths": torch.tensor([len(response) for _, response in sequences]),
    }


def _check_prompt(prompt: Seq[int]) -> None:
    if not len(prompt):
        raise ValueError("a prompt is empty; a response needs at least one token before it")
