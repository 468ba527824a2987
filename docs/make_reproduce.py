"""Write the tables of docs/reproduce.md from ``seralign plan`` of every configuration of configs/paper.

python docs/make_reproduce.py
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from seralign.cli.projection import gigabytes, hours, kind_table
from seralign.config import load_config
from seralign.pipeline.projection import Projection, project_run
from seralign.pipeline.projection.devices import device
from seralign.pipeline.projection.memory import Machine, Shard
from seralign.pipeline.projection.speed import Efficiency
from seralign.tables import Column, markdown, table

PAGE = Path(__file__).with_name("reproduce.md")
FOLDER = Path(__file__).parents[1] / "configs" / "paper"
GPU, GPUS, PRICE = "h100", 8, 2.5
# A supervised start is planned by the architecture of its model, since its folder is not there yet.
STARTS = {"ultrafeedback": "tinyllama-1.1b", "hh": "pythia-2.8b", "tldr": "pythia-2.8b"}
# Models whose training does not fit on a GPU without sharding.
SHARDED = ("mistral", "llama")
DETAILED = ("ultrafeedback_sera_dpo", "hh_sera_dpo", "tldr_sera_dpo", "mistral_sera_dpo", "llama_sera_simpo")


@dataclass(frozen=True)
class Planned:
    """A configuration with its plan, and the command that prints the same figures."""

    name: str
    shard: Shard
    model: str | None
    plan: Projection

    @property
    def command(self) -> str:
        """The command."""
        model = "" if self.model is None else f" --policy.model {self.model}"
        shard = "" if self.shard == "none" else f" --shard {self.shard}"
        return f"seralign plan configs/paper/{self.name}.yaml --gpu {GPU} --gpus {GPUS}{shard} --price {PRICE}{model}"


@cache
def planned() -> tuple[Planned, ...]:
    """The plans of all configurations, supervised starts first."""
    names = [file.stem for file in FOLDER.glob("*.yaml")]
    return tuple(_planned(name) for name in sorted(names, key=lambda name: (name.partition("_")[0], _rank(name), name)))


def _rank(name: str) -> int:
    return 0 if name.endswith("_sft") else 2 if "sera" in name else 1


def _planned(name: str) -> Planned:
    family = name.partition("_")[0]
    shard: Shard = "fsdp" if family in SHARDED else "none"
    model = STARTS.get(family)
    config = load_config(FOLDER / f"{name}.yaml", {} if model is None else {"policy.model": model})
    machine = Machine(device(GPU), GPUS, shard)
    return Planned(name, shard, model, project_run(config, machine, Efficiency(), {}, PRICE))


def summary() -> str:
    """One row for each configuration."""

    def cost(each: Planned) -> float:
        return sum(part.cost or 0.0 for part in each.plan.parts)

    columns: list[Column[Planned]] = [
        Column("configuration", lambda each: f"`{each.name}`"),
        Column("weights", lambda each: f"{each.plan.shape.weights / 1e9:.2f} billion"),
        Column("`--shard`", lambda each: each.shard),
        Column("memory of a GPU", lambda each: f"{gigabytes(each.plan.peak)} GB"),
        Column("time", lambda each: hours(each.plan.seconds)),
        Column("GPU hours", lambda each: f"{each.plan.seconds * GPUS / 3600:,.1f}"),
        Column("cost", lambda each: f"{cost(each):,.2f}"),
    ]
    return markdown(table("", columns, planned()))


def details() -> str:
    """Tables by kind of work, with their commands."""
    found = []
    for name in DETAILED:
        each = next(each for each in planned() if each.name == name)
        found.append(f"```bash\n{each.command}\n```\n\n{markdown(kind_table(each.plan))}")
    return "\n\n".join(found)


def page() -> str:
    """The page with its tables made anew."""
    text = PAGE.read_text(encoding="utf-8")
    for name, made in (("summary", summary()), ("details", details())):
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        text = re.sub(f"{begin}.*{end}", lambda _, new=f"{begin}\n\n{made}\n\n{end}": new, text, flags=re.DOTALL)
    return text


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
