"""Prompts and responses as the text that the model reads and writes: chat templates, or plain text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from jinja2 import TemplateError

from seralign.data.borders import common_start
from seralign.data.content import Chat, Example, Ids, is_chat, is_ids
from seralign.errors import ConfigError, DataError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Stands in for an answer to find where a chat template puts it; a private-use character starts no real answer.
PLACEHOLDER = "\ue0ff"


def decode(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> str:
    """The text of token ids, special tokens shown, spaces as they are."""
    return cast(str, tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def render(tokenizer: PreTrainedTokenizerBase, example: Example, system: str | None) -> tuple[str, list[str]]:
    """The text of the prompt and of each response; for token ids, the ids decoded.

    The prompt of a conversation ends with the template's generation prompt; a response is what the template writes
    after it, end of turn included, so that the two joined are what a model served with the template reads and writes.

    Raises:
        DataError: The template refuses the conversation.
        ModelError: A conversation meets a tokenizer without a chat template.
        ConfigError: A system message is configured, but the example is no conversation.
    """
    prompt, responses, where = example.prompt, example.responses, example.where
    if is_chat(prompt):
        chat = _with_system(prompt, system)
        text = _template(tokenizer, chat, where, add_generation_prompt=True)
        return text, [_answer(tokenizer, chat, text, cast(Chat, response), where) for response in responses]
    if system is not None:
        raise ConfigError(f"data.system goes with conversations, but {where} is none; leave it out")
    if is_ids(prompt):
        return decode(tokenizer, prompt), [decode(tokenizer, cast(Ids, response)) for response in responses]
    return cast(str, prompt), [cast(str, response) for response in responses]


def _with_system(chat: Chat, system: str | None) -> Chat:
    if system is None or any(message["role"] == "system" for message in chat):
        return chat
    return ({"role": "system", "content": system}, *chat)


def _template(tokenizer: PreTrainedTokenizerBase, chat: Chat, where: str, add_generation_prompt: bool) -> str:
    if tokenizer.chat_template is None:
        raise ModelError(
            f"{where} is a conversation, but the tokenizer has no chat template; give one as policy.chat_template"
        )
    try:
        text = tokenizer.apply_chat_template(
            cast(Any, list(chat)), tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except (TemplateError, TypeError, ValueError) as error:
        raise DataError(f"{where}: the chat template (policy.chat_template) refuses it: {error}") from error
    return cast(str, text)


def _answer(tokenizer: PreTrainedTokenizerBase, chat: Chat, prompt: str, answer: Chat, where: str) -> str:
    """What the template writes after ``prompt`` for an answer, with its end of turn; empty for an empty answer.

    Where the template renders the prompt differently once it is answered, the answer's place is found by rendering
    another answer in its stead.
    """
    if not answer[0]["content"].strip():
        return ""
    full = _template(tokenizer, (*chat, *answer), where, add_generation_prompt=False)
    if not full.startswith(prompt):
        other = {"role": "assistant", "content": PLACEHOLDER}
        prompt = common_start(full, _template(tokenizer, (*chat, other), where, add_generation_prompt=False))
    # What follows the end of turn, such as a line break, is never sampled.
    return full[len(prompt) :].rstrip()
