"""A run in one screen: its key figures, and what each round did and gained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from seralign.report.contents import RunContents
from seralign.report.format import ACCURACY
from seralign.report.supervised import demonstrations, dropped, heldout_loss
from seralign.tables import ABSENT, Table, duration, interval, number, percent, share, signed, without_empty

HELDOUT_ACCURACY = "Held-out accuracy"


@dataclass(frozen=True)
class Tile:
    """A figure that is read first: its name, its value, and what it is to be compared with."""

    label: str
    value: str
    note: str
    interval: str = ""


def headline(run: RunContents) -> str:
    """What the run did, in one sentence."""
    figures = run.figures
    if figures["objective"] == "sft":
        return _supervised_headline(figures)
    done = sum(1 for entry in figures["rounds"] if entry["train"])
    planned = run.config["rounds"]
    rounds = f"{done} {'round' if done == 1 else 'rounds'}" if done == planned else f"{done} of {planned} rounds"
    pairs = f" on {_trained_on(figures):,} preference pairs" if figures["data"] else ", no data read yet"
    return f"{figures['objective'].upper()}{pairs}, {rounds}; {_result(figures)}."


def _supervised_headline(figures: dict[str, Any]) -> str:
    count = demonstrations(figures)
    on = "not trained yet" if count is None else f"on {count:,} demonstrations"
    return f"Supervised fine-tuning (SFT), {on}; {_result(figures)}."


def _result(figures: dict[str, Any]) -> str:
    return f"the result is {figures['result']['policy']}" if figures["result"] else "there is no result yet"


def _trained_on(figures: dict[str, Any]) -> int:
    """Offline pairs that the rounds begin with."""
    return (figures["crossfit"] or {"kept": figures["data"]["pairs"]})["kept"]


def tiles(run: RunContents) -> list[Tile]:
    """The figures that are read first; those that the run does not have are left out."""
    figures = run.figures
    found = []
    if figures["data"]:
        found.append(_data_tile(figures))
    if figures["objective"] == "sft" and (loss := heldout_loss(figures)):
        found.append(Tile("Held-out loss", *loss))
    made = [entry["compose"]["generated"] for entry in figures["rounds"] if entry["compose"]]
    if sum(made):
        found.append(Tile("Generated pairs used", f"{sum(made):,}", f"{made[-1]:,} in the last round"))
    first, last = _ends(figures)
    if first is not None and last is not None:
        if last["heldout_accuracy"] is not None:
            found.append(
                Tile(
                    HELDOUT_ACCURACY,
                    percent(last["heldout_accuracy"]["mean"]),
                    f"pairs with a margin above zero; {_between(last['heldout_accuracy'], percent)}; "
                    f"{accuracy(first)} at the start",
                    _bounds(last["heldout_accuracy"], percent),
                )
            )
        if last["score"] is not None:
            of = "gold reward; " if run.config.get("world") and not run.config["evaluation"].get("scorer") else ""
            start = "" if first["score"] is None else f"; {number(first['score']['mean'], 3)} at the start"
            found.append(
                Tile(
                    "Score",
                    number(last["score"]["mean"], 3),
                    f"{of}{_between(last['score'], _score)}{start}",
                    _bounds(last["score"], _score),
                )
            )
        rival = first["name"]
        if rate := last["win_rates"].get(rival):
            found.append(
                Tile(f"Wins against {rival}", percent(rate["mean"]), _between(rate, percent), _bounds(rate, percent))
            )
        if last["kl"] is not None and figures["objective"] != "sft":
            found.append(
                Tile(
                    "Distance from the reference",
                    number(last["kl"]["mean"], 2),
                    f"nats an answer (KL); {_between(last['kl'], lambda end: number(end, 2))}",
                    _bounds(last["kl"], lambda end: number(end, 2)),
                )
            )
        if last["length"] is not None:
            found.append(
                Tile("Answer length", number(last["length"], 1), f"tokens; {number(first['length'], 1)} at the start")
            )
    if figures["stages"]:
        seconds = sum(stage["seconds"] for stage in figures["stages"])
        memory = max(stage["peak_memory_mb"] for stage in figures["stages"])
        note = f"peak memory {memory / 1000:,.1f} GB; of a stage taken up again, its last process only"
        found.append(Tile("Time", duration(seconds), note))
    return found


def _data_tile(figures: dict[str, Any]) -> Tile:
    held = f"{figures['data']['heldout']:,} held out"
    if figures["objective"] == "sft" and (count := demonstrations(figures)) is not None:
        return Tile("Demonstrations trained on", f"{count:,}", f"{dropped(figures):,} dropped, {held}")
    out = sum(figures["data"]["sources"]["pairs"]["dropped"].values())
    out += figures["data"]["pairs"] - _trained_on(figures)
    return Tile("Pairs to train on", f"{_trained_on(figures):,}", f"{out:,} dropped, {held}")


def measured(run: RunContents) -> bool:
    """Whether anything was measured that could be an warning."""
    return bool(run.figures["policies"]) or any(entry["train"] or entry["select"] for entry in run.figures["rounds"])


def accuracy(policy: dict[str, Any]) -> str:
    """Held-out accuracy with its interval; a policy that is its own reference ranks no pair, all are ties."""
    return "ties" if is_own_reference(policy) else share(policy["heldout_accuracy"])


def is_own_reference(policy: dict[str, Any]) -> bool:
    """Whether all margins of a policy are 0: it ranks no pair, whatever the share of them says."""
    rate = policy["heldout_accuracy"]
    return rate is not None and rate["mean"] == 0.5 and policy["heldout_margin"] == 0


def rounds_table(run: RunContents) -> Table | None:
    """What each round selected, generated, trained on and gained; None before the first."""
    if not run.figures["rounds"]:
        return None
    policies = {policy["role"]: policy for policy in run.figures["policies"]}
    before = policies.get("initial")
    rows = []
    for entry in run.figures["rounds"]:
        policy = policies.get(f"round-{entry['round']}")
        rows.append((f"Round {entry['round']}", *_work(entry), *_gain(policy, before)))
        before = policy or before
    columns = ("", "offline selected", "generated", "of them used", "trained on", "steps", "training accuracy")
    columns += ("held-out accuracy", "change, points", "score", "length, tokens", "KL, nats")
    caption = (
        "What each round selected, generated, trained on (its accuracy there: the last logged step), and what its "
        f"policy measures; {ACCURACY}"
    )
    return without_empty(Table(caption, columns, tuple(rows)))


def _ends(figures: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | tuple[None, None]:
    """The starting policy, and the result's or else the last round's."""
    policies = {policy["role"]: policy for policy in figures["policies"]}
    by_name = {policy["name"]: policy for policy in figures["policies"]}
    rounds = [policy for role, policy in policies.items() if role.startswith("round-")]
    if "initial" not in policies or not rounds:
        return None, None
    result = (figures["result"] or {}).get("policy")
    return policies["initial"], by_name.get(result, rounds[-1])


def _work(entry: dict[str, Any]) -> tuple[str, ...]:
    def of(stage: str, name: str) -> Any:
        return (entry[stage] or {}).get(name)

    chosen = entry["select"]
    return (
        f"{chosen['kept']:,} of {chosen['pairs']:,}" if chosen else "all" if entry["train"] else ABSENT,
        number(of("bootstrap", "pairs"), 0),
        number(of("compose", "generated"), 0),
        number(of("train", "pairs"), 0),
        number(of("train", "steps"), 0),
        percent((of("train", "train") or {}).get("rewards/accuracies")),
    )


def _gain(policy: dict[str, Any] | None, before: dict[str, Any] | None) -> tuple[str, ...]:
    if policy is None:
        return (ABSENT,) * 5
    change = ABSENT
    if before is not None and None not in (policy["heldout_accuracy"], before["heldout_accuracy"]):
        after, earlier = policy["heldout_accuracy"]["mean"], before["heldout_accuracy"]["mean"]
        change = signed(100 * (after - earlier), 1)
    return (
        accuracy(policy),
        change,
        interval(policy["score"], 3),
        number(policy["length"], 1),
        interval(policy["kl"], 2),
    )


def _score(value: float) -> str:
    return number(value, 3)


def _bounds(value: dict[str, Any], said: Callable[[float], str]) -> str:
    return "" if value["low"] is None else f"({said(value['low'])} to {said(value['high'])})"


def _between(value: dict[str, Any], said: Callable[[float], str]) -> str:
    return "one value" if value["low"] is None else f"95% interval {said(value['low'])} to {said(value['high'])}"
