"""Two runs do not share a folder."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fpnas.engine.run_lock import RunLock
from fpnas.errors import ResumeError

HOLD = """
import sys
from pathlib import Path
from fpnas.engine.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process, which holds the folder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_owner_is_named_and_a_kill_frees_the_folder(holder, tmp_path):
    for _ in range(2):  # being refused changes nothing
        with pytest.raises(ResumeError, match=f"in use by process {holder.pid} on .*, which start"):
            RunLock(tmp_path)
    holder.kill()
    holder.wait()
    RunLock(tmp_path).release()


def test_one_process_may_have_it_again(tmp_path):
    """As when a run is resumed in the same interpreter."""
    first = RunLock(tmp_path)
    first.release()
    first.release()
    second = RunLock(tmp_path)
    assert "process" in (tmp_path / ".run.lock").read_text()
    second.release()
    assert (tmp_path / ".run.lock").read_text() == ""
