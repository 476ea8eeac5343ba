"""Runs of several CPU processes. Starting them takes seconds, so each start checks much."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path

import pytest
import tiny_run
import torch
from torch.multiprocessing import ProcessExitedException

from fpnas.engine import HookBase, Interrupted, InterruptHook, launch
from fpnas.engine.launch import _wait
from fpnas.errors import ConfigError, DataError, UserError
from fpnas.utils import comm
from fpnas.utils.rng import seed_all_rng


def check_communication() -> None:
    rank = comm.get_rank()
    assert comm.get_world_size() == 2
    assert comm.get_local_rank() == rank
    assert comm.is_main_process() == (rank == 0)
    assert comm.all_reduce_mean({"b": rank, "a": 1 + 2 * rank}) == {"b": 0.5, "a": 2.0}
    tensor = torch.tensor([1.0, 3.0]) * (rank + 1)
    assert torch.equal(comm.all_reduce_mean(tensor), torch.tensor([1.5, 4.5]))
    assert torch.equal(tensor, torch.tensor([1.0, 3.0]) * (rank + 1))  # left as it was
    assert comm.any_process(rank == 1) and not comm.any_process(False)
    assert comm.broadcast_object(f"from {rank}") == "from 0"
    assert comm.all_gather_object(rank) == [0, 1]


class SeedByRank(HookBase):
    """Makes the generators of the processes differ, and signals one of them after 5 steps."""

    def __init__(self, signal_rank: int | None) -> None:
        self._signal_rank = signal_rank

    def after_step(self) -> None:
        if self.trainer.steps_done == 1:
            seed_all_rng(comm.get_rank())
        if self.trainer.steps_done == 5 and comm.get_rank() == self._signal_rank:
            os.kill(os.getpid(), signal.SIGINT)


def check_interrupt_and_resume(folder: str) -> None:
    reference = tiny_run.run(Path(folder, "reference"), extra_hook=SeedByRank(None))
    next_number = random.random()
    try:
        tiny_run.run(Path(folder, "interrupted"), extra_hook=SeedByRank(signal_rank=1))
        raise AssertionError("not interrupted")
    except Interrupted as stopped:
        assert "after 5 of 24 steps" in str(stopped)
    resumed = tiny_run.run(Path(folder, "interrupted"), resume=True)
    assert resumed.start_iter == 5
    assert torch.equal(resumed.model[0].weight, reference.model[0].weight)
    assert random.random() == next_number  # each process has gone on with its own generators
    assert len(set(comm.all_gather_object(next_number))) == 2


def check_all(folder: str) -> None:
    check_communication()
    check_interrupt_and_resume(folder)
    Path(folder, f"done{comm.get_rank()}").touch()


def raise_user_error() -> None:
    if comm.get_rank() == 1:
        raise DataError("Folder 'photos' is empty.")
    comm.synchronize()


def wait_for_signal(folder: str) -> None:
    def stop_parent() -> None:
        os.kill(os.getppid(), signal.SIGTERM)
        while not stopping.wait(0.01):
            pass

    stopping = threading.Event()
    trigger = tiny_run.CallAfter(5, stop_parent if comm.get_rank() == 0 else lambda: None)
    previous = InterruptHook._on_signal

    def on_signal(self: InterruptHook, signum: int, frame: object) -> None:
        previous(self, signum, frame)
        stopping.set()

    InterruptHook._on_signal = on_signal
    tiny_run.run(Path(folder), extra_hook=trigger)


def test_two_processes(tmp_path, caplog):
    assert launch(check_all, 2, args=(str(tmp_path),)) is None
    assert {file.name for file in tmp_path.glob("done*")} == {"done0", "done1"}
    if not torch.cuda.is_available():
        assert "starting 2 CPU processes" in caplog.text


def test_user_error_of_a_started_process_comes_back_as_one():
    with pytest.raises(UserError, match=r"^Folder 'photos' is empty\.$"):
        launch(raise_user_error, 2)


def test_signal_to_the_starting_process_stops_all_with_a_checkpoint(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as stopped:
        launch(wait_for_signal, 2, args=(str(tmp_path),))
    assert stopped.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000005.pth"


def test_one_process_is_no_new_one():
    assert launch(os.getpid, 1) == os.getpid()


def test_environment_of_torchrun_is_respected(tmp_path, monkeypatch):
    values = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**values, "MASTER_PORT": 0}.items():
        monkeypatch.setenv(name, str(value))
    assert launch(comm.is_distributed, 7) is True  # 7 is ignored
    assert not comm.is_distributed()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_gpus_per_machine": 0}, "--num-gpus must be at least 1, found 0"),
        ({"num_machines": 2, "machine_rank": 2}, r"--machine-rank must be in .*2\), found 2"),
        ({"num_machines": 2}, "--dist-url must be tcp"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        launch(os.getpid, **{"num_gpus_per_machine": 1, **arguments})


class EndedProcesses:
    """Stands for started processes of which the first has ended with ``exit_code``."""

    processes = ()

    def __init__(self, exit_code: int) -> None:
        self._exit_code = exit_code

    def join(self, grace_period: float) -> bool:
        raise ProcessExitedException("ended", 0, 1, self._exit_code)


def test_exit_codes_of_started_processes(tmp_path):
    for code in (130, 143):
        with pytest.raises(Interrupted) as stopped:
            _wait(EndedProcesses(code), tmp_path / "absent")
        assert stopped.value.code == code
    for code in (1, -signal.SIGKILL):
        with pytest.raises(ProcessExitedException):
            _wait(EndedProcesses(code), tmp_path / "absent")
