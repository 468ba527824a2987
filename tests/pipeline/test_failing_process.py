"""An error in one of two processes ends both, and is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from processes import in_processes
from small_run import SMALL

import seralign.pipeline  # noqa: F401  imported before forking, so that attempts are quick
from seralign.cli.main import main
from seralign.config import load_config, to_dict
from seralign.errors import DataError

ENDED = "error: another process of this run has ended, by an error of its own or by a signal"
ROUND: dict[str, Any] = {
    "rounds": 1, "sft": None, "evaluation": {"prompts": 0, "baseline": False, "token_pairs": 0},
    "world": {"pairs": 40, "demonstrations": 20, "prompts": 12, "heldout": 6},
}  # fmt: skip


def fail_in_data() -> None:
    import seralign.pipeline.data as data

    def fail(*args: Any) -> None:
        raise DataError("pairs.jsonl, row 3: no text")

    data.read_data = fail


def fail_in_a_step() -> None:
    from seralign.training.trainer import PreferenceTrainer

    step = PreferenceTrainer.training_step

    def fail(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 1:
            raise RuntimeError("of one process alone")
        return step(self, *args, **kwargs)

    PreferenceTrainer.training_step = fail


@pytest.mark.timeout(200)
@pytest.mark.parametrize("shard", ["none", pytest.param("fsdp", marks=pytest.mark.real)])
@pytest.mark.parametrize(
    ("inject", "at", "code", "says"),
    [
        (fail_in_data, 0, 2, "error: pairs.jsonl, row 3: no text"),
        (fail_in_a_step, 1, 1, "RuntimeError: of one process alone"),
    ],
)
def test_an_error_in_one_process_ends_both_and_is_named(
    inject: Any, at: int, code: int, says: str, shard: str, tmp_path: Path
) -> None:
    file = tmp_path / "run.yaml"
    config = to_dict(load_config(None, SMALL | ROUND | {"training.shard": shard, "out": str(tmp_path / "run")}))
    file.write_text(yaml.safe_dump(config), encoding="utf-8")

    def work(rank: int) -> int:
        torch.set_num_threads(1)
        if rank == at:
            inject()
        return main(["train", str(file)])

    found = in_processes(2, work, tmp_path, 160)
    own, other = found[at], found[1 - at]
    assert (own.code, own.said.splitlines()[-1]) == (code, says)
    assert other.code == 1, other.said
    assert other.at - own.at < 60
    assert "Traceback" not in other.said
    # The main process speaks for all that could not continue.
    assert sum(line.startswith(ENDED) for line in other.said.splitlines()) == (1 if at == 1 else 0)
