"""Outputs that are sampled from a saved policy, in this process or by a sampling engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from seralign.config.evaluate import EvaluateConfig, EvaluatedConfig
from seralign.config.paths import expanded
from seralign.errors import ConfigError, DataError, ModelError
from seralign.pipeline.aligned import Aligned
from seralign.pipeline.answers import Answered, sample_answers
from seralign.pipeline.asking import load_reader, make_speaker, read_file
from seralign.pipeline.evaluate.outputs import Output, Outputs
from seralign.pipeline.evaluate.prompts import KEY, Question
from seralign.policy.identity import weights_digest
from seralign.policy.saved import SavedPolicy, saved_policy
from seralign.progress import say
from seralign.runs import read_run
from seralign.runs.layout import MANIFEST, TRAIN, round_of, round_stage
from seralign.sampling import params_of


def expand_rounds(policies: dict[str, EvaluatedConfig]) -> dict[str, EvaluatedConfig]:
    """The policies, with ``rounds: all`` of a run as policies of their own: ``NAME start``, ``NAME round 1``, ...

    Raises:
        ConfigError: the folder is not a run.
        StoreError: the run has not finished a round.
    """
    found: dict[str, EvaluatedConfig] = {}
    for name, policy in policies.items():
        several = _rounds(name, policy) if policy.rounds is not None else {name: policy}
        for one, config in several.items():
            if found.setdefault(one, config) is not config:
                raise ConfigError(f"policies.{name}: there are two policies with the name {one!r}; rename one of them")
    return found


def _rounds(name: str, policy: EvaluatedConfig) -> dict[str, EvaluatedConfig]:
    place = expanded(str(policy.model))
    if not (Path(place) / MANIFEST).is_file():
        raise ConfigError(f"policies.{name}.rounds: {policy.model} is not a run (it has no run.json)")
    run = read_run(place)
    numbers = sorted(index for folder in run.root.iterdir() if (index := round_of(folder.name)) is not None)
    done = [number for number in numbers if run.exists(round_stage(number, TRAIN))]
    if not done:
        raise ConfigError(f"policies.{name}.rounds: {policy.model} has not finished a round yet")
    start = {f"{name} start": EvaluatedConfig(model=place, round="start", linear_alignment=policy.linear_alignment)}
    return start | {
        f"{name} round {number}": EvaluatedConfig(model=place, round=number, linear_alignment=policy.linear_alignment)
        for number in done
    }


def sampled_outputs(
    name: str, policy: EvaluatedConfig, config: EvaluateConfig, questions: Sequence[Question], folder: Path
) -> Outputs:
    """Sample a policy's answers. Stored answers in ``folder`` are not sampled again.

    Raises:
        SeralignError: the policy or the prompts cannot be read, or none of the prompts can be asked.
    """
    key = f"policies.{name}.model"
    try:
        saved = saved_policy(expanded(str(policy.model)), "result" if policy.round is None else policy.round)
        alignment = policy.linear_alignment
        aligned = None if alignment is None else Aligned(alignment, f"policies.{name}.linear_alignment")
        answered = list(_answers(saved, aligned, config, folder))
    except (DataError, ModelError) as error:
        raise type(error)(f"{key}: {error}") from None
    assert len(answered) == len(questions)
    answers = [_output(one) for one in answered]
    return Outputs(name, saved.name, tuple(answers), tuple(one.left_out for one in answered))


def _answers(saved: SavedPolicy, aligned: Aligned | None, config: EvaluateConfig, folder: Path) -> Iterator[Answered]:
    reader = load_reader(saved, system=config.system, plain=config.plain, aligned=aligned)
    trained = reader.encoder.data
    if saved.run is not None and trained.format != config.format:
        say(f"warning: format: {saved.name} was trained on prompts in the format {trained.format}, and the prompts are "
            f"read as {config.format}")  # fmt: skip
    data = replace(trained, format=config.format, roles=config.roles)
    reader = replace(reader, encoder=replace(reader.encoder, data=data))
    asked = list(read_file(reader, config.prompts, KEY))
    how = "turns of a conversation" if reader.chat else "plain text to continue"
    say(f"{saved.name}: {len(asked)} prompts; a prompt that is plain text is read as {how}")
    speaker = make_speaker(saved, reader, config.sampling, "sampling")
    params = params_of(config.sampling, 1)
    digest = weights_digest(saved.source)
    return sample_answers(speaker, asked, params, policy=digest, seed=config.seed, folder=folder)


def _output(one: Answered) -> Output | None:
    if one.left_out is not None:
        return None
    [candidate] = one.responses
    return Output(candidate.text, candidate.finished, len(candidate.ids))
