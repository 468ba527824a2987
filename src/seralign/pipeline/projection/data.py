"""Sizes of the data of a run: rows, and mean tokens of a row. Nothing is downloaded or tokenized."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from itertools import islice

from seralign.config import DataConfig, RunConfig, SourceConfig
from seralign.data.content import Content, is_chat
from seralign.data.formats import read_demonstration, read_example, read_prompt
from seralign.data.place import reading
from seralign.data.raw import RawExample, RawPrompt
from seralign.data.readers.files import local_files
from seralign.data.sources import load_rows
from seralign.errors import ConfigError

# Rows of a local file whose lengths are averaged.
_LOOKED_AT = 1000
# Characters of a token of English text, for tokenizers of 32 to 256 thousand tokens.
CHARACTERS = 4.0


@dataclass(frozen=True)
class DataSizes:
    """Sizes of the data, after ``data.max_length``; the fields are options of the command.

    Args:
        pairs: Number of pairs to train on.
        heldout: Number of held-out pairs.
        prompts: Number of prompts for bootstrapping.
        demonstrations: Number of demonstrations.
        prompt_tokens: Mean tokens of a prompt.
        response_tokens: Mean tokens of a response.
        demonstration_tokens: Mean tokens of a demonstration, with its prompt.
    """

    pairs: int
    heldout: int
    prompts: int
    demonstrations: int
    prompt_tokens: int
    response_tokens: int
    demonstration_tokens: int


SIZES = tuple(field.name for field in fields(DataSizes))


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of the prompt and of a response of a source; rows by split."""

    rows: dict[str, int]
    prompt: int
    response: int


# Rows are those of the data sets' cards. Lengths are estimates from the bytes of the cards (docs/planning.md).
HUB: dict[str, Lengths] = {
    "HuggingFaceH4/ultrafeedback_binarized": Lengths({"train_prefs": 61_135, "test_prefs": 2_000}, 170, 325),
    "HuggingFaceH4/ultrachat_200k": Lengths({"train_sft": 207_865, "test_sft": 23_110}, 850, 250),
    "Anthropic/hh-rlhf": Lengths({"train": 160_800, "test": 8_552}, 160, 75),
    "trl-lib/tldr": Lengths({"train": 116_722, "validation": 6_447, "test": 6_553}, 345, 35),
    "trl-lib/tldr-preference": Lengths({"train": 92_858, "validation": 86_086}, 345, 40),
}


def data_sizes(config: RunConfig, given: dict[str, int]) -> DataSizes:
    """The sizes of a run's data: as given, of a data set that is known, or counted in local files.

    Args:
        config: The run.
        given: Sizes by the names of ``DataSizes``; they come before all others.

    Raises:
        ConfigError: a size is not known; names the options that give it.
        DataError: a local file cannot be read.
    """
    data = config.data
    pairs = _source(data.pairs, "data.pairs", data, given, ("pairs", "prompt_tokens", "response_tokens"))
    heldout = None if data.heldout is None else _source(data.heldout, "data.heldout", data, given, ("heldout",))
    pairless = pairs is None and config.generates_all
    needed = ("prompts", "prompt_tokens") if pairless else ("prompts",)
    prompts = None if data.prompts is None else _source(data.prompts, "data.prompts", data, given, needed)
    shown = None
    if config.supervised and data.demonstrations is not None:
        needed = ("demonstrations", "demonstration_tokens")
        if pairless:
            needed = ("demonstrations", "prompt_tokens", "response_tokens")
        shown = _source(data.demonstrations, "data.demonstrations", data, given, needed)
    if pairless:
        return _pairless(config, heldout, prompts, shown, given)
    found = _combined(data, pairs, heldout, prompts, shown, given)
    return found if config.rlhf is None or config.has_pairs else _of_prompts(config, found, given)


def _of_prompts(config: RunConfig, found: DataSizes, given: dict[str, int]) -> DataSizes:
    """Sizes of a run that maximises a reward and has no pairs: responses may be as long as they are sampled, and
    prompts are held out."""
    assert config.rlhf is not None
    held = given.get("heldout", math.ceil(config.data.heldout_fraction * found.prompts))
    own = found.prompts if config.data.heldout_prompts is not None or "heldout" in given else found.prompts - held
    return replace(
        found,
        heldout=held,
        prompts=max(1, own),
        response_tokens=given.get("response_tokens", config.rlhf.limit),
    )


def _pairless(
    config: RunConfig, heldout: Lengths | None, prompts: Lengths | None, shown: Lengths | None, given: dict[str, int]
) -> DataSizes:
    """The sizes of a run that makes all of its pairs, of demonstrations or of prompts alone."""
    data, bootstrap = config.data, config.bootstrap
    first = shown if config.demonstrated else prompts
    assert first is not None
    assert bootstrap is not None
    prompt = min(given.get("prompt_tokens", first.prompt), data.prompt_limit)
    # Nothing is known of responses that are still to be sampled.
    known = first.response if config.demonstrated else bootstrap.sampling.limit
    response = min(given.get("response_tokens", known), data.max_length - prompt)
    rows = given.get("demonstrations" if config.demonstrated else "prompts", _rows(first))
    splits = heldout is None and data.heldout_prompts is None
    held = given.get("heldout", math.ceil(data.heldout_fraction * rows) if splits else 0)
    own = max(0, rows - held) if splits else rows
    demonstrations = own if config.demonstrated else 0 if shown is None else _rows(shown)
    return DataSizes(0, held, own, demonstrations, prompt, response, min(prompt + response, data.max_length))


def _combined(
    data: DataConfig,
    pairs: Lengths | None,
    heldout: Lengths | None,
    prompts: Lengths | None,
    shown: Lengths | None,
    given: dict[str, int],
) -> DataSizes:
    # Runs that maximise a reward need prompts alone.
    first = pairs or shown or prompts
    assert first is not None
    limit = data.max_prompt_length or 3 * data.max_length // 4
    prompt = min(given.get("prompt_tokens", first.prompt), limit)
    response = min(given.get("response_tokens", first.response), data.max_length - prompt)
    rows = given.get("pairs", 0 if pairs is None else _rows(pairs))
    held = given.get("heldout", math.ceil(data.heldout_fraction * rows) if heldout is None else _rows(heldout))
    own = rows if heldout is not None else max(0, rows - held)
    demonstrations = given.get("demonstrations", own if shown is None else _rows(shown))
    whole = prompt + response if shown is None else shown.prompt + shown.response
    whole = min(given.get("demonstration_tokens", whole), data.max_length)
    samples = given.get("prompts", own if prompts is None else _rows(prompts))
    return DataSizes(own, held, samples, demonstrations, prompt, response, whole)


def _rows(source: Lengths) -> int:
    return sum(source.rows.values())


def _source(
    source: SourceConfig | None, key: str, data: DataConfig, given: dict[str, int], needed: tuple[str, ...]
) -> Lengths | None:
    if source is None:
        return None
    if all(name in given for name in needed):
        prompt, response = given.get("prompt_tokens", 0), given.get("response_tokens", 0)
        return Lengths({"": given[needed[0]]}, prompt, response)
    known = HUB.get(source.path) if isinstance(source.path, str) else None
    if known is not None and source.split in known.rows:
        rows = known.rows[source.split]
        return replace(known, rows={source.split: rows if source.limit is None else min(rows, source.limit)})
    if local_files(source, key) is not None:
        return _counted(source, key, data)
    flags = ", ".join(f"--{name}" for name in needed)
    raise ConfigError(f"{key}: the size of {source.path} ({source.split}) is not known here; give {flags}")


def _counted(source: SourceConfig, key: str, data: DataConfig) -> Lengths:
    rows = load_rows(source, key)
    prompts, responses = [], []
    for row, where in islice(rows.located(), _LOOKED_AT):
        read = {"data.demonstrations": read_demonstration, "data.prompts": read_prompt}.get(key, read_example)
        found = read(row, where, reading(data, key))
        if isinstance(found, RawPrompt | RawExample):
            prompts.append(_tokens(found.prompt))
        if isinstance(found, RawExample):
            responses += [_tokens(response) for response in found.responses]
    return Lengths({source.split: len(rows)}, _mean(prompts), _mean(responses))


def _tokens(content: Content) -> float:
    if is_chat(content):
        return sum(len(str(message.get("content") or "")) for message in content) / CHARACTERS
    return len(content) / (CHARACTERS if isinstance(content, str) else 1.0)


def _mean(values: list[float]) -> int:
    return max(1, round(sum(values) / len(values))) if values else 1
