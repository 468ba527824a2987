"""Renders prompts and responses as the text that the model reads and writes, with a chat template or as plain text."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import jinja2
import jinja2.meta

from seralign.config import DataConfig
from seralign.data.content import Chat, Ids, Inputs, Unencoded, is_chat, is_ids
from seralign.data.rendering import Conversation, LeftOut, Refused, Rendered, Template, render_apart
from seralign.errors import ConfigError, DataError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Conversations that any template should render; some need a system message.
PROBES: tuple[Chat, ...] = (
    ({"role": "user", "content": "Hi"},),
    ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}),
)
PROBED: Chat = ({"role": "assistant", "content": "Hello."},)
SETTINGS_UNUSED = "chat template does not use chat_template_kwargs"


def decode(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> str:
    """The text of token ids, with special tokens and without clean-up of spaces."""
    return cast(str, tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def render(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Unencoded], data: DataConfig
) -> list[Rendered | LeftOut]:
    """Render each prompt and each of its responses as text; token ids are decoded.

    Raises:
        DataError: The template fails for a conversation, or runs out of time or memory.
        ModelError: A conversation needs a chat template and the tokenizer has none, or one that always fails.
        ConfigError: A system message or template settings are configured, but an example is not a conversation.
    """
    chats = [example for example in examples if is_chat(example.prompt)]
    rendered = iter(_render_chats(tokenizer, chats, data))
    return [next(rendered) if is_chat(example.prompt) else _plain(tokenizer, example, data) for example in examples]


def _plain(tokenizer: PreTrainedTokenizerBase, example: Unencoded, data: DataConfig) -> Rendered:
    for key, given in (("system", data.system), ("chat_template_kwargs", data.chat_template_kwargs)):
        if given:
            raise ConfigError(f"data.{key} needs conversations, but {example.where} is not one; leave data.{key} out")
    prompt, responses = example.prompt, example.responses
    if is_ids(prompt):
        texts = [decode(tokenizer, cast(Ids, response)) for response in responses]
        return Rendered(decode(tokenizer, prompt), tuple(texts))
    return Rendered(cast(str, prompt), cast(tuple[str, ...], responses))


def _render_chats(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Unencoded], data: DataConfig
) -> list[Rendered | LeftOut]:
    conversations = [conversation(example, data) for example in examples]
    results: list[Rendered | LeftOut] = []
    # A model may have a separate template for conversations with tools, so equal neighbours are rendered together.
    for start, end in _runs([bool(conversation.inputs.tools) for conversation in conversations]):
        template = _template(tokenizer, examples[start])
        for example, result in zip(examples[start:end], render_apart(template, conversations[start:end]), strict=False):
            if isinstance(result, Refused):
                raise _refusal(tokenizer, template, example, data, result.why)
            unused = _unused_settings(template.source, example, data)
            if unused and isinstance(result, Rendered):
                result = dataclasses.replace(result, notes=(*result.notes, SETTINGS_UNUSED))
            results.append(result)
    return results


def _refusal(
    tokenizer: PreTrainedTokenizerBase, template: Template, example: Unencoded, data: DataConfig, why: str
) -> DataError | ModelError:
    """The error if the template fails for a row; or the template's own error if it fails for every row."""
    # A system message does not make a template faster, and every probe takes the full time limit again.
    for chat in PROBES[:1] if why.startswith("it takes more than") else PROBES:
        probe = Conversation(chat, (PROBED,), Inputs(settings=data.chat_template_kwargs))
        if render_apart(template, [probe]) != [Refused(why)]:
            which = "the chat template (policy.chat_template, or the tokenizer's own)"
            return DataError(f"{example.where}: {which} cannot render the row: {why}")
    name = tokenizer.name_or_path or "the tokenizer"
    return ModelError(
        f"the chat template of {name} (policy.chat_template, if set) fails for every conversation, even for one user "
        f"message 'Hi': {why}. Give a working template as policy.chat_template"
    )


def _unused_settings(source: str, example: Unencoded, data: DataConfig) -> bool:
    """Whether a row has settings that the template does not use.

    Raises:
        ConfigError: The configuration has such settings.
    """
    if not (data.chat_template_kwargs or example.inputs.settings):
        return False
    known = _variables(source)
    for name in data.chat_template_kwargs:
        if known is not None and name not in known:
            raise ConfigError(f"data.chat_template_kwargs.{name}: the chat template has no such setting")
    return known is not None and any(name not in known for name in example.inputs.settings)


@lru_cache(maxsize=8)
def _variables(source: str) -> frozenset[str] | None:
    """The variables that a template reads; None if it cannot be parsed, which rendering reports better."""
    environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])
    try:
        # The parser does not know transformers' generation tag.
        tree = environment.parse(re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", source))
    except (jinja2.TemplateError, RecursionError):
        return None
    return frozenset(jinja2.meta.find_undeclared_variables(tree))


def _runs(values: list[bool]) -> Iterable[tuple[int, int]]:
    """Start and end of each run of equal neighbours."""
    borders = [0, *(i for i in range(1, len(values)) if values[i] != values[i - 1]), len(values)]
    return itertools.pairwise(borders) if values else ()


def conversation(example: Unencoded, data: DataConfig) -> Conversation:
    """The template's input for an example, with the run's system message and settings."""
    inputs = example.inputs
    settings = {**data.chat_template_kwargs, **inputs.settings}
    chat = _with_system(cast(Chat, example.prompt), data.system)
    answers = cast(tuple[Chat, ...], example.responses)
    return Conversation(chat, answers, Inputs(inputs.tools, inputs.documents, settings))


def _with_system(chat: Chat, system: str | None) -> Chat:
    if system is None or any(message["role"] in ("system", "developer") for message in chat):
        return chat
    return ({"role": "system", "content": system}, *chat)


def _template(tokenizer: PreTrainedTokenizerBase, example: Unencoded) -> Template:
    if tokenizer.chat_template is None:
        raise ModelError(
            f"{example.where} is a conversation, but the tokenizer has no chat template; set policy.chat_template"
        )
    try:
        source = tokenizer.get_chat_template(tools=cast(Any, list(example.inputs.tools) or None))
    except ValueError as error:
        raise ModelError(f"policy.chat_template: {' '.join(str(error).split())}") from None
    return Template(source, dict(tokenizer.special_tokens_map))
