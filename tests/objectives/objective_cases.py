"""Every objective of pairs with settings, values worked by hand, and its loss once more as the papers write it.

The second losses are of float64 tensors [N], are differentiated by autograd, and share nothing with the library. The
pair of the hand-worked values has log pi = -10 over 5 tokens (w) and -14 over 4 (l), and log pi_ref = -12 and -11.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from seralign.objectives import OBJECTIVES, Objective


@dataclass(frozen=True)
class Sides:
    """Of the responses that come first, or second: log pi, log pi_ref and lengths [N]."""

    policy: Tensor
    reference: Tensor
    length: Tensor

    @property
    def ratio(self) -> Tensor:
        return self.policy - self.reference

    @property
    def mean(self) -> Tensor:
        return self.policy / self.length


@dataclass(frozen=True)
class Case:
    """``hand``: losses at p = 1 and p = 0.8. ``hard``: the loss at p = 1, from the two sides. ``margin``: what a
    geometric label scales, and ``of_margin`` the loss of it. ``soft``: the loss where a soft label has a form of its
    own. ``state``: what the loss reads of the steps before. Without one of these, it is the expected loss."""

    name: str
    hand: tuple[float, float]
    hard: Callable[[Sides, Sides], Tensor] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    margin: Callable[[Sides, Sides], Tensor] | None = None
    of_margin: Callable[[Tensor], Tensor] | None = None
    soft: Callable[[Sides, Sides, Tensor], Tensor] | None = None
    state: tuple[float, ...] = ()

    @property
    def objective(self) -> Objective:
        return OBJECTIVES[self.name](**self.settings)

    @property
    def label(self) -> str:
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.settings.items())])

    def loss(self, chosen: Sides, rejected: Sides, p: Tensor) -> Tensor:
        """The loss [N] once more."""
        if self.soft is not None:
            return self.soft(chosen, rejected, p)
        if self.hard is not None:
            return p * self.hard(chosen, rejected) + (1 - p) * self.hard(rejected, chosen)
        assert self.margin is not None
        assert self.of_margin is not None
        margin, of = self.margin(chosen, rejected), self.of_margin
        if self.settings.get("soft_labels") == "conservative":
            return p * of(margin) + (1 - p) * of(-margin)
        return of((p - (1 - p)) * margin)


def log_s(z: Tensor) -> Tensor:
    """log sigmoid, as a sum of exponentials."""
    return -torch.logaddexp(torch.zeros_like(z), -z)


def s(z: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-z))


def ratios(c: Sides, r: Sides) -> Tensor:
    return c.ratio - r.ratio


def mean_ratios(c: Sides, r: Sides) -> Tensor:
    return c.ratio / c.length - r.ratio / r.length


def means(c: Sides, r: Sides) -> Tensor:
    return c.mean - r.mean


def sums(c: Sides, r: Sides) -> Tensor:
    return c.policy - r.policy


def _both(
    name: str, of_margin: Callable[[Tensor], Tensor], margin: Callable[[Sides, Sides], Tensor], hard: float,
    geometric: float, conservative: float, **settings: Any,
) -> list[Case]:  # fmt: skip
    """The two forms of a loss of the margin."""
    forms = {"geometric": geometric, "conservative": conservative}
    return [
        Case(name, (hard, soft), None, settings | {"soft_labels": form}, margin, of_margin)
        for form, soft in forms.items()
    ]


def _exo(c: Sides, r: Sides, p: Tensor) -> Tensor:
    """KL(softmax(beta rho) || target), as sums over the two responses."""
    policy = torch.softmax(0.1 * torch.stack([c.ratio, r.ratio]), dim=0)
    target = torch.stack([0.9 * p + 0.1 * (1 - p), 0.1 * p + 0.9 * (1 - p)])
    return (policy * (policy.log() - target.log())).sum(dim=0)


def _orpo(c: Sides, r: Sides) -> Tensor:
    odds_c, odds_r = (side.mean.exp() / (1 - side.mean.exp()) for side in (c, r))
    return -c.mean - 0.1 * torch.log(s(torch.log(odds_c / odds_r)))


def _cpo(form: str) -> Callable[[Sides, Sides, Tensor], Tensor]:
    def loss(c: Sides, r: Sides, p: Tensor) -> Tensor:
        z = 0.1 * sums(c, r)
        contrast = -log_s((2 * p - 1) * z) if form == "geometric" else -p * log_s(z) - (1 - p) * log_s(-z)
        return contrast - p * c.mean - (1 - p) * r.mean

    return loss


def _divergence(name: str) -> Callable[[Sides, Sides], Tensor]:
    derivative = {
        "reverse_kl": lambda u: torch.log(u) + 1,
        "forward_kl": lambda u: -1 / u,
        "js": lambda u: torch.log(2 * u / (1 + u)),
        "alpha": lambda u: (1 - u**-0.5) / 0.5,
    }[name]
    return lambda c, r: derivative(c.ratio.exp()) - derivative(r.ratio.exp())


def _wpo(form: str) -> Callable[[Sides, Sides, Tensor], Tensor]:
    def loss(c: Sides, r: Sides, p: Tensor) -> Tensor:
        z = 0.1 * ratios(c, r)
        weight = (c.mean.exp() * r.mean.exp()).detach()
        of_pair = -log_s((2 * p - 1) * z) if form == "geometric" else -p * log_s(z) - (1 - p) * log_s(-z)
        return weight * of_pair

    return loss


def _dpop(c: Sides, r: Sides) -> Tensor:
    return -log_s(0.1 * (ratios(c, r) - 2 * torch.clamp(c.reference - c.policy, min=0)))


def _irepo(c: Sides, r: Sides, p: Tensor) -> Tensor:
    p = p.clip(0.05, 0.95)
    return (torch.log(p / (1 - p)) - 0.1 * ratios(c, r)) ** 2


CASES: list[Case] = [
    Case("reward", (0.018150, 0.818150), lambda c, r: -log_s(sums(c, r))),
    Case(
        "reward", (5.778150, 6.578150), lambda c, r: -log_s(sums(c, r)) + 0.01 * (c.policy + r.policy) ** 2,
        {"center": 0.01},
    ),
    *_both("dpo", lambda h: -log_s(0.1 * h), ratios, 0.474077, 0.554355, 0.574077, beta=0.1),
    *_both("aihf", lambda h: -log_s(0.1 * h), ratios, 0.474077, 0.554355, 0.574077, beta=0.1),
    *_both("ipo", lambda h: (h - 5) ** 2, ratios, 0.0, 4.0, 20.0, beta=0.1),
    *_both("slic", lambda h: torch.clamp(1 - 0.1 * h, min=0), ratios, 0.5, 0.7, 0.7, beta=0.1),
    *_both("simpo", lambda h: -log_s(2 * h - 1), means, 0.126928, 0.371101, 0.905172, beta=2.0, target_margin=1.0),
    *_both("ipo_norm", lambda h: (h - 1) ** 2, mean_ratios, 0.0225, 0.0961, 0.9425, beta=0.5),
    *_both("dpo_norm", lambda h: -log_s(2 * h), mean_ratios, 0.095545, 0.224406, 0.555545, beta=2.0),
    *_both("slic_hf", lambda h: torch.clamp(6 - h, min=0), sums, 2.0, 3.6, 3.6, target_margin=6.0),
    *_both(
        "discopop", lambda z: (1 - s(0.2 * z)) * -log_s(0.1 * z) + s(0.2 * z) * torch.exp(-0.1 * z), ratios,
        0.570908, 0.674746, 0.687830, beta=0.1, tau=0.5,
    ),
    *_both(
        "alpha_po", lambda h: -log_s(2 * h - 1),
        lambda c, r: (1 - c.mean.exp() ** -0.25) / 0.25 - (1 - r.mean.exp() ** -0.25) / 0.25,
        0.006707, 0.071594, 1.405794, beta=2.0, target_margin=1.0, alpha=0.25,
    ),
    *_both(
        "alpha_po", lambda h: -log_s(2 * h - 1), means, 0.126928, 0.371101, 0.905172, beta=2.0, target_margin=1.0,
        alpha=0.0,
    ),
    *_both(
        "r_dpo", lambda z: -log_s(z), lambda c, r: 0.1 * ratios(c, r) + 0.2 * (c.length - r.length),
        0.403186, 0.505037, 0.543186, beta=0.1, alpha=0.2,
    ),
    *_both("f_dpo", lambda h: -log_s(0.1 * h), _divergence("reverse_kl"), 0.474077, 0.554355, 0.574077, beta=0.1,
           divergence="reverse_kl"),
    *_both("f_dpo", lambda h: -log_s(0.1 * h), _divergence("forward_kl"), 0.127523, 0.263975, 0.526527, beta=0.1,
           divergence="forward_kl"),
    *_both("f_dpo", lambda h: -log_s(0.1 * h), _divergence("js"), 0.557697, 0.609334, 0.616130, beta=0.1,
           divergence="js"),
    *_both("f_dpo", lambda h: -log_s(0.1 * h), _divergence("alpha"), 0.364099, 0.476476, 0.528651, beta=0.1,
           divergence="alpha", alpha=0.5),
    Case("cdpo", (0.524077, 0.604077), lambda c, r: -0.9 * log_s(0.1 * ratios(c, r)) - 0.1 * log_s(-0.1 * ratios(c, r)),
         {"beta": 0.1, "label_smoothing": 0.1}),
    Case("robust", (0.411577, 0.536577),
         lambda c, r: (-0.9 * log_s(0.1 * ratios(c, r)) + 0.1 * log_s(-0.1 * ratios(c, r))) / 0.8,
         {"beta": 0.1, "label_smoothing": 0.1}),
    Case("exo", (0.272055, 0.033153), soft=_exo, settings={"beta": 0.1, "label_smoothing": 0.1}),
    Case("nca", (1.274386, 1.325629),
         lambda c, r: -log_s(0.1 * c.ratio) - log_s(-0.1 * c.ratio) / 2 - log_s(-0.1 * r.ratio) / 2, {"beta": 0.1}),
    Case("sppo", (13.0, 1.0), settings={"beta": 0.1},
         soft=lambda c, r, p: (c.ratio - 10 * (p - 0.5)) ** 2 + (r.ratio - 10 * (1 - p - 0.5)) ** 2),
    Case(
        "bco",
        (1.157412, 1.257412),
        lambda c, r: -log_s(0.1 * c.ratio - 0.1) - log_s(-(0.1 * r.ratio - 0.1)),
        {"beta": 0.1},
        state=(6.0, 1.0),
    ),
    Case("apo_zero", (0.875723, 0.925434), lambda c, r: 1 - s(0.1 * c.ratio) + s(0.1 * r.ratio), {"beta": 0.1}),
    Case("apo_down", (0.927375, 0.951503), lambda c, r: s(0.1 * c.ratio) + 1 - s(0.1 * ratios(c, r)), {"beta": 0.1}),
    Case("orpo", (2.018144, 2.350439), _orpo, {"odds_weight": 0.1}),
    Case("cpo", (2.513015, 2.880330), soft=_cpo("geometric"), settings={"beta": 0.1, "nll_weight": 1.0}),
    Case("cpo", (2.513015, 2.893015), soft=_cpo("conservative"),
         settings={"beta": 0.1, "nll_weight": 1.0, "soft_labels": "conservative"}),
    Case("dpop", (0.474077, 0.656729), _dpop, {"beta": 0.1, "penalty": 2.0}),
    Case("wpo", (0.001937, 0.002266), soft=_wpo("geometric"), settings={"beta": 0.1, "alignment": "none"}),
    Case("wpo", (0.001937, 0.002346), soft=_wpo("conservative"),
         settings={"beta": 0.1, "alignment": "none", "soft_labels": "conservative"}),
    Case("unlikelihood", (3.0, 4.2), lambda c, r: -c.policy + 0.5 * r.policy, {"rejected_weight": 0.5}),
    Case("irepo", (5.975282, 0.785518), soft=_irepo, settings={"beta": 0.1, "clip": 0.05}),
]  # fmt: skip
