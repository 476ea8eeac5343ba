"""A run that is stopped at any moment and resumed ends with the same bits as one that is not."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_run
import torch

from fpnas.engine import HookBase, Interrupted
from fpnas.errors import CheckpointError


def final_bytes(trainer: tiny_run.TinyTrainer) -> bytes:
    """All tensors of model and optimizer, as bytes."""
    buffer = io.BytesIO()
    torch.save([trainer.model.state_dict(), trainer.optimizer.state_dict()], buffer)
    return buffer.getvalue()


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[dict], dict]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    trainer = tiny_run.run(folder)
    return final_bytes(trainer), metrics(folder), torch.load(folder / "model_best.pth")


def assert_same_end(
    folder: Path, trainer: tiny_run.TinyTrainer, uninterrupted: tuple[bytes, list[dict], dict]
) -> None:
    expected_bytes, expected_metrics, expected_best = uninterrupted
    assert final_bytes(trainer) == expected_bytes
    assert metrics(folder) == expected_metrics
    best = torch.load(folder / "model_best.pth")
    assert (best["iteration"], best["score"]) == (
        expected_best["iteration"],
        expected_best["score"],
    )


def test_the_comparison_can_fail(uninterrupted, tmp_path):
    """Another number of steps, and another random stream, give other bytes."""

    class DrawOnce(HookBase):
        def before_train(self) -> None:
            torch.rand(1)

    assert all(record["loss"] is not None for record in uninterrupted[1])  # no NaN
    assert final_bytes(tiny_run.run(tmp_path / "a", max_iter=23)) != uninterrupted[0]
    assert final_bytes(tiny_run.run(tmp_path / "b", extra_hook=DrawOnce())) != uninterrupted[0]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_saves_and_resume_is_bit_exact(signum, uninterrupted, tmp_path, caplog):
    before = signal.getsignal(signum)
    stop = tiny_run.CallAfter(11, lambda: os.kill(os.getpid(), signum))
    with pytest.raises(Interrupted) as stopped:
        tiny_run.run(tmp_path, extra_hook=stop)
    assert stopped.value.code == 128 + signum
    assert "--resume" in str(stopped.value)
    assert "model_0000011.pth" in str(stopped.value)
    assert signal.getsignal(signum) is before
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000011.pth"
    assert_same_end(tmp_path, tiny_run.run(tmp_path, resume=True), uninterrupted)


def test_interrupted_three_times(uninterrupted, tmp_path):
    for steps in (3, 8, 17):
        stop = tiny_run.CallAfter(steps, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            tiny_run.run(tmp_path, resume=True, extra_hook=stop)
    assert_same_end(tmp_path, tiny_run.run(tmp_path, resume=True), uninterrupted)


def test_second_ctrl_c_stops_at_once_without_saving(tmp_path):
    def press_twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second Ctrl-C did not stop the run")

    with pytest.raises(Interrupted, match="at once"):
        tiny_run.run(tmp_path, extra_hook=tiny_run.CallAfter(11, press_twice))
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000008.pth"


@pytest.mark.parametrize(
    ("moment", "lines_left"), [("between-checkpoints", 13), ("while-saving", 16)]
)
def test_kill_9_and_resume_is_bit_exact(moment, lines_left, uninterrupted, tmp_path):
    script = [sys.executable, tiny_run.__file__, str(tmp_path), moment]
    root = Path(__file__).parents[2]
    killed = subprocess.run(script, cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000008.pth"
    assert len(metrics(tmp_path)) == lines_left  # more than the checkpoint knows of
    temporary = list(tmp_path.glob("*tmp"))
    assert len(temporary) == (1 if moment == "while-saving" else 0)

    assert_same_end(tmp_path, tiny_run.run(tmp_path, resume=True), uninterrupted)
    assert not list(tmp_path.glob("*tmp"))


def test_damaged_checkpoint_falls_back_to_the_one_before(uninterrupted, tmp_path, caplog):
    tiny_run.run(tmp_path)
    final = tmp_path / "model_final.pth"
    content = bytearray(final.read_bytes())
    content[len(content) // 2] ^= 1  # a single flipped bit, which torch.load does not notice
    final.write_bytes(content)
    trainer = tiny_run.run(tmp_path, resume=True)
    assert "model_final.pth' is damaged" in caplog.text
    assert trainer.start_iter == 16
    assert_same_end(tmp_path, trainer, uninterrupted)


def test_all_checkpoints_damaged(tmp_path):
    tiny_run.run(tmp_path)
    for file in tmp_path.glob("model_*.pth"):
        file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="None of the checkpoints"):
        tiny_run.run(tmp_path, resume=True)


def test_resuming_a_finished_run_runs_no_step_and_a_longer_one_goes_on(tmp_path):
    first = tiny_run.run(tmp_path)
    again = tiny_run.run(tmp_path, resume=True)
    assert (again.start_iter, again.steps_done) == (24, 24)
    assert final_bytes(again) == final_bytes(first)
    longer = tiny_run.run(tmp_path, resume=True, max_iter=30)
    assert (longer.start_iter, longer.steps_done) == (24, 30)
    assert [record["iteration"] for record in metrics(tmp_path)] == list(range(30))


def test_resume_without_checkpoint_starts_from_the_beginning(uninterrupted, tmp_path):
    assert_same_end(tmp_path, tiny_run.run(tmp_path, resume=True), uninterrupted)


def test_new_run_sets_the_checkpoints_of_an_earlier_one_aside(tmp_path, caplog):
    tiny_run.run(tmp_path)
    stop = tiny_run.CallAfter(5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        tiny_run.run(tmp_path, extra_hook=stop)
    assert "earlier run" in caplog.text
    assert (tmp_path / "earlier-1" / "model_final.pth").is_file()
    assert sorted(file.name for file in tmp_path.glob("model_*")) == ["model_0000005.pth"]
    assert tiny_run.run(tmp_path, resume=True).start_iter == 5


def test_scalars_put_between_writes_survive_a_kill(tmp_path):
    """ "score" of iteration 5 is not yet written when the checkpoint after 8 steps is saved."""

    def fail() -> None:
        raise RuntimeError("stands for a kill")

    with pytest.raises(RuntimeError, match="stands for a kill"):
        tiny_run.run(tmp_path, writer_period=9, extra_hook=tiny_run.CallAfter(9, fail))
    (tmp_path / "metrics.json").unlink()  # a killed process would have written nothing
    tiny_run.run(tmp_path, resume=True, writer_period=9)
    scores = {r["iteration"]: r["score"] for r in metrics(tmp_path) if "score" in r}
    assert list(scores) == [5, 17, 23]
