"""The labeller: Bradley-Terry by hand, the surface features, noise and soft labels."""

import math

import numpy as np
import pytest

from seralign.config import WorldConfig
from seralign.laboratory.labels import Labels, draw_labels, labelled_rows, lead, surface
from seralign.records import content_id


def test_surface_features_by_hand() -> None:
    """Ten words with the token at places 3 and 8 (from 0): 6 of 10 words come after the first one."""
    responses = ["a b c so d e f g so h", "so", "", "also  so\nsome", "x y"]
    assert surface("length", responses, None).tolist() == [10, 1, 0, 3, 2]
    assert surface("style", responses, "so").tolist() == [2, 1, 0, 1, 0]
    assert surface("position", responses, "so").tolist() == pytest.approx([0.6, 0.0, 0.0, 1 / 3, 0.0])


def test_lead_by_hand() -> None:
    """2 (3 - 1) + 0.5 (4 - 10) = 1."""
    config = WorldConfig(gold_strength=2.0, spurious_strength=0.5)
    assert lead(config, [np.array([3.0]), np.array([1.0])], [np.array([4.0]), np.array([10.0])]).tolist() == [1.0]


@pytest.mark.parametrize("log_odds", [-1.0, 0.0, 0.7, 3.0])
@pytest.mark.parametrize("noise", [0.0, 0.2, 1.0])
def test_drawn_labels_follow_bradley_terry_with_noise(log_odds: float, noise: float) -> None:
    """P(first wins) = (1 - noise) sigmoid(lead) + noise (1 - sigmoid(lead)); 40,000 draws, standard error 0.0025."""
    labels = draw_labels(np.random.default_rng(1), np.full(40_000, log_odds), WorldConfig(noise=noise))
    won = 1 / (1 + math.exp(-log_odds))
    assert labels.first_wins.mean() == pytest.approx((1 - noise) * won + noise * (1 - won), abs=0.01)
    assert labels.flipped.mean() == pytest.approx(noise, abs=0.01)
    assert labels.p is None
    assert (labels.first_wins == (labels.difference > 0)).all()
    honest = labels.first_wins[~labels.flipped]
    if honest.size:
        assert honest.mean() == pytest.approx(won, abs=0.015)


def test_soft_labels_by_hand() -> None:
    """With noise 0.1, p = 0.1 + 0.8 sigmoid(lead): 0.1 + 0.8 * 0.75 = 0.7 at lead ln 3, its complement at -ln 3."""
    leads = np.array([math.log(3), -math.log(3), 1e9, -1e9])
    labels = draw_labels(np.random.default_rng(0), leads, WorldConfig(noise=0.1, soft_labels=True))
    assert labels.p == pytest.approx([0.7, 0.7, 0.9, 0.9])
    assert labels.first_wins.tolist() == [True, False, True, False]
    assert not labels.flipped.any()


def test_rows_are_turned_by_the_label_and_named_by_their_content() -> None:
    labels = Labels(
        np.array([True, False, True]), np.array([False, True, False]), np.array([0.9, 0.6, 0.9]), np.zeros(3)
    )
    gold = [np.array([1.0, 2.0, 1.0]), np.array([0.5, 3.0, 0.5])]
    rows = labelled_rows(["p", "q", "p"], (["a", "b", "a"], ["c", "d", "c"]), gold, labels)
    first = {"pair_id": content_id(["p", "a", "c"]), "prompt": "p", "chosen": "a", "rejected": "c", "p": 0.9}
    assert rows[0] == first | {"gold_chosen": 1.0, "gold_rejected": 0.5, "flipped": False}
    assert rows[1] == {
        "pair_id": content_id(["q", "d", "b"]),
        "prompt": "q",
        "chosen": "d",
        "rejected": "b",
        "p": 0.6,
        "gold_chosen": 3.0,
        "gold_rejected": 2.0,
        "flipped": True,
    }
    assert rows[2] == rows[0] | {"pair_id": first["pair_id"] + "-2"}


def test_rows_of_token_ids_have_columns_of_token_ids() -> None:
    labels = Labels(np.array([False]), np.array([False]), None, np.zeros(1))
    rows = labelled_rows([[1, 2]], ([[3]], [[4, 5]]), [np.zeros(1), np.ones(1)], labels, "_ids")
    assert rows == [
        {
            "pair_id": content_id([[1, 2], [4, 5], [3]]),
            "prompt_ids": [1, 2],
            "chosen_ids": [4, 5],
            "rejected_ids": [3],
            "gold_chosen": 1.0,
            "gold_rejected": 0.0,
            "flipped": False,
        }
    ]
