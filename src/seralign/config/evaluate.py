"""The configuration of ``seralign evaluate``: policies, prompts and a judge. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from seralign.checks import require
from seralign.config.data import ROLES, SourceConfig
from seralign.config.fields import INLINE, keys_below
from seralign.config.linear_alignment import LinearAlignmentConfig
from seralign.config.sampling import SamplingConfig
from seralign.config.secrets import refuse_secrets
from seralign.config.sections import check_known, check_section, load_sections
from seralign.config.server import ServerConfig
from seralign.config.values import build, shown
from seralign.errors import ConfigError

_KINDS = ("model", "server", "outputs")
# Names of policies are names of folders, too.
_NAME = re.compile(r"[^\W_][\w .+@-]{0,99}")


@dataclass(frozen=True)
class EvaluatedConfig:
    """A policy: one of ``model``, ``server`` and ``outputs``.

    Args:
        model: The folder of a run, a model or an adapter, or the name of a model on the hub.
        round: Of a run: the policy of this round, ``start`` or ``baseline``. Default: the result.
        rounds: Of a run: ``all`` stands for the policy that the rounds start from and that of each round.
        linear_alignment: Of a model: a principle that its answers are aligned to as they are sampled (docs/method.md).
        server: An OpenAI-compatible server, which is sent the prompts as messages.
        outputs: A file of outputs: AlpacaEval's ``model_outputs.json``, or a file that ``seralign sample`` writes.
        generator: Of a file with outputs of several models: the model, as ``generator`` or ``model`` in the file.
    """

    model: str | None = None
    round: int | Literal["start", "baseline"] | None = None
    rounds: Literal["all"] | None = None
    linear_alignment: LinearAlignmentConfig | None = None
    server: ServerConfig | None = None
    outputs: str | None = None
    generator: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in _KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError(f"model, server and outputs: set one of them, got {' and '.join(given) or 'none'}")
        if self.model is None and (self.round is not None or self.rounds is not None):
            raise ConfigError("round and rounds choose policies of a run; set model to its folder")
        if self.model is None and self.linear_alignment is not None:
            raise ConfigError("linear_alignment needs a model that is sampled in this process; set model")
        if self.round is not None and self.rounds is not None:
            raise ConfigError("round and rounds exclude each other: set one of them")
        if self.generator is not None and self.outputs is None:
            raise ConfigError("generator chooses a model of a file; set outputs to the file")


@dataclass(frozen=True)
class EvaluateConfig:
    """The configuration of an evaluation.

    Args:
        out: The folder of the evaluation.
        prompts: Rows of prompts, as in ``data.prompts`` of a run. All prompts are different.
        policies: Mapping from names to policies. A path or the name of a model is short for ``{model: ...}``.
        baseline: Name of the policy that the others are compared with. Default: all are compared with all.
        judge: Decides which of two answers is better: ``scorer``, or another one of docs/judges.md. Default:
            ``scorer``, if ``scorer`` is set.
        judge_options: Settings of the judge.
        scorer: ``module:function``, a function that takes a list of prompts and a list of responses and returns one
            score for each response; or ``reward_model:FOLDER``. The judge ``scorer`` compares the scores.
        length_control: Also compute win rates that are controlled for the length of the answers.
        sampling: How answers are sampled. Policies that are servers use ``temperature``, ``top_p`` and
            ``max_new_tokens``.
        seed: Seed of the sampling and of the intervals.
        system: A system message that is put before every conversation, in place of the run's.
        plain: Read prompts as plain text to continue, even for a model with a chat template.
        format: ``auto`` reads prompts of text as they are. ``hh`` reads text with ``Human:`` and ``Assistant:`` turns,
            as in HH-RLHF, as conversations.
        roles: Mapping from other names of roles to the names that seralign uses, as in ``data.roles`` of a run.
        store: File of the judge's verdicts, which several evaluations may share: a question that one of them has asked
            is not asked by another. Default: ``results.sqlite`` in ``out``.
    """

    out: str
    prompts: SourceConfig
    policies: dict[str, EvaluatedConfig]
    baseline: str | None = None
    judge: str | None = None
    judge_options: dict[str, Any] = field(default_factory=dict)
    scorer: str | None = None
    length_control: bool = True
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(temperature=0.0), metadata=INLINE)
    seed: int = 0
    system: str | None = None
    plain: bool = False
    format: Literal["auto", "hh"] = "auto"
    roles: dict[str, str] = field(default_factory=dict)
    store: str | None = None

    def __post_init__(self) -> None:
        require(self.store is None or bool(self.store), "store", "the path of a file", self.store)
        for theirs, ours in self.roles.items():
            require(ours in (*ROLES, theirs), f"roles.{theirs}", f"one of {', '.join(ROLES)}", ours)
        require(bool(self.out), "out", "the path of the evaluation's folder", self.out)
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        for name in self.policies:
            known = _NAME.fullmatch(name) and name == name.strip()
            require(
                bool(known), "policies", "named with letters, digits, spaces and .+@_-, letter or digit first", name
            )
        lower: dict[str, str] = {}
        for name in self.policies:
            other = lower.setdefault(name.lower(), name)
            require(other == name, f"policies.{name}", f"another name than that of {other}", name)
        several = any(policy.rounds is not None for policy in self.policies.values())
        if len(self.policies) < (1 if several else 2):
            raise ConfigError(f"policies: two policies are needed to compare, got {', '.join(self.policies) or 'none'}")
        refuse_secrets(self.judge_options, "judge_options")
        if self.judge is None and self.scorer is None:
            raise ConfigError("judge is missing: what decides which of two answers is better (or set scorer)")
        if self.judge is None and self.judge_options:
            raise ConfigError("judge_options need judge: set the judge that they are for")
        if self.scorer is not None:
            require(
                self.scorer.count(":") == 1,
                "scorer",
                "of the form module:function, or reward_model:FOLDER",
                self.scorer,
            )
        if not several and self.baseline is not None:
            check_baseline(self.baseline, list(self.policies))


def check_baseline(baseline: str, names: list[str]) -> None:
    """Raise ``ConfigError`` unless the baseline is one of the policies."""
    require(baseline in names, "baseline", f"the name of a policy ({', '.join(names)})", baseline)


def load_evaluate_config(path: str | Path, overrides: dict[str, Any] | None = None) -> EvaluateConfig:
    """Read the configuration of an evaluation from a YAML file and overrides.

    Args:
        path: YAML file; each key is a field of ``EvaluateConfig`` or of ``SamplingConfig``.
        overrides: Keys of the top level, of ``prompts`` and of ``judge_options`` to values.

    Raises:
        ConfigError: The file cannot be read, a key is unknown or missing, or a value is not allowed; names the key.
    """
    return load_sections(path, overrides, ("prompts", "judge_options"), evaluate_config)


def evaluate_config(values: dict[str, Any]) -> EvaluateConfig:
    """The configuration of nested plain values.

    Raises:
        ConfigError: See ``load_evaluate_config``.
    """
    check_known(list(keys_below(EvaluateConfig)), values)
    check_section(SourceConfig, values.get("prompts"), "prompts")
    given = values.get("policies")
    if given is None:
        raise ConfigError("policies is missing: a mapping of names to models, servers or files of outputs")
    if not isinstance(given, dict):
        raise ConfigError(f"policies must be a mapping of names to policies, got {shown(given)}")
    policies = {str(name): _policy(policy, f"policies.{name}") for name, policy in given.items()}
    return build(EvaluateConfig, values | {"policies": policies})


def _policy(values: Any, key: str) -> EvaluatedConfig:
    if isinstance(values, str) and values:
        return EvaluatedConfig(model=values)
    if not isinstance(values, dict):
        raise ConfigError(f"{key} must be a model, or a section with model, server or outputs, got {shown(values)}")
    check_known(list(keys_below(EvaluatedConfig)), values, f"{key}.")
    check_section(ServerConfig, values.get("server"), f"{key}.server")
    check_section(LinearAlignmentConfig, values.get("linear_alignment"), f"{key}.linear_alignment")
    return build(EvaluatedConfig, values, key)
