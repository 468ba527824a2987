"""Outputs of files: AlpacaEval's ``model_outputs.json``, and the files of ``seralign sample``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seralign.config import SourceConfig
from seralign.config.evaluate import EvaluatedConfig
from seralign.config.paths import expanded
from seralign.data.content import Content
from seralign.data.place import Reading
from seralign.data.sources import load_rows
from seralign.errors import DataError
from seralign.pipeline.evaluate.outputs import Output, Outputs
from seralign.pipeline.evaluate.prompts import Question, join_key, read_content
from seralign.progress import say
from seralign.tables import quantity

_SHOWN = 80


@dataclass(frozen=True)
class _Row:
    """An output of a file. ``generator``: the model, if the file names it."""

    where: str
    prompt: Content
    output: Output
    generator: str | None


def file_outputs(
    name: str, config: EvaluatedConfig, questions: Sequence[Question], how: Reading, limited: bool = False
) -> Outputs:
    """Read a policy's outputs from a file, and join them to the prompts by their text or messages.

    Args:
        name: Name of the policy.
        config: The file, and whose outputs to read.
        questions: The prompts.
        how: How the prompts of the file are read.
        limited: Whether these are only the first prompts of their file (``prompts.limit``). Outputs for other prompts
            are then left out.

    Raises:
        DataError: the file cannot be read; or an output has no prompt, a prompt no output or several, or there are
            outputs of several models and none is chosen.
    """
    assert config.outputs is not None
    key = f"policies.{name}.outputs"
    rows = list(_of_generator(list(_rows(config.outputs, key, how)), config.generator, config.outputs, key))
    places = {join_key(question.content): place for place, question in enumerate(questions)}
    found: dict[int, _Row] = {}
    beyond = 0
    for row in rows:
        place = places.get(join_key(row.prompt))
        if place is None and limited:
            beyond += 1
            continue
        if place is None:
            raise DataError(f"{key}: {row.where} answers a prompt that is not in prompts: {_short(row.prompt)}")
        other = found.setdefault(place, row)
        if other is not row:
            raise DataError(f"{key}: {row.where} and {other.where} answer the same prompt; one output is needed")
    missing = [question for place, question in enumerate(questions) if place not in found]
    if missing:
        raise DataError(
            f"{key}: {config.outputs} has no output for {len(missing)} of {len(questions)} prompts, such as "
            f"{missing[0].where}: {_short(missing[0].content)}"
        )
    if beyond:
        say(f"policies.{name}: {quantity(beyond, 'output')} of {config.outputs} left out: not among the first prompts")
    answers = tuple(found[place].output for place in range(len(questions)))
    return Outputs(name, config.outputs, answers, (None,) * len(answers))


def _of_generator(rows: Sequence[_Row], generator: str | None, path: str, key: str) -> Iterator[_Row]:
    names = list(dict.fromkeys(row.generator for row in rows))
    known = ", ".join(str(name) for name in names if name is not None) or "none"
    if generator is None and len(names) > 1:
        raise DataError(f"{key}: {path} has outputs of several models ({known}); set generator to one of them")
    if generator is not None and generator not in names:
        raise DataError(f"{key}: {path} has no outputs of the generator {generator!r}; it has: {known}")
    return (row for row in rows if generator is None or row.generator == generator)


def _rows(path: str, key: str, how: Reading) -> Iterator[_Row]:
    source = SourceConfig(expanded(path))
    if not Path(expanded(path)).exists():
        raise DataError(f"{key}: {path}: no such file")
    for row, where in load_rows(source, key).located():
        name = "instruction" if "instruction" in row else "prompt"
        if name not in row:
            raise DataError(f"{key}: {where}: expected instruction and output (AlpacaEval), or prompt with response or "
                            f"responses (seralign sample); the columns are {', '.join(row)}")  # fmt: skip
        yield from _outputs(row, read_content(row[name], name, where, how), f"{where}", key)


def _outputs(row: Mapping[str, Any], prompt: Content, where: str, key: str) -> Iterator[_Row]:
    """The outputs of a row: ``output`` or ``response`` is one, ``responses`` is a list."""
    if "responses" in row:
        responses = row["responses"]
        if not isinstance(responses, list):
            raise DataError(f"{key}: {where}: responses must be a list, got {type(responses).__name__}")
        if not responses:
            why = f" ({row['left_out']})" if row.get("left_out") else ""
            raise DataError(f"{key}: {where}: the prompt has no response{why}")
        for one in responses:
            if not isinstance(one, Mapping):
                raise DataError(f"{key}: {where}: each of responses must be an object with text, got {one!r}")
            yield _Row(where, prompt, _output(one, "text", where, key), one.get("model"))
        return
    name = next((name for name in ("output", "response") if name in row), None)
    if name is None:
        raise DataError(f"{key}: {where}: no output: expected output, response or responses; the columns are "
                        f"{', '.join(row)}")  # fmt: skip
    yield _Row(where, prompt, _output(row, name, where, key), row.get("generator") or row.get("model"))


def _output(row: Mapping[str, Any], name: str, where: str, key: str) -> Output:
    text = row.get(name)
    if not isinstance(text, str):
        raise DataError(f"{key}: {where}: {name} must be text, got {text!r}")
    finished, tokens = row.get("finished"), row.get("tokens")
    if finished is None and row.get("finish_reason") is not None:
        finished = row["finish_reason"] == "stop"
    return Output(
        text,
        finished if isinstance(finished, bool) else None,
        tokens if isinstance(tokens, int) else None,
    )


def _short(content: Content) -> str:
    text = repr(content if isinstance(content, str) else content[-1])
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
