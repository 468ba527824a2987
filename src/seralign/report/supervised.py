"""What is said of a run whose objective is SFT: it has demonstrations and losses, and no pairs to rank."""

from __future__ import annotations

from typing import Any

from seralign.tables import number

# What to do about a warning, where the advice for preference objectives does not fit.
ADVICE = {
    "length": "Compare them with the demonstrations' lengths (seralign inspect), which they should come to have. If "
    "they are longer still, train less (training.epochs).",
    "diversity": "Lower training.learning_rate or train less (training.epochs), and see whether the demonstrations "
    "repeat themselves.",
    "repetition": "Lower training.learning_rate or train less (training.epochs), and see whether the demonstrations "
    "repeat themselves.",
    "unfinished": "Raise evaluation.max_new_tokens, or see in seralign inspect whether the demonstrations end "
    "with the model's end token.",
    "harm": "Lower training.learning_rate or train less (training.epochs), and read some of the answers and of the "
    "demonstrations.",
}


def demonstrations(figures: dict[str, Any]) -> int | None:
    """How many demonstrations a run trains on; None before it has."""
    train = next((entry["train"] for entry in figures["rounds"] if entry["train"]), None)
    return None if train is None else train["pairs"]


def dropped(figures: dict[str, Any]) -> int:
    """Rows that were dropped of what the demonstrations are made of."""
    return sum(_source(figures)["dropped"].values())


def data_lines(figures: dict[str, Any]) -> list[str]:
    """Where the demonstrations came from, a line each."""
    if not figures["data"]:
        return ["No data read yet"]
    source = _source(figures)
    what = (
        "demonstrations" if "demonstrations" in figures["data"]["sources"] else "pairs, of which the chosen responses"
    )
    counts = {name: ", ".join(f"{n:,} {why}" for why, n in source[name].items()) for name in ("dropped", "noted")}
    lines = [f"{source['kept']:,} of {source['read']:,} {what} read from {source['source']}"]
    lines.append(f"{figures['data']['heldout']:,} pairs held out, for the held-out loss")
    lines.append("dropped: " + (counts["dropped"] or "none"))
    return [*lines, f"noted: {counts['noted']}"] if counts["noted"] else lines


def _source(figures: dict[str, Any]) -> dict[str, Any]:
    sources = figures["data"]["sources"]
    return sources.get("demonstrations") or sources["pairs"]


def heldout_loss(figures: dict[str, Any]) -> tuple[str, str] | None:
    """The held-out loss after the training, and what it is to be compared with; None without held-out data."""
    one = next((one for one in figures["trainings"] if one["name"] == "round 1" and one["heldout_loss"]), None)
    if one is None:
        return None
    note = f"nats a token; {number(one['heldout_loss']['first'], 3)} at the start"
    if one["perplexity"] is not None:
        note += f"; perplexity {number(one['perplexity'], 2)}"
    return number(one["heldout_loss"]["last"], 3), note
