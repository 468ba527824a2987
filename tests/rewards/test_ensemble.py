"""The reward ensemble, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seralign.rewards.ensemble import ensemble_margin


def test_ensemble_margin() -> None:
    assert ensemble_margin(2.0, -1.0, 0.3) == pytest.approx(1.1)
    h1, h2 = np.array([2.0, 0.1, -3.0]), np.array([-1.0, 0.7, 5.0])
    np.testing.assert_allclose(ensemble_margin(h1, h2, 0.3), [1.1, 0.28, -0.6], rtol=1e-14)
    assert np.array_equal(ensemble_margin(h1, h2, 0.0), h1)
    assert np.array_equal(ensemble_margin(h1, h2, 1.0), h2)
    assert ensemble_margin(h1, None, 0.3) is h1
    assert torch.equal(
        ensemble_margin(torch.from_numpy(h1), torch.from_numpy(h2), 0.3),
        torch.from_numpy(ensemble_margin(h1, h2, 0.3)),
    )
