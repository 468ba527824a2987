"""How far a study is: cells counted by hand, and the time that the rest takes at the rates of those that are done."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from seralign.cli.main import main
from seralign.runs.files import locked, write_json
from seralign.studies.cells import ERROR, FIGURES, STUDY, Cell, is_over, plan_study
from seralign.studies.config import MethodConfig, StudyConfig, to_dict
from seralign.studies.results import read_study
from seralign.studies.status import study_status


@pytest.fixture
def study(tmp_path: Path) -> StudyConfig:
    """Two seeds of a world; in each the supervised policy, DPO with two betas, and three rounds."""
    methods = {
        "dpo": MethodConfig(set={"rounds": 1}, grid={"objective.beta": [0.1, 0.4]}),
        "sera": MethodConfig(set={"rounds": 3}),
    }
    made = StudyConfig(out=str(tmp_path), worlds={"A": {"world.noise": 0.2}}, methods=methods, seeds=[0, 1])
    write_json(tmp_path / STUDY, to_dict(made))
    return made


def finish(cell: Cell, root: Path, seconds: float) -> None:
    cell.folder(root).mkdir(parents=True)
    figures = {"policies": {ask.key: {} for ask in cell.asks}, "seconds": {"run": seconds - 1.0, "measure": 1.0}}
    write_json(cell.folder(root) / FIGURES, figures)


def test_what_is_left_takes_as_long_as_what_is_done(
    study: StudyConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells, _ = plan_study(study)
    nothing = study_status(tmp_path)
    assert (nothing.cells, nothing.finished, nothing.work_left, nothing.time_left) == (8, 0, None, None)

    supervised, first, second, sera = cells[:4]
    for cell, seconds in ((supervised, 5.0), (first, 60.0), (second, 80.0)):
        finish(cell, tmp_path, seconds)
    cells[5].folder(tmp_path).mkdir(parents=True)
    (cells[5].folder(tmp_path) / ERROR).write_text("no memory\n")
    with locked(sera.folder(tmp_path)), locked(cells[7].folder(tmp_path)):
        status = study_status(tmp_path)
        assert main(["lab", "status", str(tmp_path)]) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert main(["lab", "status", str(tmp_path), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
    assert (status.finished, status.running, status.failed, status.seconds) == (3, 2, 1, 145.0)
    # One supervised policy of 5 s, two of DPO of 70 s; 145 s for 3 policies are 48.3 s for each of the 2 x 3 of SeRA.
    assert status.work_left == pytest.approx(5 + 2 * 70 + 6 * 145 / 3)
    assert status.time_left == pytest.approx(status.work_left / 2)
    rows = {row.method: (row.cells, row.finished, row.running, row.failed, row.seconds) for row in status.methods}
    assert rows == {"supervised": (2, 1, 0, 0, 5.0), "dpo": (4, 2, 0, 1, 70.0), "sera": (2, 0, 2, 0, None)}
    assert (
        "3 of 8 cells finished; 2 running, 1 failed, 2 waiting. Work left: 7 min 15 s of one process, 3 min 38 s"
        in printed
    )
    assert (told["work_left"], told["methods"][1]["method"]) == (status.work_left, "dpo")
    assert "No process works on it; seralign lab run resumes it." in _printed(tmp_path, capsys)


def test_a_finished_study_has_nothing_left(
    study: StudyConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for cell in plan_study(study)[0]:
        finish(cell, tmp_path, 10.0)
    status = study_status(tmp_path)
    assert (status.finished, status.work_left) == (8, 0.0)
    assert _printed(tmp_path, capsys).endswith("8 of 8 cells finished.")


def test_a_folder_without_a_study_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "status", str(tmp_path / "none")]) == 2
    assert "no study here" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def _printed(root: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["lab", "status", str(root)]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_cell_whose_supervised_policy_failed_has_failed(study: StudyConfig, tmp_path: Path) -> None:
    """The study leaves such a cell alone until the next ``lab run``."""
    supervised = {"world.noise": 0.0, "training.max_steps": 20}
    write_json(tmp_path / STUDY, to_dict(replace(study, supervised=supervised)))
    cells, _ = plan_study(read_study(tmp_path))
    broken = cells[0].supervised
    assert broken is not None
    broken.folder(tmp_path).mkdir(parents=True)
    (broken.folder(tmp_path) / ERROR).write_text("no memory\n")
    own = sum(cell.supervised == broken for cell in cells)
    assert own > 1
    assert study_status(tmp_path).failed == own == sum(is_over(cell, tmp_path) for cell in cells)
