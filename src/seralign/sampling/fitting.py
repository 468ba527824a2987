"""From what a server answers to candidates. What does not fit the policy's tokenizer has a reason instead."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from seralign.config import DataConfig
from seralign.data.content import Unencoded
from seralign.data.rendering import Rendered
from seralign.data.templates import render
from seralign.policy.sampling import known_ids
from seralign.records import Candidate
from seralign.sampling.wire import Choice, Question, Reply

PROMPT = "prompt read as other tokens"
TEXT = "text that the tokenizer does not give back"
UNKNOWN = "token ids without a token"
EMPTY = "empty"
LONG = "longer than max_new_tokens"


@dataclass(frozen=True)
class Fitting:
    """How text of a server becomes token ids.

    Args:
        tokenizer: The policy's.
        end: The id that ends an answer, for servers that give text alone.
    """

    tokenizer: PreTrainedTokenizerBase
    end: int

    def fit(self, question: Question, reply: Reply) -> list[Candidate | str]:
        """Each response of a reply as a candidate, or why it is dropped.

        Token ids are taken as they are. Text is tokenized; it must be the text that these tokens give, and the end
        token is added if the server says that the response ended.
        """
        count = reply.prompt_tokens
        if count is not None and count != len(question.prompt.ids):
            return [PROMPT] * len(question.indices)
        return [
            self._fit(question, index, choice) for index, choice in zip(question.indices, reply.choices, strict=True)
        ]

    def _fit(self, question: Question, index: int, choice: Choice) -> Candidate | str:
        if choice.finish not in ("stop", "length"):
            return f"ended by {choice.finish}"
        ids = choice.ids if choice.ids is not None else self._ids(choice)
        if isinstance(ids, str):
            return ids
        ends = question.end_tokens
        first = next((at + 1 for at, token in enumerate(ids) if token in ends), None)
        ids = ids[:first]
        if not ids:
            return EMPTY
        if not known_ids(self.tokenizer).issuperset(ids):
            return UNKNOWN
        if len(ids) > question.params.max_new_tokens:
            return LONG
        text = str(self.tokenizer.decode(list(ids), skip_special_tokens=True))
        return Candidate(question.prompt.prompt_id, index, text, ids, first is not None)

    def _ids(self, choice: Choice) -> tuple[int, ...] | str:
        ids = encode(self.tokenizer, choice.text)
        if str(self.tokenizer.decode(list(ids), skip_special_tokens=True)) != choice.text:
            return TEXT
        return (*ids, self.end) if choice.finish == "stop" else ids


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """The token ids of a text without special tokens around it."""
    found = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tuple(found)  # pyright: ignore[reportArgumentType]


def make_fitting(tokenizer: PreTrainedTokenizerBase, end_tokens: frozenset[int], chat: bool) -> Fitting:
    """The fitting of a policy.

    Args:
        tokenizer: The policy's.
        end_tokens: Ids that end a response.
        chat: Whether the prompts are conversations. Their answers end with the token that the chat template writes.
    """
    eos = tokenizer.eos_token_id
    end = eos if isinstance(eos, int) and eos in end_tokens else min(end_tokens)
    if chat and len(end_tokens) > 1 and tokenizer.chat_template is not None:
        # Templates come with a model, so this one runs in a process with limited time and memory.
        turns = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
        (found,) = render(tokenizer, [Unencoded(turns, (), "a conversation")], DataConfig())
        text = found.prompt if isinstance(found, Rendered) else ""
        end = next((token for token in reversed(encode(tokenizer, text)) if token in end_tokens), end)
    return Fitting(tokenizer, end)
