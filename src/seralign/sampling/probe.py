"""A proof that a server serves the weights of a policy: its likely tokens compared with those of the model in memory.

Legend: P tokens of a prompt, T of a response, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seralign.policy.sampling import SamplingParams, sample
from seralign.records import Prompt
from seralign.sampling.base import SampledPolicy
from seralign.sampling.wire import Choice

# Prompts that are compared, and tokens of their greedy answers.
PROMPTS, TOKENS = 4, 24


@dataclass(frozen=True)
class Own:
    """A policy's greedy answer to a prompt, and one that is drawn at temperature 1.

    Policies that differ little still agree on what is most likely. They differ in the tokens that are drawn, so the
    log-probabilities of these are compared.

    Args:
        prompt: The prompt.
        ids: Token ids [T] of the greedy answer.
        logps_TV: Log-probabilities of all tokens at each of its places, float32.
        drawn: Token ids [D] of the answer that is drawn.
        drawn_logps: Their log-probabilities [D].
    """

    prompt: Prompt
    ids: tuple[int, ...]
    logps_TV: Tensor
    drawn: tuple[int, ...]
    drawn_logps: tuple[float, ...]

    def mean_difference(self, logps: Sequence[float]) -> float:
        """Mean absolute difference of the log-probabilities of the drawn tokens to others [D], in nats."""
        return float((torch.tensor(self.drawn_logps) - torch.tensor(logps)).abs().mean())


def own_answers(policy: SampledPolicy, prompts: Sequence[Prompt], tokens: int = TOKENS) -> list[Own]:
    """Load a policy, answer prompts greedily and at temperature 1, and release it.

    Args:
        policy: The policy.
        prompts: Prompts with token ids.
        tokens: Maximum number of tokens of an answer.
    """
    model = policy.load().eval()

    def answer(prompt: Prompt, temperature: float) -> tuple[tuple[int, ...], Tensor]:
        params = SamplingParams(1, temperature, 1.0, tokens)
        (found,) = sample(model, policy.tokenizer, [prompt], params, policy.end_tokens, seed=0)
        return found.ids, _rows(model, prompt, found.ids)

    made = []
    for prompt in prompts:
        (ids, logps_TV), (drawn, drawn_TV) = answer(prompt, 0.0), answer(prompt, 1.0)
        made.append(Own(prompt, ids, logps_TV, drawn, _picked(drawn_TV, drawn)))
    return made


def drawn_logps(policy: SampledPolicy, own: Sequence[Own]) -> list[tuple[float, ...]]:
    """Log-probabilities of drawn answers [D] under another policy, which is loaded and released."""
    model = policy.load().eval()
    return [_picked(_rows(model, one.prompt, one.drawn), one.drawn) for one in own]


def _rows(model: Any, prompt: Prompt, ids: Sequence[int]) -> Tensor:
    """Log-probabilities [T, V] of all tokens at the places of a response, float32."""
    whole = torch.tensor([[*prompt.ids, *ids]], device=next(model.parameters()).device)
    with torch.no_grad():
        logits_TV = model(input_ids=whole, use_cache=False).logits[0, len(prompt.ids) - 1 : -1]
    return logits_TV.float().log_softmax(dim=-1).cpu()


def _picked(rows_TV: Tensor, ids: Sequence[int]) -> tuple[float, ...]:
    return tuple(rows_TV.gather(1, torch.tensor(ids)[:, None])[:, 0].tolist())


def departure(policy: SampledPolicy, own: Own, choice: Choice, tolerance: float) -> str | None:
    """How a server's greedy answer departs from the policy's; None if it does not.

    Where the policy itself has tokens of nearly the same probability, rounding decides. So up to the first difference
    the answers must agree, and there the server's token must be nearly as likely as the best one.

    Args:
        policy: The policy.
        own: Its answer.
        choice: The server's answer, of at most as many tokens.
        tolerance: Nats that a token may be less likely than the best one.
    """
    if choice.ids is not None:
        return _departure_of_ids(own, choice.ids, tolerance)
    theirs, mine = choice.text, _text(policy, own.ids)
    if theirs == mine:
        return None
    place = next((at for at in range(len(own.ids)) if not _begins(theirs, _text(policy, own.ids[: at + 1]))), None)
    if place is None:  # the server went on where the policy ended, or ended later
        place = len(own.ids) - 1
    row_V = own.logps_TV[place]
    near = (row_V >= row_V.max() - tolerance).nonzero()[:, 0].tolist()
    for token in near:
        ends = token in policy.end_tokens
        text = _text(policy, (*own.ids[:place], token))
        if token != own.ids[place] and (theirs == text if ends else _begins(theirs, text)):
            return None
    return f"it continues {own.prompt.text[-40:]!r} with {theirs[:60]!r} in place of {mine[:60]!r}"


def _departure_of_ids(own: Own, ids: tuple[int, ...], tolerance: float) -> str | None:
    for row_V, mine, theirs in zip(own.logps_TV, own.ids, ids, strict=False):
        if mine != theirs:
            gap = float(row_V.max() - row_V[theirs]) if theirs < len(row_V) else float("inf")
            if gap <= tolerance:
                return None
            return f"its most likely token is {theirs}, which the policy finds {gap:.3g} nats less likely than {mine}"
    return None


def _text(policy: SampledPolicy, ids: Sequence[int]) -> str:
    return str(policy.tokenizer.decode(list(ids), skip_special_tokens=True))


def _begins(text: str, start: str) -> bool:
    """Whether a text begins with another one, whose last character may be incomplete."""
    return text.startswith(start.rstrip("\ufffd"))
