"""The data of a run: tokenizes, splits and counts all sources in the folder of the stage ``data``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerBase

from seralign import distributed
from seralign.config import RunConfig, SourceConfig
from seralign.data.prepare import (
    heldout_rows,
    prepare_demonstrations,
    prepare_pairs,
    prepare_prompts,
)
from seralign.data.sources import fingerprint
from seralign.data.table import read_table, write_examples, write_prompts_of, write_subset
from seralign.data.table_columns import column_lengths, id_column, largest_token
from seralign.data.tokens import Encoder, make_encoder
from seralign.errors import ConfigError, ModelError
from seralign.pipeline.demonstrated import split_demonstrations
from seralign.pipeline.inputs import ENCODING, settings
from seralign.policy.adapters import vocabulary_rows
from seralign.policy.identity import PolicySource
from seralign.policy.load import tokenizer_inputs
from seralign.policy.settings import model_settings, positions
from seralign.preferences.converting import convert_table
from seralign.runs import Run
from seralign.runs.data_figures import DataFigures, SourceFigures
from seralign.runs.layout import DATA, DEMONSTRATIONS, HELDOUT, HELDOUT_PROMPTS, PAIRS, PROMPTS


@dataclass(frozen=True)
class Tables:
    """The run's data, memory-mapped; ``digest`` identifies their contents.

    Without pairs, in supervised training, ``pairs`` are the demonstrations, and ``demonstrations`` is None. In a run
    that makes all of its pairs, ``pairs`` are empty.
    """

    pairs: datasets.Dataset
    heldout: datasets.Dataset
    prompts: datasets.Dataset
    heldout_prompts: datasets.Dataset
    demonstrations: datasets.Dataset | None
    digest: str


def data_inputs(config: RunConfig, tokenizer: PreTrainedTokenizerBase, end_tokens: frozenset[int]) -> dict[str, str]:
    """Digests of everything that the tables of a run are made from."""
    sources = _sources(config)
    inputs = {key: fingerprint(source, key) for key, source in sources.items()}
    inputs |= settings(config, *(f"{key}.{name}" for key in sources for name in ("name", "split", "columns", "limit")))
    inputs |= settings(config, *ENCODING, "data.convert", "data.keep_columns") | tokenizer_inputs(tokenizer, end_tokens)
    if config.data.heldout is None:
        inputs |= settings(config, "data.heldout_fraction", "seed")
    return inputs


def write_tables(
    config: RunConfig,
    tokenizer: PreTrainedTokenizerBase,
    end_tokens: frozenset[int],
    folder: Path,
    check: Callable[[Tables], None] = lambda _: None,
) -> DataFigures | None:
    """Write the tables of a run's data into the folder of its stage, and check them. The main process writes.

    Args:
        config: Of the run.
        tokenizer: Of the policy.
        end_tokens: Tokens that end a response.
        folder: Of the stage.
        check: Further checks of the tables.

    Returns:
        Counts and lengths by source; None in other processes.

    Raises:
        DataError: A source cannot be read.
        ConfigError: Prompts and answers do not fit the model's window.
        ModelError: The data have tokens that the model has no embedding for.
    """
    encoder = make_encoder(tokenizer, config.data, end_tokens)
    figures = read_data(config, encoder, folder) if distributed.is_main() else None
    distributed.barrier()
    tables = _tables(folder.joinpath, (folder / DEMONSTRATIONS).exists(), "")
    _check_window(config, tables)
    _check_tokens(config, tables, tokenizer)
    check(tables)
    return figures


def read_tables(run: Run) -> Tables:
    """The tables that the stage ``data`` of a run has written.

    Raises:
        StoreError: the stage has not finished, or a file has changed.
    """
    record = run.record(DATA)
    return _tables(partial(run.path, DATA), DEMONSTRATIONS in record.outputs, record.digest)


def read_data(config: RunConfig, encoder: Encoder, folder: Path) -> DataFigures:
    """Write the tables of a run's data into a folder; returns counts and lengths by source."""
    data, sources = config.data, _sources(config)
    reports: dict[str, SourceFigures] = {}
    name, prepare = "pairs", prepare_pairs
    if config.demonstrations_alone:
        name, prepare = "demonstrations", prepare_demonstrations

    def examples(source: SourceConfig, file: Path, name: str) -> datasets.Dataset:
        table, report = prepare(source, encoder, file, f"data.{name}")
        table, reports[name] = convert_table(file, table, data.convert, data.keep_columns, report)
        return table

    if f"data.{name}" in sources:
        pairs = examples(sources[f"data.{name}"], folder / PAIRS, name)
    else:
        pairs = _no_examples(folder / PAIRS)
    if data.heldout is not None:
        heldout = examples(data.heldout, folder / HELDOUT, "heldout")
    else:
        held_out = heldout_rows(pairs, data.heldout_fraction, config.seed)
        (folder / PAIRS).rename(folder / "all.arrow")
        pairs = write_subset(folder / PAIRS, read_table(folder / "all.arrow"), ~held_out)
        heldout = write_subset(folder / HELDOUT, read_table(folder / "all.arrow"), held_out)
        (folder / "all.arrow").unlink()
    if data.prompts is not None:
        asked, reports["prompts"] = prepare_prompts(data.prompts, encoder, folder / PROMPTS, "data.prompts")
        if not len(pairs) and data.heldout_prompts is None and data.heldout is None:
            _hold_out_prompts(asked, data.heldout_fraction, config.seed, folder)
    else:
        write_prompts_of(folder / PROMPTS, pairs)
    if data.heldout_prompts is not None:
        _, reports["heldout_prompts"] = prepare_prompts(
            data.heldout_prompts, encoder, folder / HELDOUT_PROMPTS, "data.heldout_prompts"
        )
    elif not (folder / HELDOUT_PROMPTS).exists():
        write_prompts_of(folder / HELDOUT_PROMPTS, heldout)
    if "data.demonstrations" in sources and name == "pairs":
        _, reports["demonstrations"] = prepare_demonstrations(
            sources["data.demonstrations"], encoder, folder / DEMONSTRATIONS, "data.demonstrations"
        )
        if config.demonstrated and not len(pairs):
            split_demonstrations(config, folder)
    return _figures(folder, reports)


def _figures(folder: Path, reports: dict[str, SourceFigures]) -> DataFigures:
    """The figures of the tables in a folder."""
    pairs, heldout = read_table(folder / PAIRS), read_table(folder / HELDOUT)
    shared = _shared((pairs, read_table(folder / PROMPTS)), (heldout, read_table(folder / HELDOUT_PROMPTS)))
    return DataFigures(len(pairs), len(heldout), shared, reports)


def _hold_out_prompts(prompts: datasets.Dataset, fraction: float, seed: int, folder: Path) -> None:
    """Hold out a share of the prompts, of a run without pairs."""
    held_out = heldout_rows(prompts, fraction, seed)
    for name, side in ((PROMPTS, ~held_out), (HELDOUT_PROMPTS, held_out)):
        write_subset(folder / f"{name}.split", prompts, side)
    for name in (PROMPTS, HELDOUT_PROMPTS):
        (folder / f"{name}.split").replace(folder / name)


def _no_examples(file: Path) -> datasets.Dataset:
    """An empty table of examples, of a run that trains on none."""
    write_examples(file, [])
    return read_table(file)


def _shared(trained: tuple[datasets.Dataset, ...], held_out: tuple[datasets.Dataset, ...]) -> int:
    """How many prompts of the held-out tables are in the others."""
    chunks = [chunk for table in held_out for chunk in id_column(table, "prompt_id").chunks]
    held = pa.chunked_array(chunks, pa.string()).unique()
    found = np.zeros(len(held), dtype=bool)
    for table in trained:
        for chunk in id_column(table, "prompt_id").chunks:
            found |= pc.is_in(held, value_set=chunk).to_numpy(zero_copy_only=False)  # pyright: ignore
    return int(found.sum())


def _sources(config: RunConfig) -> dict[str, SourceConfig]:
    """The sources that the run reads, by configuration key."""
    names = ["pairs", "heldout", "prompts", "heldout_prompts"] + (["demonstrations"] if config.supervised else [])
    found = {f"data.{name}": getattr(config.data, name) for name in names}
    return {key: source for key, source in found.items() if source is not None}


def _tables(path: Callable[[str], Path], has_demonstrations: bool, digest: str) -> Tables:
    def table(name: str) -> datasets.Dataset:
        return read_table(path(f"{name}.arrow"))

    return Tables(
        pairs=table("pairs"),
        heldout=table("heldout"),
        prompts=table("prompts"),
        heldout_prompts=table("heldout_prompts"),
        demonstrations=table("demonstrations") if has_demonstrations else None,
        digest=digest,
    )


def _check_tokens(config: RunConfig, tables: Tables, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that the embedding has a row for every token in the data; tokens that do not occur do not matter."""
    policy = config.policy
    rows = vocabulary_rows(PolicySource(str(policy.model), policy.revision, policy.adapter), policy)
    parts = (tables.pairs, tables.heldout, tables.prompts, tables.heldout_prompts, tables.demonstrations)
    for table in parts:
        largest = -1 if table is None else largest_token(table)
        if largest >= rows:
            text = tokenizer.convert_ids_to_tokens(largest)
            raise ModelError(
                f"policy.tokenizer: the data has token {largest} ({text!r}), but the model's embedding {rows} rows; "
                "give the tokenizer that belongs to the model, or resize the model's embedding and save it"
            )


def _check_window(config: RunConfig, tables: Tables) -> None:
    """Check early that the model has enough positions."""
    settings = model_settings(PolicySource(str(config.policy.model), config.policy.revision), config.policy)
    window = positions(settings)
    data, bootstrap = config.data, config.bootstrap
    if data.max_length > window:
        raise ConfigError(f"data.max_length is {data.max_length}, but the model has {window} positions; lower it")
    if config.evaluation.prompts:
        _check_room(
            tables.heldout_prompts,
            "evaluation.max_new_tokens",
            config.answer_tokens,
            window,
            "the model's positions",
        )
    if config.rlhf is not None:
        _check_room(tables.prompts, "rlhf.max_new_tokens", config.rlhf.limit, window, "the model's positions")
    if bootstrap is not None and config.bootstraps:
        room = min(window, data.max_length)
        tokens = bootstrap.sampling.limit
        _check_room(tables.prompts, "bootstrap.max_new_tokens", tokens, room, "data.max_length")


def _check_room(prompts: datasets.Dataset, key: str, tokens: int, room: int, what: str) -> None:
    longest = int(column_lengths(prompts, "ids").max(initial=0))
    if longest + tokens > room:
        raise ConfigError(
            f"{key} is {tokens}: with the longest prompt of {longest} tokens that is more than {what}, {room}; "
            "lower it or data.max_prompt_length"
        )
