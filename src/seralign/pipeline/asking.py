"""Asking a saved policy: reads prompts as in its training, and samples answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from transformers import PreTrainedTokenizerBase

from seralign.config import SamplingConfig, SourceConfig
from seralign.data.content import NOTHING, Content, Inputs, Message, Unencoded
from seralign.data.formats import read_prompt
from seralign.data.place import reading
from seralign.data.raw import Drop
from seralign.data.sources import load_rows, say_left_out
from seralign.data.table import CHUNK, read_table
from seralign.data.tokens import Encoder, make_encoder
from seralign.errors import ConfigError, DataError, ModelError
from seralign.pipeline.aligned import Aligned
from seralign.policy.load import end_tokens, load_model, load_tokenizer
from seralign.policy.sampling import SamplingParams
from seralign.policy.saved import SavedPolicy
from seralign.policy.settings import model_settings, positions
from seralign.records import Candidate, Prompt, content_id
from seralign.runs import Run
from seralign.runs.layout import DATA, PROMPTS
from seralign.sampling import Request, SampledPolicy, Sampler, make_sampler

# Number of a run's prompts that are checked to find out whether they are conversations.
_LOOKED_AT = 20
_NO_LIMIT = 2**31


@dataclass(frozen=True)
class Asked:
    """A prompt as text or messages, and as token ids or the reason why it cannot be asked.

    ``inputs`` are tools and the like of its row.
    """

    given: Content | None
    prompt: Prompt | str
    inputs: Inputs = NOTHING


@dataclass(frozen=True)
class Reader:
    """How a policy reads prompts.

    Args:
        tokenizer: Tokenizer, with its chat template if it has one.
        encoder: Turns prompts into token ids without cutting them.
        end_tokens: Ids that end a response.
        chat: Whether plain text becomes a user message.
        example: A one-line prompt of the run's training data, shown as an example in errors; None for conversations
            and without a run.
        aligned: Linear Alignment, if answers are sampled with it.
    """

    tokenizer: PreTrainedTokenizerBase
    encoder: Encoder
    end_tokens: frozenset[int]
    chat: bool
    example: str | None
    aligned: Aligned | None = None


@dataclass(frozen=True)
class Speaker:
    """A policy that answers. ``window``: maximum number of tokens of prompt and answer together."""

    name: str
    sampler: Sampler
    reader: Reader
    window: int


def load_reader(
    policy: SavedPolicy, *, system: str | None = None, plain: bool = False, aligned: Aligned | None = None
) -> Reader:
    """Load a policy's tokenizer, and decide whether its prompts are conversations.

    They are if the tokenizer has a chat template, unless the policy's run was trained on plain text.

    Args:
        policy: The policy.
        system: A system message that replaces the run's.
        plain: Read prompts as plain text to continue, even with a chat template.
        aligned: Linear Alignment, whose principle is then part of every prompt.

    Raises:
        ConfigError: a system message with plain text.
    """
    tokenizer = load_tokenizer(policy.source, policy.loading)
    ends = end_tokens(policy.source, tokenizer)
    data = replace(
        policy.data, max_length=_NO_LIMIT, max_prompt_length=_NO_LIMIT - 1, overlong="drop",
        system=system if system is not None else policy.data.system,
    )  # fmt: skip
    encoder = make_encoder(tokenizer, data, ends)
    chat = not plain and tokenizer.chat_template is not None and _in_turns(policy.run, encoder)
    if not chat:
        if system is not None:
            raise ConfigError(f"--system needs conversations, but {policy.name} continues plain text")
        data = replace(data, system=None, chat_template_kwargs={})
    example = None if chat else next((text for text in _prompts(policy.run) if text.isprintable()), None)
    return Reader(tokenizer, replace(encoder, data=replace(data, as_chat=chat)), ends, chat, example, aligned)


def make_speaker(policy: SavedPolicy, reader: Reader, settings: SamplingConfig, key: str) -> Speaker:
    """The policy ready for sampling, with the weights that it is trained with. Loads them at the first prompt.

    Args:
        policy: The policy to ask.
        reader: How it reads prompts.
        settings: The engine and its settings.
        key: Configuration key of the settings, for messages.

    Raises:
        ConfigError: unknown engine, or a setting that the engine does not support.
    """
    loading = policy.loading
    load = partial(load_model, policy.source, loading, loading.dtype)
    attention = loading.attention or "default"
    sampled = SampledPolicy(
        policy.name, policy.source, loading.dtype, attention, reader.tokenizer, reader.end_tokens, load, loading
    )
    window = positions(model_settings(policy.source, loading))
    sampler = make_sampler(sampled, settings, key)
    if reader.aligned is not None:
        sampler = reader.aligned.sampler(sampled, settings, key)
    return Speaker(policy.name, sampler, reader, window)


def read(reader: Reader, content: Content, where: str) -> Prompt:
    """Read a prompt as token ids; plain text becomes a user message if the policy's prompts are conversations.

    Raises:
        DataError: it is empty, or the template or the tokenizer fails for it.
    """
    if isinstance(content, str) and reader.chat:
        content = (turn("user", content),)
    found = _encoded(reader, [Unencoded(content, (), where)])[0]
    if isinstance(found, str):
        raise DataError(f"{where}: {found}{_such_as(reader)}")
    return found


def read_file(reader: Reader, source: SourceConfig, key: str) -> Iterator[Asked]:
    """Read every row of a source as a prompt, in order.

    Args:
        reader: How the policy reads prompts.
        source: Rows as in ``data.prompts``.
        key: Name of the source, for messages.

    Raises:
        DataError: the source cannot be read, or a row is not a prompt.
    """
    found, how = load_rows(source, key), reading(reader.encoder.data, key)
    say_left_out(found, key)
    rows = found.located()
    while chunk := list(islice(rows, CHUNK)):
        raws = [read_prompt(row, where, how) for row, where in chunk]
        examples = [Unencoded(raw.prompt, (), raw.where, raw.inputs) for raw in raws if not isinstance(raw, Drop)]
        prompts = iter(_encoded(reader, examples))
        for raw in raws:
            yield Asked(None, raw.reason) if isinstance(raw, Drop) else Asked(raw.prompt, next(prompts), raw.inputs)


def _encoded(reader: Reader, examples: list[Unencoded]) -> list[Prompt | str]:
    aligned = reader.aligned
    try:
        encoded = reader.encoder.encode(examples) if aligned is None else aligned.encode(reader.encoder, examples)
    except DataError as error:
        raise DataError(f"{error}{_such_as(reader)}") from None
    return [
        found if isinstance(found, str) else Prompt(content_id(found.prompt_ids), found.prompt, found.prompt_ids)
        for found in encoded
    ]


def _such_as(reader: Reader) -> str:
    """An example of a prompt, for errors."""
    return "" if reader.example is None else f"; a prompt of the run is, for example: {reader.example}"


def turn(role: str, text: str) -> Message:
    """A message of a conversation."""
    return {"role": role, "content": text}


def answer(
    speaker: Speaker, prompt: Prompt, params: SamplingParams, seed: int, watch: Callable[[str], None] | None = None
) -> Candidate:
    """Sample one answer that fits into the policy's window.

    Args:
        speaker: The policy.
        prompt: From ``read``.
        params: ``samples`` is 1.
        seed: The same seed and prompt give the same answer.
        watch: Called with the answer's text so far, as it grows; not called for engines that return only complete
            answers.

    Raises:
        DataError: the prompt leaves no room for an answer.
        ModelError: the model's logits are NaN or infinite.
    """
    room = speaker.window - len(prompt.ids)
    if room < 1:
        raise DataError(f"the prompt has {len(prompt.ids)} tokens, but {speaker.name} takes at most {speaker.window}")
    params = replace(params, max_new_tokens=min(params.max_new_tokens, room))
    request = Request("", speaker.sampler.identity, (prompt,), params, speaker.reader.end_tokens, seed)
    [(_, [candidate])] = speaker.sampler.sample([request], watch)
    return candidate


def _in_turns(run: Run | None, encoder: Encoder) -> bool:
    """Whether a run's prompts end like prompts of its chat template; True if that is unknown."""
    texts = _prompts(run)
    if not texts:
        return True
    word = "hello"
    try:
        asked = encoder.encode([Unencoded((turn("user", word),), (), "a message")])[0]
    except (DataError, ModelError):
        return True
    ending = "" if isinstance(asked, str) else asked.prompt.rpartition(word)[2]
    return any(text.endswith(ending) for text in texts)


def _prompts(run: Run | None) -> list[str]:
    """Some prompts of a run's training data, as its model reads them."""
    if run is None or not run.exists(DATA):
        return []
    seen = read_table(run.path(DATA, PROMPTS)).select_columns(["text"])
    return seen[: min(_LOOKED_AT, len(seen))]["text"]
