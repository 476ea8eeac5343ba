"""Which run a folder holds: kills while a run takes it, and what may differ in a resumed one."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml
from torch import nn

from fpnas.config import CfgNode, get_cfg
from fpnas.data import Fingerprint, SplitPrint
from fpnas.engine import Run, begin_run, default_setup, has_checkpoint, identity, launch
from fpnas.engine.run_folder import set_aside_checkpoints
from fpnas.errors import CheckpointError, ConfigError, ResumeError
from fpnas.utils import comm
from fpnas.utils.checkpoint import Checkpointer

LOCK = ".run.lock"  # says who is at work
LR_OF = {"A": 0.1, "B": 0.2, "C": 0.3}


class Killed(BaseException):
    """Stands for a kill: nobody handles it."""


def config(folder: Path, name: str = "A", **keys: object) -> CfgNode:
    """Of the run ``name``; ``DATA__ROOT=x`` stands for a key."""
    cfg = get_cfg()
    cfg.OUTPUT_DIR, cfg.SOLVER.LR = str(folder), LR_OF[name]
    for key, value in keys.items():
        cfg.merge_from_list([key.replace("__", "."), str(value)])
    return cfg


def images(*names: str, size: int = 10) -> Fingerprint:
    lines = [(name, f"0 {size}") for name in names or ("cat/1.png", "cat/2.png")]
    return Fingerprint(("cat",), {"train": SplitPrint.of(len(lines), lines)})


def begin(cfg: CfgNode, data: Fingerprint | None = None, kind: str = "training", **flags) -> Run:
    return begin_run(cfg, kind, lambda: data or images(), **flags)


def work(cfg: CfgNode, run: Run | None, name: str = "A") -> None:
    """What a run leaves behind; ``name`` stands in each file."""
    folder = Path(cfg.OUTPUT_DIR)
    checkpointer = Checkpointer(nn.Linear(2, 2), folder, config=cfg.dump(), run=run and run.tag)
    for file in ("model_0000001", "model_0000002", "model_final"):
        checkpointer.save(file, owner=name)
    for file in ("config.yaml", "metrics.json", "report.html"):
        (folder / file).write_text(name)
    for directory in ("tensorboard", "target-6M"):
        (folder / directory).mkdir()
        (folder / directory / "file").write_text(name)
    (folder / "log.txt").write_text("log")


def resumed(cfg: CfgNode, run: Run) -> str | None:
    """Whose checkpoint a resumed run goes on from."""
    checkpointer = Checkpointer(nn.Linear(2, 2), cfg.OUTPUT_DIR, run=run.tag)
    return checkpointer.resume_or_load("").get("owner")


def names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if file.name != LOCK}


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, Callable], bool]]:
    """kill_at(n, work): whether ``work`` was killed, in front of its n-th change on the disk."""

    def arrange(moment: int, work: Callable[[], object]) -> bool:
        left = [moment]

        def killing(function: Callable) -> Callable:
            def wrapper(*args, **kwargs):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
                return function(*args, **kwargs)

            return wrapper

        with monkeypatch.context() as patch:
            for owner, name in (
                *((os, "replace"), (os, "fsync"), (Path, "rename"), (Path, "mkdir")),
                *((Path, "write_text"), (Path, "unlink")),
            ):
                patch.setattr(owner, name, killing(getattr(owner, name)))
            try:
                work()
            except Killed:
                return True
        return False

    return arrange


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of A."""
    folder = tmp_path_factory.mktemp("finished")
    work(config(folder), begin(config(folder)))
    return folder


@pytest.mark.parametrize("next_run", ["B resumed", "A resumed", "B anew", "C anew"])
def test_a_kill_while_a_run_takes_the_folder_never_mixes_two_runs(
    finished, tmp_path, kill_at, next_run
):
    name, how = next_run.split()
    outcomes = []
    for moment in range(100):
        folder = tmp_path / str(moment)
        shutil.copytree(finished, folder)
        if not kill_at(moment, partial(begin, config(folder, "B"))):
            break
        cfg = config(folder, name)
        is_b = yaml.safe_load((folder / "run.yaml").read_text())["config"]["SOLVER"]["LR"] == 0.2
        if how == "resumed" and is_b != (name == "B"):
            with pytest.raises(ResumeError, match=r"SOLVER\.LR"):
                begin(cfg, resume=True)
            outcomes.append("refused")
            continue
        expected = has_checkpoint(cfg, how == "resumed")
        run = begin(cfg, resume=how == "resumed")
        found = resumed(cfg, run)
        assert found == ("A" if expected else None)
        outcomes.append(found or "anew")
        if found is None:  # all that was A's is in one folder, and nothing of it is left here
            aside = folder / "earlier-1"
            assert {"model_final.pth", "last_checkpoint", "target-6M", "run.yaml"} < names_in(aside)
            assert (aside / "tensorboard" / "file").read_text() == "A"
            assert yaml.safe_load((aside / "run.yaml").read_text())["config"]["SOLVER"]["LR"] == 0.1
            left = {n for n in names_in(folder) if not n.endswith("tmp")}
            assert left == {"earlier-1", "log.txt", "run.yaml", run.identity.images_file}
    assert len(outcomes) > 10
    # Before the one moment at which the folder changes hands A is still there, then never again.
    expected = {"B resumed": {"refused", "anew"}, "A resumed": {"A", "refused"}}
    assert set(outcomes) == expected.get(next_run, {"anew"})
    assert outcomes == sorted(outcomes, key=["refused", "anew", "A"].index) or name == "A"


def test_a_run_of_its_own_goes_on_and_a_new_one_of_the_same_config_does_not(tmp_path):
    cfg = config(tmp_path)
    first = begin(cfg)
    work(cfg, first)
    again = begin(cfg, resume=True)
    assert (again.identity, again.notes) == (first.identity, ())
    assert resumed(cfg, again) == "A"
    new = begin(cfg)
    assert new.identity.id != first.identity.id
    assert "moved to" in new.notes[0]
    assert not has_checkpoint(cfg, True)


def test_a_killed_run_that_did_nothing_leaves_no_folder(tmp_path):
    begin(config(tmp_path))
    run = begin(config(tmp_path, "B"))
    assert names_in(tmp_path) == {"run.yaml", run.identity.images_file}


def test_what_computes_the_same_may_differ(tmp_path):
    work(config(tmp_path), begin(config(tmp_path)))
    keys = {"DATA__NUM_WORKERS": 0, "LOG__PERIOD": 3, "CHECKPOINT__KEEP": 9, "TEST__BATCH_SIZE": 7}
    keys |= {"DATA__ROOT": tmp_path / "moved"}
    cfg = config(tmp_path, **keys)
    run = begin(cfg, resume=True)
    assert "DATA.NUM_WORKERS: 2 then, 0 now" in run.notes[0]
    assert resumed(cfg, run) == "A"
    run.settle(tmp_path)
    assert begin(cfg, resume=True).notes == ()


@pytest.mark.parametrize(
    "keys", [{"SOLVER__LR": 0.5}, {"SEED": 3}, {"DATA__CACHE": "never"}, {"TEST__PERIOD": 2}]
)
def test_another_config_is_refused_unless_it_is_allowed(tmp_path, keys):
    work(config(tmp_path), begin(config(tmp_path)))
    files = [file for file in tmp_path.rglob("*") if file.is_file() and file.name != LOCK]
    before = {file: file.read_bytes() for file in files}
    cfg, [key] = config(tmp_path, **keys), keys
    with pytest.raises(ResumeError) as error:
        begin(cfg, resume=True)
    assert f"{key.replace('__', '.')}: " in str(error.value)
    assert f"{next(iter(keys.values()))!r} now" in str(error.value)
    assert "--allow-changes" in str(error.value) and "without --resume" in str(error.value)
    run = begin(cfg, resume=True, allow_changes=True)
    assert resumed(cfg, run) == "A"
    assert {file: file.read_bytes() for file in before} == before  # until the run is settled
    run.settle(tmp_path)
    assert begin(cfg, resume=True).notes == ()
    with pytest.raises(ResumeError):
        begin(config(tmp_path), resume=True)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (images("cat/1.png"), r"2 then, 1 now \(missing: cat/2.png\)"),
        (images("cat/1.png", "cat/2.png", "cat/3.png"), r"2 then, 3 now \(added: cat/3.png\)"),
        (images("a", "b", "c", "d"), r"missing: .*; added: a, b, c, ... \(4\)"),
        (images(size=11), r"changed: cat/1.png, cat/2.png"),
        (images("cat/2.png", "cat/1.png"), "the same in another order"),
        (Fingerprint(("dog",), images().splits), "classes: cat then, dog now"),
        (Fingerprint(("cat",), {"val": images().splits["train"]}), "val images: none then"),
    ],
)
def test_other_images_are_named(tmp_path, now, words):
    cfg = config(tmp_path)
    work(cfg, begin(cfg))
    with pytest.raises(ResumeError, match=words):
        begin(cfg, now, resume=True)
    run = begin(cfg, now, resume=True, allow_changes=True)
    run.settle(tmp_path)
    assert begin(cfg, now, resume=True).notes == ()
    (tmp_path / run.identity.images_file).unlink()  # without it counts are known alone
    with pytest.raises(ResumeError, match=r"then, 2 now[;.]|none now|classes"):
        begin(cfg, resume=True)


def test_another_kind_of_run_is_refused_even_if_changes_are_allowed(tmp_path):
    cfg = config(tmp_path)
    work(cfg, begin(cfg, kind="search"))
    for allow_changes in (False, True):
        with pytest.raises(ResumeError, match="holds a search, which a training cannot"):
            begin(cfg, resume=True, allow_changes=allow_changes)


def test_changes_are_allowed_in_a_resumed_run_only(tmp_path):
    with pytest.raises(ConfigError, match=r"--allow-changes .* goes with --resume"):
        begin(config(tmp_path / "out"), allow_changes=True)
    assert not (tmp_path / "out").exists()


def test_another_version_of_the_code_warns(tmp_path, monkeypatch):
    cfg = config(tmp_path)
    work(cfg, begin(cfg))
    monkeypatch.setattr(identity, "code_version", lambda: {"fpnas": "9.9"})
    [note] = begin(cfg, resume=True).notes
    assert "begun with fpnas 0.1" in note and note.endswith("this is fpnas 9.9")


def test_a_key_that_is_newer_than_the_run_had_its_default(tmp_path):
    cfg = config(tmp_path)
    begin(cfg)
    text = (tmp_path / "run.yaml").read_text()
    (tmp_path / "run.yaml").write_text(text.replace("    MOMENTUM: 0.9\n", "    GONE: 1\n"))
    assert begin(cfg, resume=True).notes == ()
    with pytest.raises(ResumeError, match=r"SOLVER\.MOMENTUM: 0\.9 then, 0\.8 now"):
        begin(config(tmp_path, SOLVER__MOMENTUM=0.8), resume=True)


def test_a_folder_of_an_earlier_version_is_resumed_by_the_config_in_its_checkpoints(tmp_path):
    tmp_path.joinpath("old").mkdir()
    cfg = config(tmp_path / "old")
    work(cfg, None)
    other = config(tmp_path / "old", "B")
    with pytest.raises(ResumeError, match=r"SOLVER\.LR: 0\.1 then, 0\.2 now"):
        begin(other, resume=True)
    assert begin(other, resume=True, allow_changes=True).notes[1].count("SOLVER.LR")
    run = begin(cfg, resume=True)
    assert "noted no images" in run.notes[0]
    assert resumed(cfg, run) == "A"
    assert not (tmp_path / "old" / "run.yaml").exists()  # until the run has its state
    run.settle(tmp_path / "old")
    again = begin(cfg, resume=True)
    assert (again.identity, again.notes) == (run.identity, ())
    assert resumed(cfg, again) == "A"
    Checkpointer(nn.Linear(2, 2), cfg.OUTPUT_DIR, run=again.tag).save("model_final", owner="A2")
    assert resumed(cfg, begin(cfg, resume=True)) == "A2"
    new = begin(other)
    assert resumed(other, new) is None
    assert "model_final.pth" in names_in(tmp_path / "old" / "earlier-1")


def test_checkpoints_that_were_copied_without_their_identity_keep_it(tmp_path):
    cfg = config(tmp_path / "a")
    run = begin(cfg)
    work(cfg, run)
    (tmp_path / "a" / "run.yaml").unlink()
    assert begin(cfg, resume=True).identity.id == run.identity.id


def test_a_checkpoint_of_another_run_is_never_resumed(tmp_path):
    cfg, other = config(tmp_path / "a"), config(tmp_path / "b", "B")
    work(cfg, begin(cfg))
    run = begin(other)
    for name in ("model_final.pth", "last_checkpoint"):
        (tmp_path / "a" / name).rename(tmp_path / "b" / name)
    with pytest.raises(CheckpointError, match="None of the checkpoints"):
        resumed(other, run)


def test_a_damaged_identity(tmp_path):
    cfg = config(tmp_path)
    work(cfg, begin(cfg))
    (tmp_path / "run.yaml").write_text("id: [")
    with pytest.raises(CheckpointError, match=r"run\.yaml' is damaged .*without --resume"):
        begin(cfg, resume=True)
    begin(cfg)
    assert (tmp_path / "earlier-1" / "run.yaml").read_text() == "id: ["


def test_notes_are_in_the_log_and_the_config_in_its_file(tmp_path):
    default_setup(config(tmp_path), argparse.Namespace(), begin(config(tmp_path)))
    cfg = config(tmp_path, "B")
    work(cfg, None)
    default_setup(cfg, argparse.Namespace(), begin(cfg, resume=True, allow_changes=True))
    assert (
        "WARNING: Resuming with changes:\nSOLVER.LR: 0.1 then, 0.2"
        in (tmp_path / "log.txt").read_text()
    )
    assert "LR: 0.2" in (tmp_path / "config.yaml").read_text()
    assert begin(cfg, resume=True).notes == ()


def test_setting_aside_never_overwrites_and_leaves_other_files(tmp_path):
    checkpointer = Checkpointer(nn.Linear(2, 2), tmp_path)
    (tmp_path / "teacher.pth").write_text("the user's own")
    for _ in range(2):
        checkpointer.save("model_0000001")
        set_aside_checkpoints(tmp_path)
    set_aside_checkpoints(tmp_path)
    assert names_in(tmp_path) == {"earlier-1", "earlier-2", "teacher.pth"}
    for folder in ("earlier-1", "earlier-2"):
        assert names_in(tmp_path / folder) == {"last_checkpoint", "model_0000001.pth"}


def refuse_in_both(folder: str) -> None:
    """In each of two processes."""
    cfg = config(Path(folder))
    run = begin(cfg)
    assert comm.all_gather_object(run.identity.id) == [run.identity.id] * 2
    for other, flags, error in (
        (config(Path(folder), "B"), {"resume": True}, ResumeError),
        (config(Path(folder, "run.yaml", "below")), {}, ConfigError),
    ):
        with pytest.raises(error) as raised:
            begin(other, **flags)
        assert len(set(comm.all_gather_object(str(raised.value)))) == 1
    Path(folder, f"done{comm.get_rank()}").touch()


@pytest.mark.slow
def test_a_refusal_stops_all_processes_with_the_same_error(tmp_path):
    launch(refuse_in_both, 2, args=(str(tmp_path),))
    assert {"done0", "done1"} < names_in(tmp_path)
