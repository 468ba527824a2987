"""Value and gradient equal TRL's, run on the log-probabilities that TRL's own trainers see.

A DPOTrainer on a tiny random Llama computes its loss from real batches of its own collator; the log-probabilities
of each token and its gradient are taken from that pass and compared with ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from datasets import Dataset
from objective_pairs import margin, objective, pairs
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from seralign.config import load_config
from seralign.importing import import_config
from seralign.objectives import IPO, OBJECTIVES, SFT, ResponseValues
from seralign.objectives.base import StepValues, TokenValues

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
    reference_tokens: Tensor
    collisions: Tensor | None


@pytest.fixture(scope="module")
def trl_dpo(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Seen]:
    folder = tmp_path_factory.mktemp("trl")

    def run(loss_type: str, beta: float, rows: Rows, **settings: Any) -> Seen:
        unused = Dataset.from_list([{"prompt": "a", "chosen": " b", "rejected": " c"}])
        args = DPOConfig(
            output_dir=str(folder), loss_type=[loss_type], beta=beta, use_cpu=True, report_to=[], bf16=False,
            max_length=64, disable_tqdm=True, **settings,
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
                if self.name == "policy" and getattr(output, "log_sum_sq_probs", None) is not None:
                    seen["collisions"] = output.log_sum_sq_probs
                output.log_probs = seen[self.name] = output.log_probs.detach().requires_grad_()
                return output

        policy, trainer.ref_model = Recorder(trainer.model, "policy"), Recorder(trainer.ref_model, "reference")
        loss = trainer.compute_loss(policy, inputs)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(loss, seen["policy"])

        token_logps = seen["policy"].detach().clone().requires_grad_()
        lengths = inputs["completion_mask"].sum(dim=1)
        responses = ResponseValues(
            token_logps.sum(dim=1), seen["reference"].detach().sum(dim=1), lengths,
            torch.arange(len(rows)).repeat(2), torch.tensor([1.0, 0.0]).repeat_interleave(len(rows)), len(rows),
        )  # fmt: skip
        response = inputs["completion_mask"][:, 1:].bool()
        return Seen(
            loss.detach(),
            gradient,
            response,
            responses,
            token_logps,
            seen["reference"].detach(),
            seen.get("collisions"),
        )

    return run


def assert_equal(ours: Tensor, seen: Seen) -> None:
    torch.testing.assert_close(ours.detach(), seen.loss, rtol=1e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(ours, seen.token_logps)
    # Elsewhere, on prompt and padding, the recorded log-probabilities are constants.
    expected = seen.gradient[seen.response]
    torch.testing.assert_close(gradient[seen.response], expected, rtol=1e-5, atol=1e-7)
    assert expected.abs().max() > 1e-3


@pytest.mark.parametrize(("name", "loss_type", "beta"), [("dpo", "sigmoid", 0.3), ("slic", "hinge", 0.05)])
def test_equals_trl(trl_dpo: Callable[..., Seen], name: str, loss_type: str, beta: float) -> None:
    seen = trl_dpo(loss_type, beta, PAIRS)
    assert seen.responses.first(seen.responses.lengths).tolist() == [7, 2, 3, 8]  # the end-of-sequence token counted
    assert_equal(objective(name, beta).loss(seen.responses).mean(), seen)


@pytest.mark.parametrize(
    ("name", "loss_type", "ours", "theirs"),
    [
        ("ipo_norm", "ipo", {}, {}),
        ("dpo_norm", "sigmoid_norm", {}, {}),
        ("exo", "exo_pair", {"label_smoothing": 0.1}, {"label_smoothing": 0.1}),
        ("robust", "robust", {"label_smoothing": 0.2}, {"label_smoothing": 0.2}),
        ("nca", "nca_pair", {}, {}),
        ("sppo", "sppo_hard", {}, {}),
        ("bco", "bco_pair", {}, {}),  # without a shift, as before the first step
        ("apo_zero", "apo_zero", {}, {}),
        ("apo_down", "apo_down", {}, {}),
        ("discopop", "discopop", {"tau": 0.3}, {"discopop_tau": 0.3}),
        ("f_dpo", "sigmoid", {"divergence": "reverse_kl"}, {}),
        ("f_dpo", "sigmoid", {"divergence": "forward_kl"}, {"f_divergence_type": "forward_kl"}),
        ("f_dpo", "sigmoid", {"divergence": "js"}, {"f_divergence_type": "js_divergence"}),
        ("f_dpo", "sigmoid", {"divergence": "alpha", "alpha": 0.3},
         {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7}),
    ],
)  # fmt: skip
def test_losses_of_the_log_ratios_equal_trl(
    trl_dpo: Callable[..., Seen], name: str, loss_type: str, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    seen = trl_dpo(loss_type, 0.07, PAIRS, **theirs)
    responses = replace(seen.responses, state=(0.0, 0.0) if name == "bco" else ())
    assert_equal(OBJECTIVES[name](beta=0.07, **ours).loss(responses).mean(), seen)


@pytest.mark.parametrize("name", ["aot", "aot_unpaired"])
def test_losses_of_a_whole_step_equal_trl(trl_dpo: Callable[..., Seen], name: str) -> None:
    """Where the step is one batch, value and gradient are those of TRL."""
    seen = trl_dpo(name, 0.07, PAIRS)
    step = replace(seen.responses, policy=seen.responses.policy.detach())
    responses = replace(seen.responses, step=StepValues(step, torch.arange(len(PAIRS))))
    assert_equal(OBJECTIVES[name](beta=0.07).loss(responses).mean(), seen)


def test_wpo_equals_trl(trl_dpo: Callable[..., Seen]) -> None:
    """With sampled alignment, which is TRL's; the weights without are others."""
    seen = trl_dpo("sigmoid", 0.07, PAIRS, use_weighting=True)
    assert seen.collisions is not None
    tokens = TokenValues(seen.token_logps[seen.response], None, seen.collisions[seen.response].detach())
    responses = replace(seen.responses, tokens=tokens)
    ours = OBJECTIVES["wpo"](beta=0.07).loss(responses).mean()
    torch.testing.assert_close(ours.detach(), seen.loss, rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(ours, seen.token_logps)
    torch.testing.assert_close(gradient[seen.response], seen.gradient[seen.response], rtol=1e-4, atol=0)
    without = OBJECTIVES["wpo"](beta=0.07, alignment="none").loss(responses).mean()
    assert float(without) != pytest.approx(float(seen.loss), rel=0.1)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_ld_dpo_equals_trl(trl_dpo: Callable[..., Seen], alpha: float) -> None:
    seen = trl_dpo("sigmoid", 0.07, PAIRS, ld_alpha=alpha)
    tokens = TokenValues(seen.token_logps[seen.response], seen.reference_tokens[seen.response])
    responses = replace(seen.responses, tokens=tokens)
    assert_equal(OBJECTIVES["ld_dpo"](beta=0.07, alpha=alpha).loss(responses).mean(), seen)


@pytest.mark.parametrize(
    "settings",
    [
        {"loss_type": "sigmoid"},
        {"loss_type": "hinge"},
        {"loss_type": "ipo"},
        {"loss_type": "exo_pair", "label_smoothing": 0.1},
        {"loss_type": "robust", "label_smoothing": 0.2},
        {"loss_type": "robust"},
        {"loss_type": "discopop", "discopop_tau": 0.3},
        {"loss_type": "sigmoid", "label_smoothing": 0.2},  # which TRL does not read
        {"loss_type": "sigmoid", "f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7},
        {"loss_type": "sigmoid", "ld_alpha": 0.4},
    ],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
def test_an_imported_configuration_has_the_loss_of_trl(
    trl_dpo: Callable[..., Seen], tmp_path: Path, settings: dict[str, Any]
) -> None:
    file = tmp_path / "dpo.yaml"
    required = {"model_name_or_path": "m", "dataset_name": "d", "beta": 0.07}
    file.write_text(yaml.safe_dump(required | settings))
    imported = import_config(file, "trl")
    [term] = load_config(None, {one.key: one.value for one in imported.settings}).objective.terms
    others = {key: value for key, value in settings.items() if key != "loss_type"}
    seen = trl_dpo(settings["loss_type"], 0.07, PAIRS, **others)
    tokens = TokenValues(seen.token_logps[seen.response], seen.reference_tokens[seen.response])
    assert term.weight == 1.0
    assert_equal(term.objective.loss(replace(seen.responses, tokens=tokens)).mean(), seen)


def test_ipo_is_summed_where_trl_averages(trl_dpo: Callable[..., Seen]) -> None:
    """TRL divides each log-ratio by the response's length: the paper's loss and ours, of other log-probabilities."""
    seen = trl_dpo("ipo", 0.2, PAIRS)
    summed = seen.responses
    assert summed.reference is not None
    averaged = replace(summed, policy=summed.policy / summed.lengths, reference=summed.reference / summed.lengths)
    assert_equal(IPO(0.2).loss(averaged).mean(), seen)

    ours = IPO(0.2).loss(summed)
    torch.testing.assert_close(ours, (margin(IPO(0.2), summed) - 2.5) ** 2)
    assert abs(float(ours.mean()) - float(seen.loss)) > 1.0


def test_ipo_equals_trl_on_responses_of_one_token(trl_dpo: Callable[..., Seen]) -> None:
    seen = trl_dpo("ipo", 0.2, ONE_TOKEN_PAIRS)
    assert seen.responses.first(seen.responses.lengths).tolist() == [1, 1, 1]
    assert_equal(IPO(0.2).loss(seen.responses).mean(), seen)


def test_sft_equals_trl_as_a_mean_over_tokens(trl_dpo: Callable[..., Seen]) -> None:
    seen = trl_dpo("sft", 0.1, PAIRS)
    assert SFT.unit == "token"
    loss = SFT().loss(seen.responses)
    assert_equal(loss.sum() / seen.responses.first(seen.responses.lengths).sum(), seen)
    assert abs(float(loss.mean()) - float(seen.loss)) > 1.0  # the mean over pairs is another number


@dataclass
class Logits:
    """Logits of 4 pairs with masked prompts and padding, and what TRL's own gather makes of them."""

    logits: Tensor
    responses: ResponseValues
    sums: Tensor
    means: Tensor
    nll: Tensor


@pytest.fixture
def logits(monkeypatch: pytest.MonkeyPatch) -> Logits:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.cpo.cpo_trainer import CPOTrainer

    torch.manual_seed(0)
    logits = 3 * torch.randn(8, 9, 11, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(11, (8, 9))
    lengths = torch.tensor([6, 1, 4, 7, 2, 5, 3, 1])
    for row, length in enumerate(lengths.tolist()):
        labels[row, :1] = labels[row, 1 + length :] = -100
    gather: Any = CPOTrainer.get_batch_logps
    sums, means = (gather(logits, labels.clone(), average_log_prob=average) for average in (False, True))
    chosen, rejected = sums.chunk(2)
    responses = pairs(chosen, rejected, None, None, *lengths.chunk(2), torch.ones(4, dtype=torch.float64))
    # The supervised term of each chosen response: the mean of cross-entropy over its tokens.
    nll = torch.stack([
        torch.nn.functional.cross_entropy(logits[row, :-1][labels[row, 1:] >= 0], labels[row, 1:][labels[row, 1:] >= 0])
        for row in range(4)
    ])  # fmt: skip
    return Logits(logits, responses, sums, means, nll)


def assert_equal_losses(logits: Logits, ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
    (expected,) = torch.autograd.grad(theirs.mean(), logits.logits, retain_graph=True)
    (gradient,) = torch.autograd.grad(ours.mean(), logits.logits, retain_graph=True)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-9)
    assert expected.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("simpo", {"beta": 2.0, "target_margin": 1.4}, {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.4}),
        ("alpha_po", {"beta": 2.0, "target_margin": 1.4, "alpha": 0.3},
         {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.4, "alpha": 0.3}),
        ("cpo", {"beta": 0.2, "nll_weight": 0.7}, {"loss_type": "sigmoid", "beta": 0.2}),
        ("slic_hf", {"target_margin": 1.0}, {"loss_type": "hinge", "beta": 1.0}),
    ],
)  # fmt: skip
def test_losses_without_reference_equal_trl(
    logits: Logits, name: str, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    """CPOTrainer's own gather and loss, on random logits."""
    from trl.experimental.cpo.cpo_trainer import CPOTrainer

    cpu = SimpleNamespace(device="cpu")
    settings: Any = SimpleNamespace(
        **{"alpha": 0.0, "simpo_gamma": 0.0, "label_smoothing": 0.0, "accelerator": cpu} | theirs
    )
    values = logits.means if theirs["loss_type"] == "simpo" else logits.sums
    losses, *rewards = CPOTrainer.cpo_loss(settings, *values.chunk(2))  # type: ignore[arg-type]
    own = OBJECTIVES[name](**ours)
    assert_equal_losses(logits, own.loss(logits.responses), losses + ours.get("nll_weight", 0.0) * logits.nll)
    reward = own.beta * own.reward(logits.responses.policy, None, logits.responses.lengths)
    for side, of in zip(rewards, (logits.responses.first, logits.responses.second), strict=True):
        torch.testing.assert_close(of(reward).detach(), side, rtol=1e-12, atol=0)


def test_cdpo_equals_trls_smoothed_labels(logits: Logits) -> None:
    """TRL's DPO has lost the conservative form; its CPO has it still, here of log-ratios."""
    from trl.experimental.cpo.cpo_trainer import CPOTrainer

    settings: Any = SimpleNamespace(
        alpha=0.0, beta=0.3, label_smoothing=0.15, loss_type="sigmoid", accelerator=SimpleNamespace(device="cpu")
    )
    reference = torch.linspace(-30, -5, 8, dtype=torch.float64)
    losses, *_ = CPOTrainer.cpo_loss(settings, *(logits.sums - reference).chunk(2))  # type: ignore[arg-type]
    responses = replace(logits.responses, reference=reference)
    assert_equal_losses(logits, OBJECTIVES["cdpo"](beta=0.3, label_smoothing=0.15).loss(responses), losses)
    soft = replace(responses, preference=torch.tensor([0.85] * 4 + [0.15] * 4, dtype=torch.float64))
    assert_equal_losses(logits, OBJECTIVES["dpo"](beta=0.3, soft_labels="conservative").loss(soft), losses)


def test_orpo_equals_trl(logits: Logits) -> None:
    from trl.experimental.orpo.orpo_trainer import ORPOTrainer

    settings: Any = SimpleNamespace(beta=0.25, accelerator=SimpleNamespace(device="cpu"))
    losses, *_ = ORPOTrainer.odds_ratio_loss(settings, *logits.means.chunk(2))  # type: ignore[arg-type]
    own = OBJECTIVES["orpo"](odds_weight=0.25).loss(logits.responses)
    # TRL goes to float32 for the odds.
    torch.testing.assert_close(own, logits.nll - losses.double(), rtol=1e-5, atol=1e-6)
    (expected,) = torch.autograd.grad((logits.nll - losses).mean(), logits.logits, retain_graph=True)
    (gradient,) = torch.autograd.grad(own.mean(), logits.logits)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
