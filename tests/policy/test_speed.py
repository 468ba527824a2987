"""The probe of a processor's precisions: what it decides, what it keeps, and that it measures a layer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from seralign.policy import speed
from seralign.policy.identity import PolicySource
from seralign.policy.speed import Rates, Shape, model_shape, probe, processor_rates

Saved = Callable[[str], PolicySource]
SMALL = Shape(64, 176)


@pytest.mark.parametrize(
    ("rates", "fast"),
    [
        (Rates(80.0, 1.2), "float32"),
        (Rates(187.0, 419.0), "bfloat16"),
        (Rates(100.0, 100.0), "float32"),
        (Rates(100.0, 124.0), "float32"),  # not clearly faster, and less exact
        (Rates(100.0, 126.0), "bfloat16"),
    ],
)
def test_the_faster_one_is_bfloat16_where_it_clearly_is(rates: Rates, fast: str) -> None:
    assert rates.fast == fast


@pytest.mark.parametrize(("name", "shape"), [("llama", (32, 48)), ("gpt2", (32, 128)), ("qwen2", (32, 48))])
def test_the_shape_is_that_of_the_model(name: str, shape: tuple[int, int], saved: Saved) -> None:
    assert model_shape(saved(name), False) == Shape(*shape)


def fake(seconds: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """A clock that advances by the time that a layer takes in a precision, for each token."""
    now = [0.0]

    def layer(tensors: list[torch.Tensor], precision: str) -> None:
        now[0] += seconds[precision] * len(tensors[0])

    def clock() -> float:
        now[0] += 1e-6
        return now[0]

    monkeypatch.setattr(speed, "_layer", layer)
    return clock


def test_rates_are_work_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer has 4 W W + 3 W I weights, and each is multiplied and added three times a token."""
    clock = fake({"float32": 2e-4, "bfloat16": 1e-4}, monkeypatch)
    flops = 6 * (4 * 64 * 64 + 3 * 64 * 176)
    found = probe(SMALL, clock)
    assert found.float32 == pytest.approx(flops / 2e-4 / 1e9, rel=1e-3)
    assert found.bfloat16 == pytest.approx(flops / 1e-4 / 1e9, rel=1e-3)


def test_a_hopeless_precision_is_not_tried_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty times slower, on 256 tokens a try would take 25 s: a short look at 32 tokens says enough."""
    clock = fake({"float32": 1.7e-3, "bfloat16": 0.1}, monkeypatch)
    found = probe(SMALL, clock)
    assert found.fast == "float32"
    assert found.float32 == pytest.approx(found.bfloat16 * 0.1 / 1.7e-3, rel=0.01)
    assert clock() < 12


def test_a_wide_model_is_tried_narrower() -> None:
    sizes = []

    def layer(tensors: list[torch.Tensor], precision: str) -> None:
        sizes.append(max(tensor.shape[-1] for tensor in tensors))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "_layer", layer)
        patch.setattr(speed, "_SECONDS", 0.01)
        probe(Shape(8192, 28672))
    assert max(sizes) == 2304


def test_the_probe_measures_both_and_leaves_torch_as_it_was() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        began = time.monotonic()
        found = probe(SMALL)
        assert time.monotonic() - began < 30
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert found.float32 > 0.001
    assert found.bfloat16 > 0.001
    assert torch.equal(torch.get_rng_state(), state)


class TestCache:
    @pytest.fixture(autouse=True)
    def _home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        self.file = tmp_path / "cache" / "seralign" / "precision.json"
        self.probed: list[Shape] = []

        def counted(shape: Shape) -> Rates:
            self.probed.append(shape)
            return Rates(2.0, float(shape.width))

        monkeypatch.setattr(speed, "probe", counted)

    def test_a_shape_is_probed_once(self) -> None:
        for _ in range(2):
            assert processor_rates(SMALL) == Rates(2.0, 64.0)
            assert processor_rates(Shape(32, 64)) == Rates(2.0, 32.0)
        assert self.probed == [SMALL, Shape(32, 64)]
        keys = list(json.loads(self.file.read_text()))
        assert all(torch.__version__ in key for key in keys)
        assert keys[0] != keys[1]

    def test_another_processor_is_probed_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        processor_rates(SMALL)
        monkeypatch.setattr(speed, "processor_name", lambda: "another")
        processor_rates(SMALL)
        assert len(self.probed) == 2

    @pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 1}', '{"a": {"float32": "x", "bfloat16": 1}}', "null"])
    def test_a_harmed_cache_is_made_anew(self, content: str) -> None:
        self.file.parent.mkdir(parents=True)
        self.file.write_text(content)
        assert processor_rates(SMALL) == processor_rates(SMALL) == Rates(2.0, 64.0)
        assert len(self.probed) == 1

    def test_a_cache_that_cannot_be_written_is_not_used(self, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("a file where the folder would be")
        assert processor_rates(SMALL) == processor_rates(SMALL) == Rates(2.0, 64.0)
        assert len(self.probed) == 2

    def test_a_user_without_a_home_has_no_cache(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_home() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", no_home)
        assert processor_rates(SMALL) == processor_rates(SMALL) == Rates(2.0, 64.0)
        assert len(self.probed) == 2
