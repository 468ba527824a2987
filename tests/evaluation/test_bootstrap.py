"""The bootstrap over clusters against scipy, closed forms and properties."""

import numpy as np
import pytest
import scipy.stats

from seralign.evaluation import bootstrap
from seralign.evaluation.bootstrap import cluster_bootstrap, cluster_interval, weighted_mean
from seralign.intervals import Interval, mean_interval


def bounds(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def test_bca_is_scipys_for_many_clusters() -> None:
    """A skewed sample of 400: scipy's BCa, within the noise of 20,000 samples; the percentile interval is elsewhere."""
    values = np.random.default_rng(0).exponential(1, 400) ** 2
    sample = (values,)
    theirs = scipy.stats.bootstrap(sample, np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    plain = scipy.stats.bootstrap(sample, np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    ours = cluster_interval(values, samples=20_000)
    assert ours is not None
    assert ours.mean == pytest.approx(values.mean())
    assert bounds(ours) == pytest.approx((theirs.low, theirs.high), abs=0.035)
    assert abs(plain.high - theirs.high) > 0.05


def test_few_normal_values_get_the_interval_of_student() -> None:
    """Eight values: the plain bootstrap is 30% too narrow; ours is within 6% of the width of Student's t."""
    values = scipy.stats.norm.ppf((np.arange(8) + 0.5) / 8)
    low, high = bounds(cluster_interval(values, samples=20_000))
    student = bounds(mean_interval(values))
    assert high - low == pytest.approx(student[1] - student[0], rel=0.06)


def test_rows_of_a_cluster_count_as_one() -> None:
    """Each row given five times within its cluster changes nothing but the number of rows."""
    values = np.random.default_rng(1).random(30)
    names = [f"prompt {place}" for place in range(30)]
    once, often = cluster_interval(values, names), cluster_interval(np.repeat(values, 5), list(np.repeat(names, 5)))
    assert once is not None
    assert often is not None
    assert (once.n, often.n) == (30, 150)
    assert (often.mean, *bounds(often)) == pytest.approx((once.mean, *bounds(once)))


def test_standard_error_of_a_mean_of_clusters() -> None:
    """Of equal clusters: the standard error of the mean of their means, here without its n - 1."""
    values = np.random.default_rng(2).normal(0, 1, (50, 1)) + np.random.default_rng(3).normal(0, 0.5, (50, 4))
    found = cluster_bootstrap(np.repeat(np.arange(50), 4), lambda w: weighted_mean(values.ravel(), w), samples=20_000)
    assert (found.clusters, found.rows) == (50, 200)
    assert found.standard_error()[0] == pytest.approx(values.mean(1).std() / np.sqrt(50), rel=0.02)


def test_any_statistic_is_computed_on_weights() -> None:
    """The ratio of two means, which is not the mean of ratios; NaN for samples without a denominator."""
    top, bottom = np.array([1.0, 4.0, 0.0]), np.array([1.0, 2.0, 0.0])
    found = cluster_bootstrap(
        3, lambda w: np.divide(w @ top, w @ bottom, out=np.full(len(w), np.nan), where=w @ bottom > 0)
    )
    assert found.estimate[0] == pytest.approx(5 / 3)
    assert set(np.round(found.jackknife[:, 0], 6)) == {2.0, 1.0, 1.666667}
    assert 1 / 27 * 0.5 < np.isnan(found.samples).mean() < 1 / 27 * 2  # the third row three times: one in 27
    low, high = bounds(found.intervals()[0])
    assert 1 <= low < 5 / 3 < high <= 2


def test_several_figures_at_once() -> None:
    values = np.random.default_rng(4).random(40)
    both = cluster_bootstrap(40, lambda w: np.stack([weighted_mean(values, w), weighted_mean(-values, w)], 1))
    one, turned = both.intervals()
    assert bounds(one) == pytest.approx([-end for end in reversed(bounds(turned))], rel=1e-2)
    assert bounds(one) == pytest.approx(bounds(cluster_interval(values)))


def test_the_seed_decides_and_memory_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).random(60)
    first, again, other = (cluster_interval(values, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    monkeypatch.setattr(bootstrap, "_CELLS", 64)
    assert bounds(cluster_interval(values, samples=37)) != bounds(first)
    few = bounds(cluster_interval(values, seed=1))
    assert few == pytest.approx(bounds(first), abs=0.02)


def test_edges() -> None:
    assert cluster_interval([]) is None
    assert cluster_interval([0.25]) == Interval(0.25, None, None, 1)
    assert cluster_interval([0.25, 0.75], ["a", "a"]) == Interval(0.5, None, None, 2)
    assert cluster_interval([0.5] * 9) == Interval(0.5, 0.5, 0.5, 9)
    assert cluster_interval([1.0, 2.0], statistic=lambda values, w: np.full(len(w), np.nan)) is None
    with pytest.raises(ValueError, match="values must be finite, got inf at index 1"):
        cluster_interval([1.0, np.inf])
    with pytest.raises(ValueError, match="one name for each value, got 1 for 2"):
        cluster_interval([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="at least one row"):
        cluster_bootstrap([], lambda w: w.sum(1))
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        cluster_interval([1.0, 2.0, 4.0], level=95)
