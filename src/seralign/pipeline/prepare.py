"""Prepares the models that a run's configuration names."""

from __future__ import annotations

from seralign import distributed
from seralign.config import PolicyConfig, RunConfig
from seralign.errors import ConfigError
from seralign.pipeline.context import Policy
from seralign.policy.adapters import vocabulary_rows
from seralign.policy.admission import check_mergeable, check_model
from seralign.policy.bases import other_base
from seralign.policy.heads import HEADS, LANGUAGE_MODEL, Head
from seralign.policy.identity import PolicySource, fetch, finite_digest
from seralign.policy.saved import base_source
from seralign.progress import say
from seralign.report.notes import on_other_base


def reference_policy(config: RunConfig, policy: PolicySource) -> Policy | None:
    """The policy that ``reference`` names, with its digest; None if it names none.

    Raises:
        ModelError: The model does not exist or cannot score.
        ConfigError: Its vocabulary differs from the policy's.
    """
    given = config.reference
    if given.model is None:
        return None
    source = fetch(PolicySource(given.model, given.revision, given.adapter), "reference")
    check_model(source, config.policy, "reference")
    _check_vocabulary(policy, source, config.policy)
    return hashed_policy("reference", source, given.model, "reference")


def base_policy(config: RunConfig) -> Policy:
    """The configured model (and adapter), with its digest."""
    source = checked_source(base_source(config), config.policy, start_head(config))
    return hashed_policy("initial", source, str(config.policy.model), "policy")


def start_head(config: RunConfig) -> Head:
    """The head that the configured model may have besides that of a language model: that of the rounds, unless a
    supervised training comes before them."""
    return LANGUAGE_MODEL if config.sft is not None else HEADS[config.objective.head]


def checked_source(source: PolicySource, config: PolicyConfig, head: Head = LANGUAGE_MODEL) -> PolicySource:
    """A model (and adapter) as local folders, checked.

    Raises:
        ModelError: the model does not exist or cannot be trained.
    """
    found = fetch(source)
    check_model(found, config, head=head)
    if config.merges:
        check_mergeable(found, config)
    return found


def hashed_policy(name: str, source: PolicySource, named: str, section: str) -> Policy:
    """A policy with the digest of its weights, which must be finite; only one process reads the files.

    Args:
        name: Name of the policy.
        source: Local folders.
        named: The model as the configuration names it.
        section: Section of the configuration, ``policy`` or ``reference``.

    Raises:
        ModelError: a file is missing or corrupt, or a weight is NaN or infinite.
    """
    digest = distributed.broadcast(finite_digest(source) if distributed.is_main() else "")
    return Policy(name, source, digest, other_base=_other_base(source, named, section))


def _other_base(source: PolicySource, named: str, section: str) -> str | None:
    """``other_base``, with a warning if there is one; only one process reads the files."""
    found = distributed.broadcast(other_base(source, named) if distributed.is_main() else None)
    if found is not None:
        say(f"warning: {on_other_base(section, found)}")
    return found


def _check_vocabulary(policy: PolicySource, reference: PolicySource, config: PolicyConfig) -> None:
    sizes = [vocabulary_rows(source, config) for source in (policy, reference)]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"reference.model has a vocabulary of {sizes[1]} tokens and the policy one of {sizes[0]}; "
            "implicit rewards need the same tokens under both"
        )
