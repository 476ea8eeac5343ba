"""EventStorage and the writers."""

from __future__ import annotations

import fcntl
import json
import math
import os
import select
import struct
import sys
import termios

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fpnas.utils.events import (
    EventStorage,
    JSONWriter,
    MetricPrinter,
    ProgressBar,
    TensorBoardWriter,
)


def records(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_steps(path, steps: range, period: int = 1) -> None:
    storage = EventStorage(steps.start)
    writer = JSONWriter(path)
    writer.start(storage)
    for storage.iter in steps:
        storage.put_scalars(loss=storage.iter / 2)
        if (storage.iter + 1) % period == 0:
            writer.write(storage)
    writer.close()


def test_scalars_keep_value_type_and_iteration():
    storage = EventStorage(4)
    storage.put_scalars(loss=torch.tensor(1.5), num_samples=torch.tensor(14), **{"val/top1": 90})
    storage.iter += 1
    storage.put_scalar("loss", 0.5)
    assert storage.latest() == {"loss": (0.5, 5), "num_samples": (14, 4), "val/top1": (90, 4)}
    assert type(storage.latest()["num_samples"][0]) is int
    assert storage.history("loss").values() == [(1.5, 4), (0.5, 5)]
    assert storage.history("loss").median(2) == 1.0
    with pytest.raises(KeyError, match=r"No scalar 'los'.*loss, num_samples"):
        storage.history("los")


def test_storage_state_round_trip():
    storage = EventStorage(4)
    storage.put_scalars(a=1, b=0.25)
    restored = EventStorage()
    restored.load_state_dict(json.loads(json.dumps(storage.state_dict())))
    assert restored.latest() == storage.latest()


def test_json_lines_hold_what_came_since_the_last_write(tmp_path):
    storage = EventStorage()
    writer = JSONWriter(tmp_path / "metrics.json")
    writer.start(storage)
    storage.put_scalars(loss=2.0, once=7)
    storage.iter = 1
    storage.put_scalars(loss=math.nan)
    writer.write(storage)
    writer.write(storage)  # nothing new
    storage.iter = 2
    storage.put_scalar("top1", math.inf)
    writer.write(storage)
    assert records(tmp_path / "metrics.json") == [  # flushed: not yet closed
        {"iteration": 0, "once": 7},
        {"iteration": 1, "loss": None},
        {"iteration": 2, "top1": None},
    ]
    writer.close()


def test_late_scalar_joins_the_next_line(tmp_path):
    storage = EventStorage()
    writer = JSONWriter(tmp_path / "metrics.json")
    writer.start(storage)
    storage.put_scalar("loss", 1.0)
    writer.write(storage)
    storage.put_scalar("late", 2.0)
    storage.iter = 1
    storage.put_scalar("loss", 0.5)
    writer.write(storage)
    writer.close()
    expected = [{"iteration": 0, "loss": 1.0}, {"iteration": 1, "loss": 0.5, "late": 2.0}]
    assert records(tmp_path / "metrics.json") == expected


@given(
    resumes=st.lists(st.integers(0, 12), min_size=1, max_size=4),
    length=st.integers(1, 6),
    period=st.integers(1, 3),
)
def test_each_iteration_has_one_line_however_often_a_run_is_resumed(
    resumes, length, period, tmp_path_factory
):
    path = tmp_path_factory.mktemp("metrics") / "metrics.json"
    reached = 0
    for resume in [0, *resumes]:
        start = min(resume, reached)
        write_steps(path, range(start, start + length), period)
        reached = start + length
    expected = [it for it in range(reached) if (it + 1) % period == 0]
    assert [record["iteration"] for record in records(path)] == expected
    assert all(record["loss"] == record["iteration"] / 2 for record in records(path))


@pytest.mark.parametrize(
    "cut_off", ['{"iteration": 2, "lo', '{"iteration": 2, "loss": 1.0}', "[]\n"]
)
def test_line_cut_off_by_a_kill_is_dropped(cut_off, tmp_path):
    path = tmp_path / "metrics.json"
    write_steps(path, range(2))
    path.write_text(path.read_text() + cut_off)
    write_steps(path, range(3, 4))
    assert [record["iteration"] for record in records(path)] == [0, 1, 3]
    assert list(tmp_path.iterdir()) == [path]


def test_restored_scalars_that_were_written_are_not_written_again(tmp_path):
    path = tmp_path / "metrics.json"
    write_steps(path, range(4))
    storage = EventStorage(4)
    storage.load_state_dict({"latest": {"loss": [1.5, 3], "top1": [80.0, 3]}})
    writer = JSONWriter(path)
    writer.start(storage)
    storage.put_scalar("loss", 2.0)
    writer.write(storage)
    writer.close()
    assert records(path)[3:] == [
        {"iteration": 3, "loss": 1.5},
        {"iteration": 4, "loss": 2.0, "top1": 80.0},
    ]


def test_tensorboard_hides_repeated_steps(tmp_path):
    for steps in (range(4), range(2, 6)):
        storage = EventStorage(steps.start)
        writer = TensorBoardWriter(tmp_path)
        writer.start(storage)
        for storage.iter in steps:
            storage.put_scalar("loss", storage.iter + steps.start)
            writer.write(storage)
            writer.write(storage)
        writer.close()
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in events] == [
        *[(0, 0.0), (1, 1.0)],
        *[(2, 4.0), (3, 5.0), (4, 6.0), (5, 7.0)],
    ]


def test_printed_line(caplog, monkeypatch):
    caplog.set_level("INFO", logger="fpnas")
    clock = iter([100.0, 110.0])
    monkeypatch.setattr("fpnas.utils.events.time.perf_counter", lambda: next(clock))
    storage = EventStorage(10)
    printer = MetricPrinter(max_iter=40, names=("entropy", "absent"))
    printer.start(storage)
    for storage.iter in range(10, 20):
        storage.put_scalars(loss=storage.iter, alpha_loss=0.125, lr=0.05, entropy=56.25, other=3)
        storage.put_scalars(time=0.5, data_time=0.25)
    printer.write(storage)
    printer.write(storage)
    assert caplog.messages == [
        "eta: 0:00:20  iter: 20/40  loss: 14.5  alpha_loss: 0.125  entropy: 56.25  "
        "time: 0.5000  data_time: 0.2500  lr: 0.05"
    ]


def test_progress_bar_only_on_a_terminal(monkeypatch, capsys):
    def run_bar() -> None:
        storage = EventStorage(3)
        bar = ProgressBar(max_iter=5)
        bar.start(storage)
        for storage.iter in (3, 4):
            storage.put_scalar("loss", 0.75)
            bar.write(storage)
        bar.close()

    run_bar()
    assert capsys.readouterr().err == ""

    leader, follower = os.openpty()
    size = struct.pack("HHHH", 24, 100, 0, 0)  # rows, columns
    fcntl.ioctl(follower, termios.TIOCSWINSZ, size)
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        run_bar()
        terminal.flush()
        shown = ""
        expected = ("3/5", "5/5", "loss: 0.75")
        # A terminal hands its text over in pieces.
        while not all(text in shown for text in expected):
            assert select.select([leader], [], [], 60)[0], f"nothing more came after {shown!r}"
            shown += os.read(leader, 65536).decode()
    os.close(leader)
