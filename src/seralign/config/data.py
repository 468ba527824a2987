"""Data sources, and the worlds that can replace them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from seralign.checks import positive, require
from seralign.config.fields import INLINE
from seralign.config.sampling import SamplingConfig
from seralign.errors import ConfigError

ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
"""The roles of messages that chat templates know."""
PairsOf = Literal["all_pairs", "adjacent_pairs", "best_worst_pair"]
# Arguments that the renderer passes to a chat template, so no setting may have these names.
RESERVED_SETTINGS = (
    "messages", "conversation", "conversations", "tools", "documents", "chat_template", "add_generation_prompt",
    "continue_final_message", "return_assistant_tokens_mask", "tokenize",
)  # fmt: skip


def is_truth_as_text(value: object) -> bool:
    """Whether a setting is ``true`` or ``false`` as text; any text is true to a template."""
    return isinstance(value, str) and value.strip().lower() in ("true", "false")


@dataclass(frozen=True)
class SourceConfig:
    """A source of rows.

    Args:
        path: A local .json, .jsonl, .ndjson, .csv, .tsv (each also .gz, .bz2, .xz or .zst) or .parquet file, a list
            of files, a glob, a folder of files of one format, a folder written by ``save_to_disk``, or the name of a
            dataset on the hub.
        name: Configuration (subset) of a hub dataset.
        split: Split of a hub dataset, or of a ``DatasetDict`` written by ``save_to_disk``.
        revision: Commit or tag of a hub dataset. The resolved commit is recorded.
        columns: Mapping from the names that seralign uses to the names in the file, e.g. ``{chosen: good, rejected:
            bad}``.
        limit: Read only the first rows; of message trees, the first prompts.
        streaming: Read the files of a hub dataset over the network and store none of them. Each pass over the rows
            reads them again, up to ``limit``.
    """

    path: str | list[str]
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    limit: int | None = None
    streaming: bool = False

    def __post_init__(self) -> None:
        require(self.limit is None or self.limit >= 1, "limit", "at least 1", self.limit)


@dataclass(frozen=True)
class ConvertConfig:
    """Conversions of preferences that the objective does not take in the form that the data have.

    Nothing is converted unless its form is named here.

    Args:
        ranking: ``all_pairs``: a pair of each two responses with different ranks; ``adjacent_pairs``: of neighbouring
            ranks; ``best_worst_pair``: of the best and the worst. All have p = 1, and a tie makes no pair.
        scores: The same pairs by score; ``ranking``; or ``labels``: each response by itself, desirable if its score is
            at least ``threshold``.
        label: ``pairs``: each desirable with each undesirable response to the same prompt, p = 1.
        pair: ``ranking`` of two; or ``labels``: the chosen response is desirable, and the rejected one is not. Both
            lose a soft label.
        temperature: Of pairs of scores: p = sigmoid((score - score) / ``temperature``). Default: p = 1.
        min_margin: Scores that differ by less make no pair. Equal ones never do.
        threshold: The least score of a desirable response.
    """

    ranking: PairsOf | None = None
    scores: Literal["all_pairs", "adjacent_pairs", "best_worst_pair", "ranking", "labels"] | None = None
    label: Literal["pairs"] | None = None
    pair: Literal["ranking", "labels"] | None = None
    temperature: float | None = None
    min_margin: float = 0.0
    threshold: float | None = None

    def __post_init__(self) -> None:
        of_scores = self.scores in get_args(PairsOf)
        if self.temperature is not None:
            positive(self.temperature, "temperature")
        require(0.0 <= self.min_margin < math.inf, "min_margin", "a number of at least 0", self.min_margin)
        if not of_scores and (self.temperature is not None or self.min_margin):
            key = "min_margin" if self.temperature is None else "temperature"
            raise ConfigError(f"{key}: it is of pairs of scores; set scores: all_pairs (or another of them)")
        if (self.scores == "labels") != (self.threshold is not None):
            raise ConfigError("scores and threshold: scores: labels needs threshold, the least score of a desirable "
                              "response, and nothing else does")  # fmt: skip


@dataclass(frozen=True)
class DataConfig:
    """Pairs, prompts and demonstrations, and how they are tokenized.

    Args:
        pairs: Preferences to train on: pairs, rankings, scores or labels of single responses.
        heldout: Pairs for held-out metrics. Default: ``heldout_fraction`` of the prompts of ``pairs``.
        heldout_fraction: Share of the prompts that is held out if ``heldout`` is not given.
        prompts: Prompts for bootstrapping. Default: the prompts of ``pairs``.
        heldout_prompts: Prompts that the policies answer in the evaluation. Default: the prompts of the held-out pairs.
        demonstrations: Rows of prompt and response for ``sft`` (by default the chosen responses of ``pairs``), and for
            ``objective.name: aihf``, which trains on them beside ``pairs``. With ``objective.name: sft`` and no
            ``pairs``, some of them are held out, or ``heldout`` has demonstrations.
        max_length: Maximum number of tokens of prompt and response together.
        max_prompt_length: Maximum number of tokens of a prompt. Default: three quarters of ``max_length``.
        overlong: What to do with a prompt or response that is too long: ``cut`` keeps the end of the prompt and the
            start of the response, ``drop`` drops the pair.
        format: ``auto`` reads text as it is. ``hh`` reads text with ``Human:`` and ``Assistant:`` turns, as in HH-RLHF,
            as conversations.
        as_chat: Read plain prompts and responses as turns of a conversation, for a model with a chat template.
        system: A system message that is put before every conversation without one.
        roles: Mapping from other names of roles to the names that seralign uses, e.g. ``{client: user}``. Well-known
            names (human, gpt …) are mapped already.
        chat_template_kwargs: Settings of the chat template, e.g. ``{enable_thinking: false}``. A column of this name
            overrides them for a row.
        convert: Conversions of ``pairs`` and ``heldout`` to other forms of preference.
        keep_columns: Columns of ``pairs``, by their names in the file, whose values stay with the rows in the tables of
            the run, e.g. ``[annotator, source]``. Other sources may lack them.
    """

    pairs: SourceConfig | None = None
    heldout: SourceConfig | None = None
    heldout_fraction: float = 0.05
    prompts: SourceConfig | None = None
    heldout_prompts: SourceConfig | None = None
    demonstrations: SourceConfig | None = None
    max_length: int = 1024
    max_prompt_length: int | None = None
    overlong: Literal["cut", "drop"] = "cut"
    format: Literal["auto", "hh"] = "auto"
    as_chat: bool = False
    system: str | None = None
    roles: dict[str, str] = field(default_factory=dict)
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    convert: ConvertConfig = field(default_factory=ConvertConfig)
    keep_columns: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        repeated = len(set(self.keep_columns)) < len(self.keep_columns)
        require(not repeated, "keep_columns", "names that are all different", self.keep_columns)
        for theirs, ours in self.roles.items():
            require(ours in (*ROLES, theirs), f"roles.{theirs}", f"one of {', '.join(ROLES)}", ours)
        for name, value in self.chat_template_kwargs.items():
            if is_truth_as_text(value):
                raise ConfigError(
                    f"chat_template_kwargs.{name} is the text {value!r}, which a template takes as true; "
                    f"write {value.lower()} without quotation marks"
                )
            if name in RESERVED_SETTINGS:
                raise ConfigError(f"chat_template_kwargs.{name} is not a setting of a template; leave it out")
        require(0.0 <= self.heldout_fraction < 1.0, "heldout_fraction", "in [0, 1)", self.heldout_fraction)
        require(self.max_length >= 2, "max_length", "at least 2", self.max_length)
        limit = self.max_prompt_length
        require(
            limit is None or 0 < limit < self.max_length,
            "max_prompt_length",
            f"between 1 and max_length - 1 = {self.max_length - 1}",
            limit,
        )

    @property
    def prompt_limit(self) -> int:
        """Maximum number of tokens of a prompt."""
        return self.max_prompt_length or max(1, self.max_length * 3 // 4)


@dataclass(frozen=True)
class OwnWorldConfig:
    """A world with your own prompts and your own gold scorer. ``policy.model`` samples the responses. Its weights are
    in ``policy.dtype``, or in bfloat16 if ``scoring.dtype: bfloat16`` is set; ``scoring.dtype: auto`` does not change
    the world.

    Args:
        prompts: Rows of prompts. They are split into training, held-out and validation prompts.
        scorer: ``module:function``, the gold reward: a function that takes a list of prompts and a list of responses
            and returns one score for each response.
        sampling: How the responses are sampled.
        style_token: The word that ``world.spurious: style`` or ``position`` counts.
    """

    prompts: SourceConfig
    scorer: str
    sampling: SamplingConfig = field(default_factory=SamplingConfig, metadata=INLINE)
    style_token: str | None = None

    def __post_init__(self) -> None:
        require(self.scorer.count(":") == 1, "scorer", "of the form module:function", self.scorer)
        positive(self.sampling.temperature, "temperature")
        one_word = self.style_token is None or len(self.style_token.split()) == 1
        require(one_word, "style_token", "one word", self.style_token)


@dataclass(frozen=True)
class WorldConfig:
    """A world: prompts, responses and a known gold reward, generated by seralign, with a labeller that follows the gold
    reward imperfectly.

    A world supplies what the configuration leaves out: pairs, held-out pairs, prompts, demonstrations, model,
    tokenizer, scorer. ``own`` supplies no demonstrations, no model and no tokenizer.

    Args:
        name: ``clauses``, a language with a hidden table of values; ``elaborations``, the same with answers that differ
            in length tenfold; ``sums``, additions with intermediate steps; or ``own``, your own prompts and scorer.
        pairs: Number of offline preference pairs.
        demonstrations: Number of supervised texts. Default: 20000; ``own`` has none.
        prompts: Number of prompts for bootstrapping; ``own`` has at most as many as its source.
        heldout: Number of held-out pairs. Their prompts are used for evaluation.
        validation: Number of pairs for choosing settings. Their prompts are in no other file.
        noise: Probability that a label is flipped.
        gold_strength: How strongly the labeller follows the gold reward, in log-odds per point.
        spurious: A feature that the labeller prefers and the gold reward ignores: ``length`` in words, ``style`` (how
            often a style token occurs), or ``position`` (how early the style token first occurs: the share of the words
            after it).
        spurious_strength: How strongly the labeller prefers the feature, in log-odds per unit.
        soft_labels: Pairs have ``p``, the probability of the labeller including the noise, and no label is drawn.
        feedback: What the labeller says of two responses. ``pairs``: which one is better. ``scores``: a score of each,
            in log-odds, in the same order. ``goals``: each pair twice, under prompts that ask for the grade (of four)
            of its chosen or of its rejected response, which is then the chosen one (2410.08067); all prompts of
            evaluation and of later rounds ask for the best grade, those of demonstrations for any.
        off_policy_share: Share of the responses from a source other than that of the demonstrations. Default: 0.5;
            ``own`` has no other source.
        off_policy_source: ``careless`` makes more errors; ``stranger`` works in an order that no demonstration has.
            Default: ``careless``.
        seed: Seed of the world. The seed of the run does not change it.
        own: Prompts and scorer of the world ``own``.
    """

    name: Literal["clauses", "elaborations", "sums", "own"] = "clauses"
    pairs: int = 4000
    demonstrations: int | None = None
    prompts: int = 4000
    heldout: int = 1000
    validation: int = 500
    noise: float = 0.2
    gold_strength: float = 2.0
    spurious: Literal["length", "style", "position"] = "length"
    spurious_strength: float = 0.3
    soft_labels: bool = False
    feedback: Literal["pairs", "scores", "goals"] = "pairs"
    off_policy_share: float | None = None
    off_policy_source: Literal["careless", "stranger"] | None = None
    seed: int = 0
    own: OwnWorldConfig | None = None

    def __post_init__(self) -> None:
        for key in ("pairs", "prompts", "heldout", "validation"):
            positive(getattr(self, key), key)
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        require(0.0 <= self.noise <= 1.0, "noise", "in [0, 1]", self.noise)
        if (self.name == "own") != (self.own is not None):
            raise ConfigError(f"own and name: own must be set together (name is {self.name!r})")
        if self.demonstrations is not None:
            positive(self.demonstrations, "demonstrations")
        share = self.off_policy_share
        require(share is None or 0.0 <= share <= 1.0, "off_policy_share", "in [0, 1]", share)
        if self.soft_labels and self.feedback != "pairs":
            raise ConfigError(f"soft_labels: feedback: {self.feedback} has scores that are drawn; leave it out")
        if self.own is None:
            return
        if self.feedback != "pairs":
            raise ConfigError(f"feedback: the world own has pairs alone, got {self.feedback!r}; leave it out")
        for key in ("demonstrations", "off_policy_share", "off_policy_source"):
            if getattr(self, key) is not None:
                raise ConfigError(f"{key}: in the world own, policy.model samples all responses; leave it out")
        if self.spurious != "length" and self.own.style_token is None:
            raise ConfigError(f"own.style_token is missing: spurious: {self.spurious} needs it")

    @property
    def resolved_demonstrations(self) -> int:
        """``demonstrations``, or the default."""
        return 20000 if self.demonstrations is None else self.demonstrations

    @property
    def resolved_off_policy_share(self) -> float:
        """``off_policy_share``, or the default."""
        return 0.5 if self.off_policy_share is None else self.off_policy_share

    @property
    def resolved_off_policy_source(self) -> str:
        """``off_policy_source``, or the default."""
        return self.off_policy_source or "careless"
