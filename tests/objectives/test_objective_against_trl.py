"""Value and gradient equal TRL's, run on the log-probabilities that TRL's own trainers see.

A DPOTrainer on a tiny random Llama computes its loss from real batches of its own collator; the log-probabilities
of each token and its gradient are taken from that pass and compared with ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from objective_pairs import margin, objective, pairs
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from seralign.objectives import IPO, SFT, ResponseValues, SimPO

# What TRL and transformers deprecate of each other is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

WORDS = ["<pad>", "</s>", "<unk>", *"abcdefghijklm"]
Rows = list[tuple[list[int], list[int], list[int]]]
# Token ids of prompt, chosen, rejected; 1 is the end of sequence.
PAIRS: Rows = [
    ([3, 4], [5, 6, 7, 8, 9, 10, 1], [11, 12, 1]),
    ([5], [3, 1], [4, 5, 6, 7, 8, 1]),
    ([6, 7, 8], [14, 15, 1], [15, 14, 1]),
    ([10], [11, 12, 13, 14, 15, 3, 4, 1], [13, 1]),
]
ONE_TOKEN_PAIRS: Rows = [([3, 4], [5], [6]), ([7], [8], [9]), ([10, 11, 12], [13], [1])]


def tiny_llama(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    # A wide initialization: log-ratios of several nats, so that no loss sits at its value for margin 0.
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, initializer_range=0.6, pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def word_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="left"
    )


@dataclass
class Seen:
    """What TRL computed on one batch: its loss, d loss / d token log-probabilities, and ours from the same tokens."""

    loss: Tensor
    gradient: Tensor
    response: Tensor
    responses: ResponseValues
    token_logps: Tensor


@pytest.fixture(scope="module")
def trl_dpo(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, float, Rows], Seen]:
    folder = tmp_path_factory.mktemp("trl")

    def run(loss_type: str, beta: float, rows: Rows) -> Seen:
        unused = Dataset.from_list([{"prompt": "a", "chosen": " b", "rejected": " c"}])
        args = DPOConfig(
            output_dir=str(folder), loss_type=[loss_type], beta=beta, use_cpu=True, report_to=[], bf16=False,
            max_length=64, disable_tqdm=True,
        )  # fmt: skip
        trainer = DPOTrainer(
            model=tiny_llama(1), ref_model=tiny_llama(2), args=args, train_dataset=unused,
            processing_class=word_tokenizer(),
        )  # fmt: skip
        inputs = trainer.data_collator([{"prompt_ids": p, "chosen_ids": c, "rejected_ids": r} for p, c, r in rows])
        seen: dict[str, Tensor] = {}

        class Recorder:
            """The model, its log-probabilities made a leaf that TRL's loss is differentiated by."""

            def __init__(self, model: Any, name: str) -> None:
                self.model, self.name = model, name

            def __call__(self, **kwargs: Any) -> Any:
                output = self.model(**kwargs)
                output.log_probs = seen[self.name] = output.log_probs.detach().requires_grad_()
                return output

        policy, trainer.ref_model = Recorder(trainer.model, "policy"), Recorder(trainer.ref_model, "reference")
        loss = trainer.compute_loss(policy, inputs)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(loss, seen["policy"])

        token_logps = seen["policy"].detach().clone().requires_grad_()
        lengths = inputs["completion_mask"].sum(dim=1)
        responses = ResponseValues(
            token_logps.sum(dim=1), seen["reference"].detach().sum(dim=1), lengths,
            torch.arange(len(rows)).repeat(2), torch.ones(2 * len(rows)), len(rows),
        )  # fmt: skip
        response = inputs["completion_mask"][:, 1:].bool()
        return Seen(loss.detach(), gradient, response, responses, token_logps)

    return run


def assert_equal(ours: Tensor, seen: Seen) -> None:
    torch.testing.assert_close(ours.detach(), seen.loss, rtol=1e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(ours, seen.token_logps)
    # Elsewhere, on prompt and padding, the recorded log-probabilities are constants.
    expected = seen.gradient[seen.response]
    torch.testing.assert_close(gradient[seen.response], expected, rtol=1e-5, atol=1e-7)
    assert expected.abs().max() > 1e-3


@pytest.mark.parametrize(("name", "loss_type", "beta"), [("dpo", "sigmoid", 0.3), ("slic", "hinge", 0.05)])
def test_equals_trl(trl_dpo: Callable[[str, float, Rows], Seen], name: str, loss_type: str, beta: float) -> None:
    seen = trl_dpo(loss_type, beta, PAIRS)
    assert seen.responses.first(seen.responses.lengths).tolist() == [7, 2, 3, 8]  # the end-of-sequence token counted
    assert_equal(objective(name, beta).loss(seen.responses).mean(), seen)


def test_ipo_is_summed_where_trl_averages(trl_dpo: Callable[[str, float, Rows], Seen]) -> None:
    """TRL divides each log-ratio by the response's length: the paper's loss and ours, of other log-probabilities."""
    seen = trl_dpo("ipo", 0.2, PAIRS)
    summed = seen.responses
    assert summed.reference is not None
    averaged = replace(summed, policy=summed.policy / summed.lengths, reference=summed.reference / summed.lengths)
    assert_equal(IPO(0.2).loss(averaged).mean(), seen)

    ours = IPO(0.2).loss(summed)
    torch.testing.assert_close(ours, (margin(IPO(0.2), summed) - 2.5) ** 2)
    assert abs(float(ours.mean()) - float(seen.loss)) > 1.0


def test_ipo_equals_trl_on_responses_of_one_token(trl_dpo: Callable[[str, float, Rows], Seen]) -> None:
    seen = trl_dpo("ipo", 0.2, ONE_TOKEN_PAIRS)
    assert seen.responses.first(seen.responses.lengths).tolist() == [1, 1, 1]
    assert_equal(IPO(0.2).loss(seen.responses).mean(), seen)


def test_sft_equals_trl_as_a_mean_over_tokens(trl_dpo: Callable[[str, float, Rows], Seen]) -> None:
    seen = trl_dpo("sft", 0.1, PAIRS)
    assert SFT.unit == "token"
    loss = SFT().loss(seen.responses)
    assert_equal(loss.sum() / seen.responses.first(seen.responses.lengths).sum(), seen)
    assert abs(float(loss.mean()) - float(seen.loss)) > 1.0  # the mean over pairs is another number


def test_simpo_equals_trl(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPOTrainer's own gather and loss, on random logits with masked prompts and padding."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.cpo.cpo_trainer import CPOTrainer

    beta, gamma = 2.0, 1.4
    torch.manual_seed(0)
    logits = 3 * torch.randn(8, 9, 11, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(11, (8, 9))
    lengths = torch.tensor([6, 1, 4, 7, 2, 5, 3, 1])
    for row, length in enumerate(lengths.tolist()):
        labels[row, :1] = labels[row, 1 + length :] = -100

    settings = SimpleNamespace(
        alpha=0.0, beta=beta, simpo_gamma=gamma, label_smoothing=0.0, loss_type="simpo",
        accelerator=SimpleNamespace(device="cpu"),
    )  # fmt: skip
    means = CPOTrainer.get_batch_logps(logits, labels.clone(), average_log_prob=True)  # type: ignore[arg-type]
    losses, chosen_reward, rejected_reward = CPOTrainer.cpo_loss(settings, *means.chunk(2))  # type: ignore[arg-type]

    sums = CPOTrainer.get_batch_logps(logits, labels.clone(), average_log_prob=False)  # type: ignore[arg-type]
    chosen, rejected = sums.chunk(2)
    chosen_length, rejected_length = lengths.chunk(2)
    simpo = SimPO(beta, gamma)
    responses = pairs(chosen, rejected, None, None, chosen_length, rejected_length, torch.ones(4, dtype=torch.float64))
    ours = simpo.loss(responses)
    rewards = beta * simpo.reward(responses.policy, None, responses.lengths)
    torch.testing.assert_close(ours, losses, rtol=1e-12, atol=0)
    torch.testing.assert_close(responses.first(rewards).detach(), chosen_reward, rtol=1e-12, atol=0)
    torch.testing.assert_close(responses.second(rewards).detach(), rejected_reward, rtol=1e-12, atol=0)
    (expected,) = torch.autograd.grad(losses.mean(), logits, retain_graph=True)
    (gradient,) = torch.autograd.grad(ours.mean(), logits)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-15)
    assert expected.abs().max() > 1e-3
