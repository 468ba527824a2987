"""The configuration of ``seralign best-of``: a model, prompts, and what decides which response is best. Imports no
torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from seralign.checks import positive, require
from seralign.config.data import SourceConfig
from seralign.config.fields import INLINE, keys_below
from seralign.config.sampling import SamplingConfig
from seralign.config.secrets import refuse_secrets
from seralign.config.sections import check_known, check_section, override
from seralign.config.values import build
from seralign.config.yaml12 import read_yaml
from seralign.errors import ConfigError

_KINDS = ("scorer", "judge", "reward")


@dataclass(frozen=True)
class BestOfConfig:
    """The configuration of best-of-n sampling. One of ``scorer``, ``judge`` and ``reward`` decides.

    Args:
        model: The folder of a run, a model or an adapter, or the name of a model on the hub.
        prompts: Rows of prompts, as in ``data.prompts`` of a run; a path is short for ``{path: ...}``.
        out: The file of the best responses, .jsonl.
        round: Of a run: the policy of this round, ``start`` or ``baseline``. Default: the result.
        n: Responses to each prompt, of which the best is kept.
        scorer: ``module:function``, a function that takes a list of prompts and a list of responses and returns one
            score for each response. ``judge: scorer`` compares its scores.
        judge: A judge of two responses, as in ``evaluation.judge``.
        judge_options: Settings of the judge.
        rule: How a judge chooses. ``win_rate``: the response with the highest mean win rate against the others, by
            n (n - 1) / 2 comparisons. ``knockout``: the winner of a tournament, by n - 1 comparisons.
        reward: A policy whose implicit reward decides: the folder of a run, a model or an adapter. It is that of the
            run's objective; of another model, log pi - log pi_ref. Its tokenizer must be that of ``model``.
        reference: The reference of ``reward``. Default: that of the run.
        sampling: How responses are sampled.
        seed: Seed.
        system: A system message that is put before every conversation, in place of the run's.
        plain: Read prompts as plain text to continue, even for a model with a chat template.
    """

    model: str
    prompts: SourceConfig
    out: str
    round: int | Literal["start", "baseline"] | None = None
    n: int = 16
    scorer: str | None = None
    judge: str | None = None
    judge_options: dict[str, Any] = field(default_factory=dict)
    rule: Literal["win_rate", "knockout"] = "win_rate"
    reward: str | None = None
    reference: str | None = None
    sampling: SamplingConfig = field(default_factory=SamplingConfig, metadata=INLINE)
    seed: int = 0
    system: str | None = None
    plain: bool = False

    def __post_init__(self) -> None:
        require(Path(self.out).suffix == ".jsonl", "out", "a file that ends with .jsonl", self.out)
        require(self.n >= 2, "n", "at least 2", self.n)
        require(self.n <= 10_000, "n", "at most 10000", self.n)
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        positive(self.sampling.temperature, "temperature")
        given = [name for name in _KINDS if getattr(self, name) is not None]
        if self.judge == "scorer":
            given.remove("judge")
        if len(given) != 1:
            raise ConfigError(f"scorer, judge and reward: set one of them, got {' and '.join(given) or 'none'}")
        if self.judge is None and (self.judge_options or self.rule != "win_rate"):
            name = "judge_options" if self.judge_options else "rule"
            raise ConfigError(f"{name}: it is for a judge; set judge, or remove {name}")
        if self.reward is None and self.reference is not None:
            raise ConfigError("reference: it is for an implicit reward; set reward, or remove reference")
        if self.scorer is not None:
            require(self.scorer.count(":") == 1, "scorer", "of the form module:function", self.scorer)
        refuse_secrets(self.judge_options, "judge_options")


def load_best_of_config(place: str, overrides: dict[str, Any] | None = None) -> BestOfConfig:
    """Read the configuration of best-of-n sampling.

    Args:
        place: A YAML file, whose keys are fields of ``BestOfConfig`` or of ``SamplingConfig``; or the value of
            ``model``.
        overrides: Keys of the top level, of ``prompts`` and of ``judge_options`` to values.

    Raises:
        ConfigError: The file cannot be read, a key is unknown or missing, or a value is not allowed; names the key.
    """
    in_file = place.endswith((".yaml", ".yml"))
    values: dict[str, Any] = read_yaml(Path(place)) if in_file else {"model": place}
    try:
        if isinstance(values.get("prompts"), str):
            values["prompts"] = {"path": values["prompts"]}
        for key, value in (overrides or {}).items():
            short = key == "prompts" and isinstance(value, str)
            override(values, "prompts.path" if short else key, value, ("prompts", "judge_options"))
        check_known(list(keys_below(BestOfConfig)), values)
        check_section(SourceConfig, values.get("prompts"), "prompts")
        return build(BestOfConfig, values)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}" if in_file else str(error)) from None
