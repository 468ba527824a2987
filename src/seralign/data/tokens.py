"""Tokenizes prompts and responses, with a chat template or as plain text, within the length limits.

Only the end of a response depends on token values, so padding that equals the end token changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from seralign.config import DataConfig
from seralign.data.alphabet import Dropped, dropped_by
from seralign.data.content import Ids, Unencoded, is_chat, is_ids
from seralign.data.rendering import LeftOut, Rendered
from seralign.data.templates import decode, render
from seralign.errors import DataError, ModelError, SeralignError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STAND_INS = ("\n", "a", ".", "0")

# Explains the error "Missing [UNK] token" of word-level tokenizers.
_UNKNOWN_WORD = "it contains a word outside the vocabulary, which has no token for unknown words"

EMPTY_PROMPT = "empty prompt"
EMPTY_RESPONSE = "empty response"
PROMPT_UNREAD = "prompt of which the tokenizer (policy.tokenizer) makes no token"
RESPONSE_UNREAD = "response of which the tokenizer (policy.tokenizer) makes no token"
PROMPT_CHARACTERS = "prompt with characters that the tokenizer (policy.tokenizer) drops"
RESPONSE_CHARACTERS = "response with characters that the tokenizer (policy.tokenizer) drops"
IDENTICAL = "identical responses"
PROMPT_TOO_LONG = "prompt too long"
RESPONSE_TOO_LONG = "response too long"
PROMPT_CUT = "prompt cut"
RESPONSE_CUT = "response cut"
EARLY_END = "cut at an end token inside a response"
PREFIX = "one response starts the other"


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as token ids: ``prompt_ids`` [P] and, for each response, its text and ids.

    The text of a response leaves out the end token. ``notes`` lists peculiarities such as a cut or an early end.
    """

    prompt: str
    prompt_ids: Ids
    responses: tuple[str, ...]
    response_ids: tuple[Ids, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Encoder:
    """Turns examples into token ids; made by ``make_encoder``.

    ``eos_ids``: tokens that end a response. ``bos``: tokens that the tokenizer adds before plain text, often one.
    ``additive``: texts can be tokenized one by one, because their tokens in a row decode to the joined text.
    ``dropped``: the characters of a text that the tokenizer drops, or None if it drops none.
    """

    tokenizer: PreTrainedTokenizerBase
    data: DataConfig
    eos_ids: frozenset[int]
    bos: Ids
    additive: bool
    dropped: Dropped | None = None

    def encode(self, examples: Sequence[Unencoded]) -> list[Encoded | str]:
        """Encode examples together, which is faster. Gives the reason for each example that is dropped.

        - A conversation is rendered by the chat template, which alone decides on BOS. The prompt ends with the
          generation prompt, and a response is what the model has to write after it.
        - Plain text gets the tokenizer's prefix, such as BOS, once. No token spans prompt and response.
        - A response ends with exactly one end token: its first one, else the tokenizer's is appended.
        - Token ids are used as they are: no BOS and no end token is added.
        - A prompt longer than ``data.prompt_limit`` loses its start (BOS stays). A response that exceeds
          ``data.max_length`` loses its end, including the end token. With ``data.overlong: drop`` the example is
          dropped instead.
        - An example with a character that the tokenizer drops is dropped.

        Raises:
            DataError: The template cannot render a conversation, or token ids are not in the vocabulary.
            ModelError: A conversation needs a chat template and the tokenizer has none.
            ConfigError: ``data.system`` is set for data that are not conversations.
        """
        for example in examples:
            if is_ids(example.prompt):
                self._check_vocabulary(example)
        rendered = render(self.tokenizer, examples, self.data)
        texts = [text for text in rendered if isinstance(text, Rendered)]
        whole = [example for example, text in zip(examples, rendered, strict=True) if isinstance(text, Rendered)]
        encoded = iter(self._encode(whole, texts))
        return [text.reason if isinstance(text, LeftOut) else next(encoded) for text in rendered]

    def dropped_characters(self, example: Unencoded) -> list[str]:
        """The different characters of an example that the tokenizer drops, those of the prompt first."""
        (text,) = render(self.tokenizer, [example], self.data)
        if self.dropped is None or not isinstance(text, Rendered):
            return []
        return self.dropped("".join((text.prompt, *text.responses)))

    def _encode(self, examples: list[Unencoded], texts: list[Rendered]) -> list[Encoded | str]:
        try:
            prompt_ids = self._prompt_ids(examples, [text.prompt for text in texts])
            response_ids = self._response_ids(examples, texts, prompt_ids)
        except SeralignError:
            raise
        except Exception as error:
            # tokenizers raises bare exceptions, e.g. for a word outside a vocabulary without an unknown token.
            if len(examples) == 1:
                why = _UNKNOWN_WORD if "[UNK]" in str(error) else error
                raise DataError(f"{examples[0].where}: the tokenizer (policy.tokenizer) fails: {why}") from None
            return [self._encode([example], [text])[0] for example, text in zip(examples, texts, strict=True)]
        return [
            self._fit(example, text, prompt, responses)
            for example, text, prompt, responses in zip(examples, texts, prompt_ids, response_ids, strict=True)
        ]

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        return self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]  # pyright: ignore

    def _prompt_ids(self, examples: Sequence[Unencoded], prompts: list[str]) -> list[Ids]:
        encoded = []
        for example, ids in zip(examples, map(tuple, self._tokenize(prompts)), strict=True):
            if is_ids(example.prompt):
                encoded.append(example.prompt)
            elif is_chat(example.prompt) or ids[: len(self.bos)] == self.bos:
                encoded.append(ids)
            else:
                encoded.append(self.bos + ids)
        return encoded

    def _check_vocabulary(self, example: Unencoded) -> None:
        size = len(self.tokenizer)
        for content in (example.prompt, *example.responses):
            for token in cast(Ids, content):
                if not 0 <= token < size:
                    raise DataError(f"{example.where}: token id {token} is not in the tokenizer's vocabulary of {size}")

    def _response_ids(
        self, examples: Sequence[Unencoded], texts: Sequence[Rendered], prompts: list[Ids]
    ) -> list[list[Ids]]:
        flat = [response for text in texts for response in text.responses]
        if self.additive:
            ids = iter(map(tuple, self._tokenize(flat)))
        else:
            ids = iter(self._continuations([text.prompt for text in texts for _ in text.responses], flat))
        encoded = [[next(ids) for _ in text.responses] for text in texts]
        return [
            [cast(Ids, response) for response in example.responses] if is_ids(example.prompt) else responses
            for example, responses in zip(examples, encoded, strict=True)
        ]

    def _continuations(self, prompts: list[str], responses: list[str]) -> list[Ids]:
        """The ids of texts that follow others, for tokenizers that treat the start of a text differently.

        They are the ids that follow the prompt's when both are tokenized together. If a token spans the border, the
        response is tokenized after a stand-in that it does not merge with, else alone.
        """
        wholes = [prompt + response for prompt, response in zip(prompts, responses, strict=True)]
        found = []
        for head, whole, response in zip(self._tokenize(prompts), self._tokenize(wholes), responses, strict=True):
            ids = _after(head, whole)
            for stand_in in STAND_INS if ids is None else ():
                ids = _after(*self._tokenize([stand_in, stand_in + response]))
                if ids is not None:
                    break
            found.append(tuple(self._tokenize([response])[0]) if ids is None else ids)
        return found

    def _fit(self, example: Unencoded, text: Rendered, prompt: Ids, responses: list[Ids]) -> Encoded | str:
        limit, drop = self.data.prompt_limit, self.data.overlong == "drop"
        prompt_text = text.prompt
        notes = list(text.notes)
        if self._is_unread(example, prompt_text, () if prompt == self.bos else prompt):
            return PROMPT_UNREAD
        if not prompt:
            return EMPTY_PROMPT
        if self._drops(example, text.prompt):
            return PROMPT_CHARACTERS
        if len(prompt) > limit:
            if drop:
                return PROMPT_TOO_LONG
            prompt = self._cut_prompt(prompt, limit)
            prompt_text = decode(self.tokenizer, prompt)
            notes.append(PROMPT_CUT)
        room = self.data.max_length - len(prompt)
        fitted: list[tuple[str, Ids]] = []
        for response_text, ids in zip(text.responses, responses, strict=True):
            if self._is_unread(example, response_text, ids):
                return RESPONSE_UNREAD
            if not is_ids(example.prompt):
                ids, early = self._end(ids, is_chat(example.prompt))
                notes += [EARLY_END] * early
            if not response_text.strip() or not self._body(ids):
                return EMPTY_RESPONSE
            if self._drops(example, response_text):
                return RESPONSE_CHARACTERS
            if len(ids) > room:
                if drop:
                    return RESPONSE_TOO_LONG
                ids = ids[:room]
                notes.append(RESPONSE_CUT)
            fitted.append((self._response_text(example, response_text, ids), ids))
        if len(fitted) == 2:
            first, second = (self._body(ids) for _, ids in fitted)
            if fitted[0][1] == fitted[1][1]:
                return IDENTICAL
            shorter = min(len(first), len(second))
            notes += [PREFIX] * (first[:shorter] == second[:shorter])
        return Encoded(
            prompt=prompt_text,
            prompt_ids=prompt,
            responses=tuple(text for text, _ in fitted),
            response_ids=tuple(ids for _, ids in fitted),
            notes=tuple(dict.fromkeys(notes)),
        )

    def _is_unread(self, example: Unencoded, text: str, ids: Ids) -> bool:
        """Whether a text is not empty, and no token of it was found."""
        return not ids and not is_ids(example.prompt) and text.strip() not in ("", decode(self.tokenizer, self.bos))

    def _drops(self, example: Unencoded, text: str) -> bool:
        return self.dropped is not None and not is_ids(example.prompt) and bool(self.dropped(text))

    def _cut_prompt(self, prompt: Ids, limit: int) -> Ids:
        # A template may write a BOS even if the tokenizer does not add one.
        bos = self.bos or (cast(int, self.tokenizer.bos_token_id),)
        size = len(bos)
        if size < limit and prompt[:size] == bos:
            return bos + prompt[size - limit :]
        return prompt[-limit:]

    def _end(self, ids: Ids, chat: bool) -> tuple[Ids, bool]:
        """The ids up to the first end token, or with one appended; and whether the text continued after that token."""
        first = next((index for index, token in enumerate(ids) if token in self.eos_ids), None)
        if first is None:
            return (*ids, cast(int, self.tokenizer.eos_token_id)), False
        rest = ids[first + 1 :]
        return ids[: first + 1], any(token in self.eos_ids for token in rest) if chat else bool(rest)

    def _body(self, ids: Ids) -> Ids:
        return ids[:-1] if ids and ids[-1] in self.eos_ids else ids

    def _response_text(self, example: Unencoded, text: str, ids: Ids) -> str:
        whole = not is_ids(example.prompt) and ids[-1] in self.eos_ids
        if not whole:
            return decode(self.tokenizer, self._body(ids))
        ends = [text.find(cast(str, token)) for token in self.tokenizer.convert_ids_to_tokens(list(self.eos_ids))]
        return text[: min((end for end in ends if end >= 0), default=len(text))]


def make_encoder(tokenizer: PreTrainedTokenizerBase, data: DataConfig, eos_ids: frozenset[int]) -> Encoder:
    """Make the encoder for a tokenizer.

    Args:
        tokenizer: Has the chat template, if the data are conversations.
        data: Limits, what to do with longer examples, and the system message.
        eos_ids: End tokens of the model; its generation settings may have several. The tokenizer's is added.

    Raises:
        ModelError: The tokenizer has no end token.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError("the tokenizer (policy.tokenizer) has no end-of-sequence token; set its eos_token")
    probe = _some_word(tokenizer)
    bare = _ids(tokenizer, probe, special=False)
    full = _ids(tokenizer, probe, special=True)
    start = next((index for index in range(len(full)) if full[index : index + len(bare)] == bare), 0)
    return Encoder(
        tokenizer=tokenizer,
        data=data,
        eos_ids=eos_ids | {cast(int, tokenizer.eos_token_id)},
        bos=full[:start],
        additive=decode(tokenizer, bare * 2) == probe * 2,
        dropped=dropped_by(tokenizer),
    )


def _after(head: list[int], whole: list[int]) -> Ids | None:
    """The rest of ``whole`` after ``head``; None if it does not begin with ``head``."""
    return tuple(whole[len(head) :]) if head and whole[: len(head)] == head else None


def _some_word(tokenizer: PreTrainedTokenizerBase) -> str:
    """A text that this tokenizer can encode: the first of its tokens that is a plain word."""
    special = set(tokenizer.all_special_ids)
    words = (decode(tokenizer, (token,)).strip() for token in range(len(tokenizer)) if token not in special)
    return next((word for word in words if word.isascii() and word.isalnum()), "a")


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, special: bool) -> Ids:
    return tuple(tokenizer(text, add_special_tokens=special)["input_ids"])  # pyright: ignore
