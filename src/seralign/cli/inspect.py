"""``seralign inspect``: what the data look like as tokens, before any training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seralign.config import RunConfig, config_parser, parse_config

if TYPE_CHECKING:
    from rich.console import RenderableType

    from seralign.data.tokens import Encoder


def main(arguments: list[str]) -> None:
    """``[RUN.yaml] [--examples N] [--key value ...]``"""
    parser = config_parser(
        prog="seralign inspect",
        usage="seralign inspect [RUN.yaml] [--examples N] [--key value ...]",
        description="Read and tokenize the data of a run, and show what comes out. Writes nothing to the run.",
    )
    parser.add_argument("--examples", type=int, default=2, help="pairs to show in full")
    config, extra = parse_config(parser, arguments)
    print_data(config, extra["examples"])


def print_data(config: RunConfig, examples: int) -> None:
    """Read and tokenize the data of a run in a temporary folder, and print counts, lengths and examples."""
    from rich.text import Text

    from seralign.cli.console import stdout
    from seralign.data.tokens import make_encoder
    from seralign.loop.data import read_data
    from seralign.loop.prepare import base_source, world_stage
    from seralign.policy.admission import check_model
    from seralign.policy.load import end_tokens, load_tokenizer
    from seralign.store import Run

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        config = world_stage(Run(folder), config)
        source = base_source(config)
        check_model(source, config.policy)
        tokenizer = load_tokenizer(source, config.policy)
        encoder = make_encoder(tokenizer, config.data, end_tokens(source, tokenizer))
        figures = read_data(config, encoder, folder)
        console = stdout()
        for part in _tables(figures):
            console.print(part, soft_wrap=isinstance(part, Text))
        for part in _examples(folder / "pairs.arrow", encoder, examples):
            console.print(part, soft_wrap=True)


def _tables(figures: dict[str, Any]) -> Iterator[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    from seralign.loop.data import remarks

    for name, source in figures["sources"].items():
        yield Text(f"data.{name}: {source['source']}", style="bold")
        yield Text(f"  read {source['read']}, kept {source['kept']}, soft labels {100 * source['soft']:.1f}%")
        for what in ("dropped", "noted"):
            counts = ", ".join(f"{reason} {count}" for reason, count in source[what].items())
            yield Text(f"  {what}: {counts or 'none'}")
        for line in remarks(name, source):
            yield Text(line, style="yellow")
        table = Table("tokens", "min", "median", "95%", "max", header_style="bold")
        for part, lengths in source["lengths"].items():
            table.add_row(part, *(f"{lengths[key]:g}" for key in ("min", "median", "p95", "max")))
        yield table
    yield Text(f"{figures['pairs']} pairs to train on, {figures['heldout']} held out")
    if shared := figures["heldout_prompts_also_trained_on"]:
        yield Text(f"warning: {shared} held-out prompts are also trained on", style="yellow")
    yield Text("")


def _examples(path: Path, encoder: Encoder, count: int) -> Iterator[RenderableType]:
    """Pairs in full: what is before the border is read, what is after it counts in the loss."""
    from rich.text import Text

    from seralign.data.table import read_table
    from seralign.data.templates import decode
    from seralign.terminal import printable

    table = read_table(path)
    for row in table.select(range(min(count, len(table)))):
        yield Text(f"pair {row['pair_id']}  p {row['p']:g}  weight {row['weight']:g}", style="bold")  # pyright: ignore
        for side in ("chosen", "rejected"):
            prompt_ids, ids = row["prompt_ids"], row[f"{side}_ids"]  # pyright: ignore
            ended = bool(ids) and ids[-1] in encoder.eos_ids
            ends = "ends with an end token" if ended else "no end token (cut)"
            yield Text(f"{side}: {len(prompt_ids)} prompt tokens ‖ {len(ids)} response tokens, {ends}", style="italic")
            prompt, response = (printable(decode(encoder.tokenizer, part)) for part in (prompt_ids, ids))
            yield Text.assemble((prompt, "dim"), (" ‖ ", "red"), (response, "bold"))
        yield Text("")
