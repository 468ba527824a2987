"""What the data are, and the worlds that stand in for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from seralign.checks import positive, require
from seralign.config.fields import INLINE
from seralign.config.sampling import SamplingConfig
from seralign.errors import ConfigError

ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
"""The roles of messages that chat templates know."""
# What whoever renders a chat template gives it, so no setting can.
RESERVED_SETTINGS = (
    "messages", "conversation", "conversations", "tools", "documents", "chat_template", "add_generation_prompt",
    "continue_final_message", "return_assistant_tokens_mask", "tokenize",
)  # fmt: skip


@dataclass(frozen=True)
class SourceConfig:
    """Where rows come from.

    Args:
        path: A local .json, .jsonl, .ndjson, .csv, .tsv (each also .gz or .zst) or .parquet file, a list of files, a
            glob, a folder of files of one format, a folder that ``save_to_disk`` wrote, or a name on the hub.
        name: Configuration (subset) of a hub data set.
        split: Split of a hub data set, or of a ``DatasetDict`` that ``save_to_disk`` wrote.
        revision: Commit or tag of a hub data set; recorded as resolved.
        columns: Our column name to the file's, e.g. ``{chosen: good, rejected: bad}``.
        limit: Read only the first rows.
    """

    path: str | list[str]
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    limit: int | None = None

    def __post_init__(self) -> None:
        require(self.limit is None or self.limit >= 1, "limit", "at least 1", self.limit)


@dataclass(frozen=True)
class DataConfig:
    """Pairs, prompts and demonstrations, and how they become tokens.

    Args:
        pairs: Preference pairs to train on.
        heldout: Pairs for held-out metrics; by default ``heldout_fraction`` of the prompts of ``pairs``.
        heldout_fraction: Share of prompts set aside when ``heldout`` is not given.
        prompts: Prompts for bootstrapping; by default the prompts of ``pairs``.
        demonstrations: Prompt and response rows for ``sft``; by default the chosen responses of ``pairs``.
        max_length: Most tokens of prompt and response together.
        max_prompt_length: Most tokens of a prompt. Default: three quarters of ``max_length``.
        overlong: What happens to a prompt or response beyond its limit: ``cut`` keeps the end of the prompt and the
            start of the response, ``drop`` drops the pair.
        format: ``auto`` takes text as it is; ``hh`` reads text of ``Human:`` and ``Assistant:`` turns, as HH-RLHF has
            it, as conversations.
        as_chat: Make plain prompts and responses turns of a conversation, for a model with a chat template.
        system: A system message put before every conversation that has none.
        roles: Roles of messages by another name to ours, e.g. ``{client: user}``; well-known ones (human, gpt …) need
            none.
        chat_template_kwargs: Settings of the chat template, e.g. ``{enable_thinking: false}``; a column of this name
            has them for a row.
    """

    pairs: SourceConfig | None = None
    heldout: SourceConfig | None = None
    heldout_fraction: float = 0.05
    prompts: SourceConfig | None = None
    demonstrations: SourceConfig | None = None
    max_length: int = 1024
    max_prompt_length: int | None = None
    overlong: Literal["cut", "drop"] = "cut"
    format: Literal["auto", "hh"] = "auto"
    as_chat: bool = False
    system: str | None = None
    roles: dict[str, str] = field(default_factory=dict)
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for theirs, ours in self.roles.items():
            require(ours in (*ROLES, theirs), f"roles.{theirs}", f"one of {', '.join(ROLES)}", ours)
        for name in self.chat_template_kwargs:
            if name in RESERVED_SETTINGS:
                raise ConfigError(f"chat_template_kwargs.{name} is no setting of a template; leave it out")
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
        """Most tokens of a prompt."""
        return self.max_prompt_length or max(1, self.max_length * 3 // 4)


@dataclass(frozen=True)
class OwnWorldConfig:
    """A world of one's own: any prompts and any gold scorer. ``policy.model`` writes the responses, with weights in
    ``policy.dtype``, or bfloat16 where ``scoring.dtype: bfloat16`` is given; ``auto`` changes no world.

    Args:
        prompts: Rows of prompts; they are split into those to train on, held-out ones and validation.
        scorer: ``module:function`` that takes lists of prompts and of responses and returns scores: the gold reward.
        sampling: How the responses are sampled.
        style_token: The word that ``world.spurious``, ``style`` or ``position``, looks for.
    """

    prompts: SourceConfig
    scorer: str
    sampling: SamplingConfig = field(default_factory=SamplingConfig, metadata=INLINE)
    style_token: str | None = None

    def __post_init__(self) -> None:
        require(self.scorer.count(":") == 1, "scorer", "of the form module:function", self.scorer)
        one_word = self.style_token is None or len(self.style_token.split()) == 1
        require(one_word, "style_token", "one word", self.style_token)


@dataclass(frozen=True)
class WorldConfig:
    """A world: prompts, responses and a known gold reward, made on the spot, with a labeller who sees it dimly.

    It supplies what the configuration leaves out: pairs, held-out pairs, prompts, demonstrations, model, tokenizer
    and scorer; ``own`` supplies no demonstrations, no model and no tokenizer.

    Args:
        name: ``clauses``, a language with a hidden table of values; ``sums``, additions with their working shown; or
            ``own``, prompts and a scorer of your own.
        pairs: Offline preference pairs.
        demonstrations: Supervised texts. Default: 20000; ``own`` has none.
        prompts: Prompts for bootstrapping; ``own`` has at most its own.
        heldout: Held-out pairs; their prompts are the evaluation's.
        validation: Pairs to choose settings on; their prompts are in no other file.
        noise: Probability that a label is flipped.
        gold_strength: How strongly the labeller follows the gold reward, in log-odds a point.
        spurious: What the labeller also likes and gold ignores: ``length`` in words, ``style`` (how often a style token
            occurs), or ``position`` (how early it first stands: the share of the words that follow it).
        spurious_strength: How strongly, in log-odds a unit of it.
        soft_labels: Pairs carry ``p``, the labeller's probability (noise included), and no label is drawn.
        off_policy_share: Share of the responses by another writer than that of the demonstrations. Default: 0.5;
            ``own`` has no other writer.
        off_policy_writer: ``careless`` makes more slips; ``stranger`` works in an order that no demonstration has.
            Default: ``careless``.
        seed: Seed of the world; the run's seed does not change it.
        own: Prompts and scorer of the world ``own``.
    """

    name: Literal["clauses", "sums", "own"] = "clauses"
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
    off_policy_share: float | None = None
    off_policy_writer: Literal["careless", "stranger"] | None = None
    seed: int = 0
    own: OwnWorldConfig | None = None

    def __post_init__(self) -> None:
        for key in ("pairs", "prompts", "heldout", "validation"):
            positive(getattr(self, key), key)
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        require(0.0 <= self.noise <= 1.0, "noise", "in [0, 1]", self.noise)
        if (self.name == "own") != (self.own is not None):
            raise ConfigError(f"own goes with name: own, and only with it (name is {self.name!r})")
        if self.demonstrations is not None:
            positive(self.demonstrations, "demonstrations")
        share = self.off_policy_share
        require(share is None or 0.0 <= share <= 1.0, "off_policy_share", "in [0, 1]", share)
        if self.own is None:
            return
        for key in ("demonstrations", "off_policy_share", "off_policy_writer"):
            if getattr(self, key) is not None:
                raise ConfigError(f"{key}: policy.model writes all of the world own; leave it out")
        if self.spurious != "length" and self.own.style_token is None:
            raise ConfigError(f"own.style_token is missing: spurious: {self.spurious} looks for it")

    @property
    def resolved_demonstrations(self) -> int:
        """``demonstrations``, or the default."""
        return 20000 if self.demonstrations is None else self.demonstrations

    @property
    def resolved_off_policy_share(self) -> float:
        """``off_policy_share``, or the default."""
        return 0.5 if self.off_policy_share is None else self.off_policy_share

    @property
    def resolved_off_policy_writer(self) -> str:
        """``off_policy_writer``, or the default."""
        return self.off_policy_writer or "careless"
