"""What would make a run fit: changes that do so alone, or else together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from seralign.config import LoraConfig, RunConfig
from seralign.pipeline.projection.memory import Machine

MOST_GPUS = 1024
_PACKS = (8192, 4096, 2048, 1024, 512)
_BATCHES = (64, 32, 16, 8, 4, 2, 1)


@dataclass(frozen=True)
class Choice:
    """A run on GPUs."""

    config: RunConfig
    machine: Machine


# A change, or None where it changes nothing.
_Change = Callable[[Choice], Iterator[tuple[str, Choice]]]


def remedies(choice: Choice, fits: Callable[[Choice], bool]) -> list[str]:
    """Changes with which a run fits that does not: each that is enough alone, or else the first two, three ... that
    are enough together.

    Args:
        choice: The run that does not fit.
        fits: Whether a run fits.
    """
    changes: tuple[_Change, ...] = (_checkpointing, _packs, _batches, _sharded, _more, _lora)
    for count in range(1, len(changes) + 1):
        found = [text for some in combinations(changes, count) if (text := _together(choice, some, fits)) is not None]
        if found:
            return found
    return []


def _together(choice: Choice, changes: tuple[_Change, ...], fits: Callable[[Choice], bool]) -> str | None:
    """The mildest values of these changes with which the run fits, as text."""
    if not changes:
        return "" if fits(choice) else None
    first, *rest = changes
    for text, changed in first(choice):
        more = _together(changed, tuple(rest), fits)
        if more is not None:
            return f"{text} and {more}" if more else text
    return None


def _checkpointing(choice: Choice) -> Iterator[tuple[str, Choice]]:
    config = choice.config
    if not config.training.gradient_checkpointing:
        sft = config.sft and replace(config.sft, gradient_checkpointing=True)
        training = replace(config.training, gradient_checkpointing=True)
        yield (
            "training.gradient_checkpointing: true",
            replace(choice, config=replace(config, training=training, sft=sft)),
        )


def _packs(choice: Choice) -> Iterator[tuple[str, Choice]]:
    config = choice.config
    for size in _PACKS:
        # A row is never divided, so fewer tokens than it has change nothing.
        if config.data.max_length <= size < config.training.tokens_per_pack:
            sft = config.sft and replace(config.sft, tokens_per_pack=min(size, config.sft.tokens_per_pack))
            training = replace(config.training, tokens_per_pack=size)
            scoring = replace(config.scoring, tokens_per_pack=min(size, config.scoring.tokens_per_pack))
            changed = replace(config, training=training, sft=sft, scoring=scoring)
            yield f"tokens_per_pack: {size}", replace(choice, config=changed)


def _batches(choice: Choice) -> Iterator[tuple[str, Choice]]:
    config, bootstrap = choice.config, choice.config.bootstrap
    for size in _BATCHES if bootstrap is not None else ():
        assert bootstrap is not None
        if size < bootstrap.sampling.batch_size:
            made = replace(bootstrap, sampling=replace(bootstrap.sampling, batch_size=size))
            own = config.evaluation.sampling
            answers = replace(config.evaluation, sampling=replace(own, batch_size=min(size, own.batch_size)))
            changed = replace(config, bootstrap=made, evaluation=answers)
            yield f"bootstrap.batch_size: {size}", replace(choice, config=changed)


def _sharded(choice: Choice) -> Iterator[tuple[str, Choice]]:
    machine = choice.machine
    for shard in ("zero2", "fsdp") if machine.gpus > 1 else ():
        if machine.shard == "none" or (machine.shard == "zero2" and shard == "fsdp"):
            yield f"--shard {shard}", replace(choice, machine=replace(machine, shard=shard))


def _more(choice: Choice) -> Iterator[tuple[str, Choice]]:
    machine = choice.machine
    shard = "fsdp" if machine.shard == "none" else machine.shard
    gpus = 2
    while gpus <= MOST_GPUS:
        if gpus > machine.gpus:
            yield f"--gpus {gpus} --shard {shard}", replace(choice, machine=replace(machine, gpus=gpus, shard=shard))
        gpus *= 2


def _lora(choice: Choice) -> Iterator[tuple[str, Choice]]:
    policy = choice.config.policy
    if policy.lora is None:
        changed = replace(choice.config, policy=replace(policy, lora=LoraConfig()))
        yield "policy.lora: {}", replace(choice, config=changed)
