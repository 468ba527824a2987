"""Candidates of several models and temperatures for the same prompts, with where each is from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from seralign.config.candidates import SampleConfig
from seralign.config.paths import expanded
from seralign.data.formats import read_prompt
from seralign.data.place import reading
from seralign.data.raw import Drop, RawPrompt
from seralign.data.sources import load_rows
from seralign.errors import DataError
from seralign.pipeline.aligned import Aligned
from seralign.pipeline.answers import Answered, sample_answers
from seralign.pipeline.asking import Reader, load_reader, make_speaker, read_file
from seralign.pipeline.evaluate.prompts import KEY, join_key
from seralign.policy.identity import weights_digest
from seralign.policy.saved import SavedPolicy, saved_policy
from seralign.progress import say
from seralign.records import content_id
from seralign.runs.files import disk_errors, partial_folder, write_atomic
from seralign.runs.results import result_key
from seralign.sampling import params_of

MAKER = "seralign sample"


@dataclass(frozen=True)
class Response:
    """A response and where it is from. ``finish_reason``: ``stop`` (an end token) or ``length`` (cut)."""

    text: str
    model: str
    temperature: float
    seed: int
    finish_reason: str
    tokens: int


@dataclass(frozen=True)
class Figures:
    """Counts of a sampling."""

    prompts: int
    responses: int
    repeated_prompts: int
    repeated_responses: int
    unfinished: int
    unanswered: int


@dataclass(frozen=True)
class Sampled:
    """The answers of a model at one temperature, one for each row of the prompts."""

    temperature: float
    seed: int
    answers: list[Answered]


@dataclass(frozen=True)
class Model:
    """A model, and how it reads prompts."""

    policy: SavedPolicy
    reader: Reader


def sample_all(config: SampleConfig) -> Figures:
    """Sample all candidates, and write them to ``config.out``. A sampling that was killed resumes.

    Raises:
        SeralignError: A model or the prompts cannot be read, or no prompt can be asked.
    """
    out = Path(expanded(config.out))
    part = out.with_name(out.name + ".partial")
    models = [_opened(config, place) for place in config.models]
    _check_alike(config, models)
    # By the first model, because another one may read the same row as plain text.
    keys: list[str] = []
    given: dict[str, dict[str, Any]] = {}
    found: dict[str, list[Response]] = {}
    with disk_errors(out.parent), partial_folder(part, MAKER):
        for number, (place, model) in enumerate(zip(config.models, models, strict=True)):
            for sampled in _of_model(config, model, number, part):
                keys = keys or [_key(row, one) for row, one in enumerate(sampled.answers)]
                asked = dict(zip(keys, sampled.answers, strict=True))
                for key, one in asked.items():
                    given.setdefault(key, {"prompt": one.given} | one.inputs.given())
                    found.setdefault(key, []).extend(_responses(one, place, sampled))
        figures = _write(out, config, given, found, len(keys))
        shutil.rmtree(part)
    return figures


def _opened(config: SampleConfig, place: str) -> Model:
    policy = saved_policy(place)
    if config.format is not None:
        policy = replace(policy, data=replace(policy.data, format=config.format))
    alignment = config.linear_alignment
    aligned = None if alignment is None else Aligned(alignment, "linear_alignment")
    return Model(policy, load_reader(policy, system=config.system, plain=config.plain, aligned=aligned))


def _check_alike(config: SampleConfig, models: Sequence[Model]) -> None:
    """Check, before anything is sampled, that all models are asked the same: those of runs may read rows differently.

    A text and a conversation of one user message with this text are the same.

    Raises:
        DataError: A row is one prompt for a model, and another one, or none, for another model.
    """
    ways = [reading(model.reader.encoder.data, KEY) for model in models]
    others = [number for number, way in enumerate(ways) if way not in ways[:number]][1:]
    for row, where in load_rows(config.prompts, KEY).located() if others else ():
        first = _meaning(read_prompt(row, where, ways[0]))
        for number in others:
            if _meaning(read_prompt(row, where, ways[number])) != first:
                formats = " and ".join(f"{config.models[at]} with {ways[at].format}" for at in (0, number))
                raise DataError(
                    f"{where}: the models read this prompt differently (data.format: {formats}), so that their "
                    "responses would be to different prompts; set format: auto or hh for all of them"
                )


def _meaning(raw: RawPrompt | Drop) -> str:
    """The same for prompts that are the same, and for all rows that are not asked."""
    return "" if isinstance(raw, Drop) else content_id([join_key(raw.prompt), raw.inputs.given()])


def _of_model(config: SampleConfig, model: Model, number: int, folder: Path) -> Iterator[Sampled]:
    """The answers of a model at each temperature. Its weights are loaded once, if an answer is missing."""
    policy, reader = model.policy, model.reader
    asked = list(read_file(reader, config.prompts, KEY))
    digest = weights_digest(policy.source)
    speaker = make_speaker(policy, reader, config.sampling, "sample")
    for temperature in config.all_temperatures:
        settings = replace(config.sampling, temperature=temperature)
        seed = _seed(config.seed, digest, temperature)
        say(f"model {number + 1} of {len(config.models)}: {policy.name}, temperature {temperature:g}")
        params = params_of(settings, config.samples)
        answers = sample_answers(speaker, asked, params, policy=digest, seed=seed, folder=folder)
        yield Sampled(temperature, seed, list(answers))


def _key(row: int, one: Answered) -> str:
    """The same for equal prompts with equal inputs; a row without a prompt is like no other."""
    return content_id([one.given, one.inputs.given()] if one.given is not None else ["row", row])


def _seed(seed: int, policy: str, temperature: float) -> int:
    """A seed of its own for each model and temperature, which does not depend on the others of the configuration."""
    return int.from_bytes(result_key("seed of candidates", [seed, policy, temperature])[:4], "big") >> 1


def _responses(one: Answered, place: str, sampled: Sampled) -> list[Response]:
    return [
        Response(
            each.text, place, sampled.temperature, sampled.seed, "stop" if each.finished else "length", len(each.ids)
        )
        for each in one.responses
    ]


def _write(
    out: Path, config: SampleConfig, given: dict[str, dict[str, Any]], found: dict[str, list[Response]], rows: int
) -> Figures:
    unfinished = repeated = unanswered = kept = 0
    lines: list[str] = []
    for key, responses in found.items():
        whole = [one for one in responses if config.unfinished == "keep" or one.finish_reason == "stop"]
        different = _different(whole, config.duplicates)
        unfinished += len(responses) - len(whole)
        repeated += len(whole) - len(different)
        unanswered += not different
        kept += len(different)
        lines += [json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(given[key], different, config.rows)]
    if not kept:
        raise DataError("no response is left: every one was cut at max_new_tokens; set it higher, or unfinished: keep")
    write_atomic(out, lambda part: part.write_text("".join(lines), encoding="utf-8"))
    return Figures(len(found) - unanswered, kept, rows - len(found), repeated, unfinished, unanswered)


def _different(responses: list[Response], duplicates: str) -> list[Response]:
    """The responses without repeated ones; the first of each stays."""
    if duplicates == "keep":
        return responses
    first: dict[str, Response] = {}
    for one in responses:
        first.setdefault(one.text if duplicates == "exact" else " ".join(one.text.split()), one)
    return list(first.values())


def _rows(prompt: dict[str, Any], responses: list[Response], rows: str) -> Iterable[dict[str, Any]]:
    """The lines of a prompt with its inputs; none without a response."""
    if not responses:
        return []
    if rows == "prompt":
        return [prompt | {"responses": [asdict(one) for one in responses]}]
    each = [asdict(one) for one in responses]
    return [prompt | {"response": one.pop("text")} | one for one in each]
