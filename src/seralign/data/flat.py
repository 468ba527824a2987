"""Rows in other preference formats (OpenAI, PKU-SafeRLHF, LLaMA-Factory, ms-swift), converted to our column names."""

from __future__ import annotations

from collections.abc import Mapping

from seralign.data import columns
from seralign.data.columns import Row
from seralign.data.place import Place
from seralign.data.values import shown

OF_PKU = ("response_0", "response_1", "better_response_id")
OF_SWIFT = ("rejected_messages", "rejected_response")


def flat(row: Row, place: Place) -> Row:
    """Convert a row of another preference format to our columns; others are unchanged.

    The formats are those of OpenAI, PKU-SafeRLHF, LLaMA-Factory before it had ``chosen`` and ``rejected``, and
    ms-swift.

    Raises:
        DataError: The row has the columns of such a format but not its content.
    """
    if all(name in row for name in columns.OPENAI):
        return _of_openai(row, place)
    if all(name in row for name in OF_PKU) and not {*columns.IMPLICIT} & row.keys():
        return _of_pku(row, place)
    if "instruction" in row and isinstance(row.get("output"), list | tuple):
        return _of_llama_factory(row, place)
    return _of_swift(row, place)


def _of_openai(row: Row, place: Place) -> Row:
    prompt = row["input"]
    if not isinstance(prompt, Mapping) or "messages" not in prompt:
        raise place.error("input must be an object with messages, as in OpenAI's preference format")
    inner = {"messages": "prompt", "tools": "tools"}
    made = {inner.get(name, f"input.{name}"): value for name, value in prompt.items()}
    made |= {"chosen": row["preferred_output"], "rejected": row["non_preferred_output"]}
    # A column whose name one of ours takes is not used; the list of unused columns shows it under another name.
    others = {
        f"{name} (beside input)" if name in made else name: value
        for name, value in row.items()
        if name not in columns.OPENAI
    }
    return {**others, **made}


def _of_pku(row: Row, place: Place) -> Row:
    """Two responses, and the number of the better one."""
    better = str(row["better_response_id"]).strip()
    if better not in ("0", "1"):
        raise place.error(f"better_response_id must be 0 or 1, got {row['better_response_id']!r}")
    others = {name: value for name, value in row.items() if name not in OF_PKU}
    worse = "0" if better == "1" else "1"
    return {**others, "chosen": row[f"response_{better}"], "rejected": row[f"response_{worse}"]}


def _of_llama_factory(row: Row, place: Place) -> Row:
    """``instruction`` with an optional ``input`` below it, and the better and the worse answer as a list."""
    beside = [name for name in ("prompt", *columns.IMPLICIT) if name in row]
    if beside:
        raise place.error(f"output is a list of answers, and {beside[0]} is there, too; leave one of the two out")
    output, asked = row["output"], [row["instruction"], row.get("input")]
    if len(output) != 2 or not all(isinstance(answer, str) for answer in output):
        raise place.error(
            "output must be a list of two texts, the better answer first, as in older datasets of LLaMA-Factory; for "
            "more answers, write a list of responses and a list of their ranks"
        )
    wrong = next((name for name, text in zip(("instruction", "input"), asked, strict=True)
                  if not isinstance(text, str) and not (name == "input" and text is None)), None)  # fmt: skip
    if wrong is not None:
        raise place.error(f"{wrong} must be text, got {shown(row[wrong])}")
    others = {name: value for name, value in row.items() if name not in ("instruction", "input", "output")}
    return {**others, "prompt": "\n".join(text for text in asked if text), "chosen": output[0], "rejected": output[1]}


def _of_swift(row: Row, place: Place) -> Row:
    """``messages`` that end with the chosen answer; the rejected answer, or the conversation that ends with it, is in
    another column.
    """
    names = [name for name in OF_SWIFT if name in row]
    if not names or columns.answered(row, place) is None or {*columns.IMPLICIT} & row.keys():
        return row
    given = [name for name in names if row[name] is not None]
    if len(given) > 1:
        raise place.error(f"{' and '.join(given)} both have the rejected answer; leave one of the two out")
    if not given:
        raise place.error(f"{' and '.join(names)} must be text or a list of {{role, content}} messages, got null")
    others = {name: value for name, value in row.items() if name not in names}
    return {**others, "rejected": row[given[0]]}
