"""The border, the ends, the window: what the model reads is what was meant, whatever the tokenizer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import datasets
import pytest
import tiny_tokenizers as tiny
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from trl import DPOTrainer

from seralign.config import DataConfig
from seralign.data.content import Content, Unencoded
from seralign.data.tokens import Encoded, Encoder, make_encoder
from seralign.errors import ConfigError, DataError, ModelError

USER = {"role": "user", "content": "What is the capital of France?"}
BPE = tiny.byte_bpe()
EOS = BPE.eos_token_id


def chat(text: str) -> tuple[dict, ...]:
    return ({"role": "assistant", "content": text},)


def encoder(tokenizer: PreTrainedTokenizerFast, eos: str | None = None, **data: Any) -> Encoder:
    ids = frozenset({tokenizer.convert_tokens_to_ids(eos)} if eos else ())
    return make_encoder(tokenizer, DataConfig(**data), cast(frozenset[int], ids))


def one(made: Encoder, prompt: Content, *responses: Content) -> Encoded | str:
    return made.encode([Unencoded(prompt, responses, "f row 1")])[0]


def kept(made: Encoder, prompt: Content, *responses: Content) -> Encoded:
    encoded = one(made, prompt, *responses)
    assert isinstance(encoded, Encoded), encoded
    return encoded


TEMPLATES = [
    # template, end of turn, bos by the tokenizer, prompt, response
    (tiny.CHATML, "<|im_end|>", False, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "Yes.<|im_end|>"),
    (tiny.LLAMA3, "<|eot_id|>", True,
     "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
     "Yes.<|eot_id|>"),
    (tiny.MISTRAL, None, True, "<s>[INST] Hi [/INST]", " Yes.</s>"),
    (tiny.ZEPHYR, None, False, "<|user|>\nHi</s>\n<|assistant|>\n", "Yes.</s>"),
    (tiny.QWEN3, "<|im_end|>", False, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
     "<think>\n\n</think>\n\nYes.<|im_end|>"),
    (tiny.NO_THINKING, "<|im_end|>", False,
     "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", "Yes.<|im_end|>"),
    (tiny.GEMMA, "<end_of_turn>", True, "<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
     "Yes.<end_of_turn>"),
    # The end of turn is no end token of this model: the tokenizer's follows it.
    (tiny.CHATML, None, False, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "Yes.<|im_end|></s>"),
]  # fmt: skip


@pytest.mark.parametrize("make", [tiny.byte_bpe, tiny.metaspace])
@pytest.mark.parametrize(("template", "eos", "bos", "prompt", "response"), TEMPLATES)
def test_chat_templates(make: Callable, template: str, eos: str | None, bos: bool, prompt: str, response: str) -> None:
    tokenizer = make(template, bos=bos)
    made = encoder(tokenizer, eos)
    encoded = kept(made, ({"role": "user", "content": "Hi"},), chat("Yes."), chat("No."))
    assert encoded.prompt == prompt
    chosen = encoded.response_ids[0]
    whole = tokenizer(prompt + response, add_special_tokens=False)["input_ids"]
    assert [*encoded.prompt_ids, *chosen] == whole
    assert list(encoded.prompt_ids) == tokenizer(prompt, add_special_tokens=False)["input_ids"]
    ends = [token in made.eos_ids for token in chosen]
    assert ends == [False] * (len(ends) - 1) + [True]
    assert encoded.prompt_ids.count(tokenizer.bos_token_id) == prompt.count("<s>")
    assert encoded.responses[0] == response.removesuffix("</s>").removesuffix(eos or "</s>")
    assert encoded.notes == ()


def test_a_thought_goes_with_the_answer() -> None:
    answer = chat("<think>\nParis?\n</think>\n\nParis.")
    encoded = kept(encoder(tiny.byte_bpe(tiny.QWEN3), "<|im_end|>"), (USER,), answer)
    assert encoded.responses == ("<think>\nParis?\n</think>\n\nParis.",)
    # If the generation prompt opens the thought, the response continues inside it.
    opened = tiny.QWEN3.replace("assistant\n' }}{% endif %}", "assistant\n<think>\n\n' }}{% endif %}")
    encoded = kept(encoder(tiny.byte_bpe(opened), "<|im_end|>"), (USER,), answer)
    assert encoded.responses == ("Paris?\n</think>\n\nParis.",)


def test_white_space_that_the_template_strips_moves_no_border() -> None:
    template = tiny.ZEPHYR.replace("m['content']", "m['content'] | trim").replace(
        "<|assistant|>' }}\n", "<|assistant|>\n ' }}"
    )
    encoded = kept(encoder(tiny.byte_bpe(template)), (USER,), chat("  Paris. "))
    assert encoded.prompt.endswith("<|assistant|>\n ")
    assert encoded.responses == ("Paris.",)


def test_system_messages() -> None:
    made = encoder(tiny.byte_bpe(tiny.CHATML), system="Be brief.")
    assert kept(made, (USER,)).prompt.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
    own = {"role": "system", "content": "Be long."}
    assert kept(made, (own, USER)).prompt.count("<|im_start|>system") == 1
    with pytest.raises(
        DataError, match=r"f row 1: the chat template .* cannot render the row: System role not supported$"
    ):
        one(encoder(tiny.byte_bpe(tiny.GEMMA), system="Be brief."), (USER,), chat("Paris."))
    with pytest.raises(ConfigError, match=r"data.system needs conversations, but f row 1 is not one"):
        one(encoder(BPE, system="Be brief."), "Hi", "Yes")


def test_a_word_outside_a_vocabulary_without_an_unknown_token_is_named_so() -> None:
    words = Tokenizer(models.WordLevel({"e1": 0, "e2": 1, "</s>": 2}))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = encoder(PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>"))
    assert kept(made, "e1 e2").prompt_ids == (0, 1)
    with pytest.raises(DataError, match=r"f row 1: the tokenizer .* fails: it contains a word outside the vocabulary"):
        one(made, "hello world")


def test_a_conversation_needs_a_template_and_a_response_an_end() -> None:
    with pytest.raises(ModelError, match=r"no chat template; set policy.chat_template"):
        one(encoder(BPE), (USER,), chat("Paris."))
    tokenizer = tiny.byte_bpe()
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        make_encoder(tokenizer, DataConfig(), frozenset())


@pytest.mark.parametrize("make", [tiny.byte_bpe, tiny.metaspace, tiny.word_level])
@pytest.mark.parametrize("bos", [True, False])
def test_plain_text_has_one_bos_and_one_eos(make: Callable, bos: bool) -> None:
    tokenizer = make(bos=bos)
    for prompt in ("The sky is", "<s>The sky is"):
        encoded = kept(encoder(tokenizer), prompt, " blue</s>")
        assert encoded.prompt_ids.count(tokenizer.bos_token_id) == int(bos or "<s>" in prompt)
        assert encoded.response_ids[0].count(tokenizer.eos_token_id) == 1
        assert encoded.response_ids[0][-1] == tokenizer.eos_token_id
        assert encoded.responses == (" blue",)
        assert encoded.notes == ()


def test_a_tokenizer_that_starts_texts_in_its_own_way_goes_on_where_the_prompt_ends() -> None:
    tokenizer = tiny.metaspace(bos=False)
    made = encoder(tokenizer)
    assert not made.additive
    encoded = kept(made, "The sky is", " blue", "blue")
    joined = tokenizer("The sky is blue", add_special_tokens=False)["input_ids"]
    assert [*encoded.prompt_ids, *encoded.response_ids[0][:-1]] == joined
    # "isblue" would be another text than "is blue": nothing puts a space at the border.
    assert tokenizer.decode([*encoded.prompt_ids, *encoded.response_ids[1][:-1]]) == "The sky isblue"


texts = st.text(alphabet=st.sampled_from("abe hiT.\n,ö😀"), min_size=1, max_size=30)


@given(texts.filter(str.strip), texts.filter(str.strip))
def test_prompt_and_response_decode_back_whatever_the_border(prompt: str, response: str) -> None:
    made = encoder(BPE)
    encoded = kept(made, prompt, response)
    assert BPE.decode(encoded.prompt_ids) == prompt
    assert BPE.decode(encoded.response_ids[0]) == f"{response}</s>"
    assert encoded.response_ids[0].count(EOS) == 1


METASPACE = encoder(tiny.metaspace(bos=False))


@given(st.text(alphabet="abe hiT.\n", min_size=1).filter(str.strip), st.text(alphabet="abe hiT.\n").filter(str.strip))
def test_no_metaspace_token_spans_the_border(prompt: str, response: str) -> None:
    encoded = kept(METASPACE, prompt, response)
    whole = METASPACE.tokenizer.decode([*encoded.prompt_ids, *encoded.response_ids[0][:-1]])
    assert whole == METASPACE.tokenizer.decode(METASPACE.tokenizer(prompt + response)["input_ids"])
    assert list(encoded.prompt_ids) == METASPACE.tokenizer(prompt)["input_ids"]


@given(
    prompt=texts.filter(str.strip),
    responses=st.tuples(texts.filter(str.strip), texts.filter(str.strip)),
    size=st.integers(2, 24),
    overlong=st.sampled_from(["cut", "drop"]),
)
def test_truncation_keeps_the_window_and_never_empties_a_response(
    prompt: str, responses: tuple[str, str], size: int, overlong: str
) -> None:
    made = encoder(BPE, max_length=size, overlong=overlong)
    free = encoder(BPE)
    whole = one(free, prompt, *responses)
    encoded = one(made, prompt, *responses)
    if isinstance(encoded, str):
        assert encoded == "identical responses" or (overlong == "drop" and encoded.endswith("too long"))
        return
    assert isinstance(whole, Encoded)
    prompt_ids = encoded.prompt_ids
    assert 1 <= len(prompt_ids) <= made.data.prompt_limit
    assert whole.prompt_ids[-len(prompt_ids) :] == prompt_ids
    assert ("prompt cut" in encoded.notes) == (prompt_ids != whole.prompt_ids)
    for ids, all_ids in zip(encoded.response_ids, whole.response_ids, strict=True):
        assert 1 <= len(ids) <= size - len(prompt_ids)
        assert all_ids[: len(ids)] == ids
        assert (ids[-1] == EOS) == (ids == all_ids)
    assert ("response cut" in encoded.notes) == (encoded.response_ids != whole.response_ids)
    if overlong == "drop":
        assert encoded == whole


def test_a_cut_prompt_keeps_its_bos_and_its_end() -> None:
    tokenizer = tiny.byte_bpe(bos=True)
    encoded = kept(encoder(tokenizer, max_length=16, max_prompt_length=5), "The sky is blue and the grass is", " green")
    full = tokenizer("The sky is blue and the grass is")["input_ids"]
    assert encoded.prompt_ids == (tokenizer.bos_token_id, *full[-4:])
    assert encoded.prompt == tokenizer.decode(encoded.prompt_ids)
    # The template writes a BOS that the tokenizer would not add by itself.
    made = encoder(tiny.byte_bpe(tiny.GEMMA, bos=False), "<end_of_turn>", max_length=16, max_prompt_length=5)
    assert kept(made, (USER,), chat("Paris.")).prompt_ids[0] == tokenizer.bos_token_id


@pytest.mark.parametrize(
    ("responses", "result"),
    [
        (("yes", "yes"), "identical responses"),
        (("yes", "yes</s>"), "identical responses"),
        (("", "yes"), "empty response"),
        (("yes", " \n"), "empty response"),
        (("</s>", "yes"), "empty response"),
        (("blue", "blue green"), ("one response starts the other",)),
        (("yes</s>more", "no"), ("cut at an end token inside a response",)),
        (("yes", "no"), ()),
    ],
)
def test_odd_responses_are_named(responses: tuple[str, str], result: Any) -> None:
    encoded = one(encoder(BPE), "The sky is", *responses)
    assert (encoded if isinstance(encoded, str) else encoded.notes) == result


def test_responses_that_cutting_makes_identical_are_dropped() -> None:
    made = encoder(BPE, max_length=4, max_prompt_length=2)
    assert one(made, "T", "aaaaaaaab", "aaaaaaaac") == "identical responses"


def test_a_chat_answer_that_is_empty_or_ends_itself() -> None:
    made = encoder(tiny.byte_bpe(tiny.QWEN3), "<|im_end|>")
    assert one(made, (USER,), chat(" "), chat("Paris.")) == "empty response"
    encoded = kept(made, (USER,), chat("Paris<|im_end|>."))
    assert encoded.responses == ("<think>\n\n</think>\n\nParis",)
    assert encoded.notes == ("cut at an end token inside a response",)


def test_token_ids_are_taken_as_they_are() -> None:
    made = encoder(BPE)
    blue = tuple(BPE(" blue")["input_ids"])
    encoded = kept(made, (EOS, 50, 60), (*blue, EOS), blue)
    assert encoded.prompt_ids == (EOS, 50, 60)
    assert encoded.response_ids == ((*blue, EOS), blue)
    assert encoded.responses == (" blue", " blue")
    assert encoded.notes == ("one response starts the other",)
    assert one(made, (50,), (), (60,)) == "empty response"
    with pytest.raises(DataError, match=f"f row 1: token id 9999 is not in the tokenizer's vocabulary of {len(BPE)}"):
        one(made, (50,), (9999,), (60,))


def test_examples_do_not_depend_on_their_batch_mates() -> None:
    made = encoder(tiny.byte_bpe(tiny.CHATML), "<|im_end|>")
    examples = [
        Unencoded("The sky is", (" blue", " green"), "f row 1"),
        Unencoded((USER,), (chat("Paris."), chat("London.")), "f row 2"),
        Unencoded((50, 51), ((52,), (53, 54)), "f row 3"),
        Unencoded("a longer prompt than that", (), "f row 4"),
    ]
    assert made.encode(examples) == [made.encode([example])[0] for example in examples]
    assert made.encode([]) == []


@pytest.mark.parametrize(
    ("tokenizer", "eos", "row"),
    [
        (tiny.byte_bpe(bos=True), None, {"prompt": "The sky is", "chosen": " blue and", "rejected": " green."}),
        (tiny.metaspace(), None, {"prompt": "The sky is", "chosen": " blue and", "rejected": " green."}),
        (tiny.byte_bpe(tiny.LLAMA3, eos="<|eot_id|>", bos=True), None,
         {"prompt": [USER], "chosen": [*chat("Paris.")], "rejected": [*chat("London.")]}),
        (tiny.byte_bpe(tiny.MISTRAL), None,
         {"prompt": [USER], "chosen": [*chat("Paris.")], "rejected": [*chat("London.")]}),
    ],
)  # fmt: skip
def test_tokens_equal_those_of_trl(tokenizer: PreTrainedTokenizerFast, eos: str | None, row: dict) -> None:
    logging.getLogger("trl").setLevel(logging.ERROR)
    arguments = SimpleNamespace(dataset_num_proc=None, max_length=None, truncation_mode="keep_start")
    trainer = SimpleNamespace(_tokenizer=tokenizer, _is_vision_dataset=False)
    prepare = cast(Any, DPOTrainer._prepare_dataset)
    theirs = prepare(trainer, datasets.Dataset.from_list([row]), tokenizer, arguments, "train")[0]
    content = [
        tuple(row[name]) if isinstance(row[name], list) else row[name] for name in ("prompt", "chosen", "rejected")
    ]
    encoded = kept(encoder(tokenizer, eos), *content)
    assert list(encoded.prompt_ids) == theirs["prompt_ids"]
    assert [list(ids) for ids in encoded.response_ids] == [theirs["chosen_ids"], theirs["rejected_ids"]]


@pytest.mark.parametrize("bos", [False, True])
def test_a_tokenizer_that_makes_nothing_of_a_text_is_named(bos: bool) -> None:
    """A BPE without bytes and without a token for unknown characters leaves out what it does not know."""
    bare = Tokenizer(models.BPE({"</s>": 0, "<s>": 1, "a": 2}, []))
    if bos:
        bare.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    made = encoder(PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="</s>", bos_token="<s>"))
    assert kept(made, "aa", "a", "aaa").response_ids == ((2, 0), (2, 2, 2, 0))
    assert one(made, "Do it.", "a", "aa") == "prompt of which the tokenizer (policy.tokenizer) makes no token"
    assert one(made, "a", "a", "No.") == "response of which the tokenizer (policy.tokenizer) makes no token"
    assert one(made, "a", "a", " ") == "empty response"
    assert one(made, "a", "a", "</s>") == "empty response"
