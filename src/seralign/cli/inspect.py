"""``seralign inspect``: show the data as tokens, before any training."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from seralign.cli.diagnose import Diagnose, asked_diagnosis, print_diagnosis
from seralign.config import RunConfig, config_parser, parse_config
from seralign.config.flags import Parser
from seralign.errors import ConfigError
from seralign.records import Example, Label, Pair, Ranking, Scores
from seralign.runs.layout import DEMONSTRATIONS, HELDOUT, HELDOUT_PROMPTS, PAIRS, PROMPTS
from seralign.tables import counted, quantity

if TYPE_CHECKING:
    from rich.console import RenderableType

    from seralign.data.tokens import Encoder
    from seralign.runs.data_figures import DataFigures, SourceFigures


def main(arguments: list[str]) -> None:
    """``[RUN.yaml | FILE --model M] [--examples N] [--key value ...]``"""
    parser = config_parser(
        prog="seralign inspect",
        usage="seralign inspect [RUN.yaml | FILE --model M] [--examples N] [--diagnose] [--key value ...]",
        description="Read and tokenize the data of a run, and show counts, lengths and examples. Or show one file of "
        "preferences, demonstrations or prompts, as the model M would read it. Nothing is written to the run.",
    )
    parser.add_argument(
        "--examples",
        type=int,
        default=2,
        help="number of examples to show in full (default: 2); with --diagnose, those with the least likely labels",
    )
    parser.add_argument(
        "--diagnose",
        action="store_true",
        help="show how well length and other surface features alone predict the labels, duplicates, contradictions, "
        "nearly identical responses, and how many labels are probably wrong",
    )
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="with --diagnose: draw the accuracies")
    parser.add_argument(
        "--margins",
        type=Path,
        metavar="RUN",
        help="with --diagnose: estimate the noise of the labels from the margins of a run with crossfit on these data",
    )
    if arguments and not arguments[0].startswith("-") and Path(arguments[0]).suffix.lower() not in (".yaml", ".yml"):
        _inspect_file(parser, arguments[0], arguments[1:])
        return
    config, extra = parse_config(parser, arguments)
    print_data(config, extra["examples"], asked_diagnosis(extra))


def _inspect_file(parser: argparse.ArgumentParser, file: str, rest: list[str]) -> None:
    """A file without a configuration. The keys of ``data`` and ``policy`` are flags here too."""
    own = Parser(parser.prog, add_help=False)
    own.add_argument("--model")
    model, rest = own.parse_known_args(rest)
    if model.model is None and not {"-h", "--help"} & set(rest):
        raise ConfigError(f"{file}: set the model that is to read it: --model FOLDER, or its name on the hub")
    given = ["--out", "inspect", "--policy.model", str(model.model), "--data.pairs.path", file]
    config, extra = parse_config(parser, [*given, *rest])
    print_file(config, extra["examples"], asked_diagnosis(extra))


def print_file(config: RunConfig, examples: int, diagnosis: Diagnose | None = None) -> None:
    """Read and tokenize only ``data.pairs``, whatever its rows are, and print counts, lengths and examples."""
    from rich.text import Text

    from seralign.cli.console import stdout
    from seralign.data.prepare import prepare_demonstrations, prepare_pairs, prepare_prompts
    from seralign.data.tokens import make_encoder
    from seralign.policy.admission import check_model
    from seralign.policy.load import end_tokens, load_tokenizer
    from seralign.policy.saved import base_source
    from seralign.preferences.converting import convert_table

    if config.data.pairs is None:
        raise ConfigError("data.pairs is missing: the file to read")
    kind = _kind(config)
    prepare = {"pairs": prepare_pairs, "demonstrations": prepare_demonstrations, "prompts": prepare_prompts}[kind]
    source = base_source(config)
    check_model(source, config.policy)
    tokenizer = load_tokenizer(source, config.policy)
    encoder = make_encoder(tokenizer, config.data, end_tokens(source, tokenizer))
    console = stdout()
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "rows.arrow"
        table, report = prepare(config.data.pairs, encoder, file, f"data.{kind}")
        if kind == "pairs":
            _, report = convert_table(file, table, config.data.convert, config.data.keep_columns, report)
        for part in _source(kind, report):
            console.print(part, soft_wrap=isinstance(part, Text))
        wanted: tuple[str, ...] = ()
        if diagnosis is not None:
            if kind != "pairs":
                raise ConfigError(f"--diagnose is for pairs, and these are {kind}")
            wanted = print_diagnosis(file, diagnosis)
        _print_rows(file, encoder, examples, wanted, are_prompts=kind == "prompts")


def _print_rows(file: Path, encoder: Encoder, count: int, wanted: Collection[str], *, are_prompts: bool) -> None:
    from seralign.cli.console import stdout

    for part in _prompts(file, encoder, count) if are_prompts else _examples(file, encoder, count, wanted):
        stdout().print(part, soft_wrap=True)


def _kind(config: RunConfig) -> str:
    """The kind of the first row. Of pairs and demonstrations, the reading checks that the other rows are the same.

    Raises:
        DataError: it is not a pair, a demonstration or a prompt, or its format cannot be trained on; or it is a prompt,
            and another row is a pair.
    """
    from seralign.data.kinds import OneKind, kind_of
    from seralign.data.place import Place, reading
    from seralign.data.sources import load_rows

    assert config.data.pairs is not None
    rows, how = load_rows(config.data.pairs, "data.pairs"), reading(config.data, "data.pairs")
    row, where = next(rows.located())
    kind = kind_of(row, Place(where, how))
    if kind == "prompts":
        same = OneKind()
        for row, where in rows.located():
            same.check(row, where, how)
    return kind


def print_data(config: RunConfig, examples: int, diagnosis: Diagnose | None = None) -> None:
    """Read and tokenize the data of a run in a temporary folder, and print counts, lengths and examples."""
    from rich.text import Text

    from seralign.cli.console import stdout
    from seralign.data.tokens import make_encoder
    from seralign.pipeline.data import read_data
    from seralign.pipeline.world import with_world
    from seralign.policy.admission import check_model
    from seralign.policy.load import end_tokens, load_tokenizer
    from seralign.policy.saved import base_source
    from seralign.runs import Run

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        config = with_world(Run(folder), config)
        source = base_source(config)
        check_model(source, config.policy)
        tokenizer = load_tokenizer(source, config.policy)
        encoder = make_encoder(tokenizer, config.data, end_tokens(source, tokenizer))
        figures = read_data(config, encoder, folder)
        console = stdout()
        for part in _tables(figures, folder):
            console.print(part, soft_wrap=isinstance(part, Text))
        wanted = () if diagnosis is None else print_diagnosis(folder / PAIRS, diagnosis)
        name = _trained_on(folder)
        _print_rows(folder / name, encoder, examples, wanted, are_prompts=name == PROMPTS)


def _trained_on(folder: Path) -> str:
    """The table of what a run trains on: pairs or other examples, or else what its rounds make pairs of."""
    from seralign.data.table import read_table

    if len(read_table(folder / PAIRS)):
        return PAIRS
    return DEMONSTRATIONS if (folder / DEMONSTRATIONS).exists() else PROMPTS


def _counts(folder: Path) -> str:
    """How much there is to train on, and what is held out."""
    from seralign.data.table import read_table
    from seralign.data.table_columns import forms

    name = _trained_on(folder)
    table = read_table(folder / name)
    if name == PAIRS:
        form = "".join(forms(table))
        noun = form if form in ("pair", "demonstration") else "example"
        return f"{quantity(len(table), noun)} to train on, {len(read_table(folder / HELDOUT)):,} held out"
    noun, what = ("demonstration", "to make pairs of") if name == DEMONSTRATIONS else ("prompt", "to answer")
    held = len(read_table(folder / HELDOUT_PROMPTS))
    return f"{quantity(len(table), noun)} {what}, {quantity(held, 'prompt')} held out"


def _tables(figures: DataFigures, folder: Path) -> Iterator[RenderableType]:
    from rich.text import Text

    for name, source in figures.sources.items():
        yield from _source(name, source)
    yield Text(_counts(folder))
    if shared := figures.heldout_prompts_also_trained_on:
        also = "is" if shared == 1 else "are"
        yield Text(f"warning: {quantity(shared, 'held-out prompt')} {also} also trained on", style="yellow")
    yield Text("")


def _source(name: str, source: SourceFigures) -> Iterator[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    from seralign.pipeline.remarks import remarks

    yield Text(f"data.{name}: {source.source}", style="bold")
    yield Text(f"  read {source.read}, kept {source.kept}, soft labels {100 * source.soft:.1f}%")
    for what, reasons in (("dropped", source.dropped), ("noted", source.noted)):
        yield Text(f"  {what}: {counted(source.located(reasons)) or 'none'}")
    for line in remarks(name, source):
        yield Text(line, style="yellow")
    table = Table("tokens", "min", "median", "95%", "max", header_style="bold")
    for part, lengths in source.lengths.items():
        table.add_row(part, *(f"{each:g}" for each in (lengths.min, lengths.median, lengths.p95, lengths.max)))
    yield table


def _prompts(path: Path, encoder: Encoder, count: int) -> Iterator[RenderableType]:
    """Prompts in full, as the model reads them."""
    from rich.text import Text

    from seralign.data.table import read_table
    from seralign.data.templates import decode
    from seralign.terminal import printable

    table = read_table(path)
    for row in table.select(range(min(count, len(table)))):
        ids = row["ids"]  # pyright: ignore
        yield Text(f"prompt {row['prompt_id']}: {len(ids)} tokens", style="bold")  # pyright: ignore
        yield Text(printable(decode(encoder.tokenizer, ids)))


def _sides(example: Example) -> list[str]:
    """What the preference says of each response."""
    match example.preference:
        case Pair():
            return ["chosen", "rejected"]
        case Ranking(ranks):
            return [f"rank {rank}" for rank in ranks]
        case Scores(scores):
            return [f"score {score:g}" for score in scores]
        case Label(desirable):
            return ["desirable" if desirable else "undesirable"]
    return ["response"]


def _examples(path: Path, encoder: Encoder, count: int, wanted: Collection[str]) -> Iterator[RenderableType]:
    """Examples in full: the prompt, a border, and the response, which the loss counts. Those of the ids ``wanted``,
    or else the first ones."""
    from rich.text import Text

    from seralign.data.table import read_table, to_example
    from seralign.data.table_columns import example_ids
    from seralign.data.templates import decode
    from seralign.terminal import printable

    table = read_table(path)
    rows = [row for row, name in enumerate(example_ids(table)) if name in wanted] if wanted else range(len(table))
    for row in table.select(rows[: max(count, 0)]):
        example = to_example(cast(dict[str, Any], row))
        label = f"  p {example.preference.p:g}" if isinstance(example.preference, Pair) else ""
        yield Text(f"{example.preference.form} {example.example_id}{label}  weight {example.weight:g}", style="bold")
        for name, value in example.carried.items():
            yield Text(printable(f"{name}: {value}"))
        sides = _sides(example)
        for side, response in zip(sides, example.responses, strict=True):
            prompt_ids, ids = example.prompt.ids, response.ids
            ended = bool(ids) and ids[-1] in encoder.eos_ids
            ends = "ends with an end token" if ended else "no end token (cut)"
            yield Text(f"{side}: {len(prompt_ids)} prompt tokens ‖ {len(ids)} response tokens, {ends}", style="italic")
            prompt, response = (printable(decode(encoder.tokenizer, part)) for part in (prompt_ids, ids))
            yield Text.assemble((prompt, "dim"), (" ‖ ", "red"), (response, "bold"))
        yield Text("")
