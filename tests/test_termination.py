"""SIGTERM: work ends where it can be resumed, with exit code 143."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from harms import in_child

from seralign.cli.main import main
from seralign.termination import CODE, Terminated, deferred, terminable


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_terminable_block_ends_at_once_and_leaves_no_handler() -> None:
    with pytest.raises(Terminated), terminable():
        terminate()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_deferred_request_is_noted_and_a_second_one_ends_at_once() -> None:
    with terminable(), deferred() as request:
        assert not request.made
        terminate()
        assert request.made
        with pytest.raises(Terminated):
            terminate()
    with terminable(), pytest.raises(Terminated):
        terminate()


def test_a_handler_of_the_program_is_left_alone() -> None:
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with terminable():
            terminate()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_a_fork_of_a_terminable_process_is_ended_by_the_signal() -> None:
    with terminable():
        child = os.fork()
        if child == 0:
            terminate()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_a_command_that_is_terminated_ends_with_143_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import seralign.cli.main as module

    monkeypatch.setitem(module.COMMANDS, "show", lambda arguments: terminate())
    code, said = in_child(lambda: main(["show", str(tmp_path)]), tmp_path / "said")
    assert code == CODE == 143
    assert said == "terminated; give the same command again to resume\n"
