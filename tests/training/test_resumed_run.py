"""Whose run ``--resume`` goes on with: after kills, and with other images."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from fpnas.cli import main
from fpnas.config import CfgNode
from fpnas.errors import ResumeError
from fpnas.modeling import SearchedNet
from fpnas.search.run import run_search
from fpnas.training import fit, run, run_training
from fpnas.utils.checkpoint import read_checkpoint

# A new run is killed in the middle of moving the files of the one before it.
KILLED_WHILE_MOVING = """
import os, sys
from pathlib import Path
from fpnas.config import get_cfg
from fpnas.training import run_training
rename, moved = Path.rename, []
def rename_or_die(self, target):
    if len(moved) == 3:
        os._exit(9)
    moved.append(rename(self, target))
Path.rename = rename_or_die
cfg = get_cfg()
cfg.merge_from_file(sys.argv[1])
run_training(cfg)
"""


class Killed(BaseException):
    """Stands for a kill."""


def other(cfg: CfgNode, *pairs: object) -> CfgNode:
    cfg = cfg.clone()
    cfg.merge_from_list([str(item) for item in pairs])
    return cfg


@pytest.fixture
def short(cfg: CfgNode) -> CfgNode:
    return other(cfg, "SOLVER.EPOCHS", 1)


@pytest.fixture
def kill_in(monkeypatch: pytest.MonkeyPatch):
    """kill_in(name, cfg): train, killed where the training calls its function ``name``."""

    def train(name: str, cfg: CfgNode) -> None:
        def die(*args: object, **kwargs: object) -> None:
            raise Killed

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(run if hasattr(run, name) else fit, name, die)
            run_training(cfg)

    return train


def final(cfg: CfgNode) -> dict[str, torch.Tensor]:
    return read_checkpoint(Path(cfg.OUTPUT_DIR) / "model_final.pth")["model"]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], value) for name, value in second.items())


def test_a_run_that_was_killed_while_it_decoded_is_the_one_that_is_resumed(
    short, tmp_path, kill_in
):
    run_training(short)
    first, second = final(short), other(short, "SOLVER.LR", 0.01)
    expected = run_training(other(second, "OUTPUT_DIR", tmp_path / "whole"))
    kill_in("cache_images", second)
    with pytest.raises(ResumeError, match=r"SOLVER\.LR: 0\.01 then, 0\.05 now"):
        run_training(short, resume=True)
    assert run_training(second, resume=True) == expected
    assert not same(final(second), first)
    assert same(final(other(short, "OUTPUT_DIR", tmp_path / "out" / "earlier-1")), first)


def test_a_run_that_was_killed_before_it_had_the_folder_left_the_earlier_one(short, kill_in):
    expected = run_training(short)
    second = other(short, "SOLVER.LR", 0.01)
    kill_in("begin_run", second)
    with pytest.raises(ResumeError, match=r"SOLVER\.LR: 0\.05 then, 0\.01 now"):
        run_training(second, resume=True)
    assert run_training(short, resume=True) == expected
    assert not (Path(short.OUTPUT_DIR) / "earlier-1").exists()


def test_a_run_that_was_killed_while_it_moved_files_starts_from_its_own_weights(
    short, arch, tmp_path
):
    run_training(short)
    torch.save(SearchedNet(arch).state_dict(), tmp_path / "weights.pth")
    second = other(short, "SOLVER.LR", 1e-12, "MODEL.WEIGHTS", tmp_path / "weights.pth")
    (tmp_path / "config.yaml").write_text(second.dump())
    command = [sys.executable, "-c", KILLED_WHILE_MOVING, str(tmp_path / "config.yaml")]
    root = Path(__file__).parents[2]
    killed = subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    assert killed.returncode == 9
    output = Path(second.OUTPUT_DIR)
    assert 3 <= len(list((output / "earlier-1").iterdir())) < 7
    with pytest.raises(ResumeError):
        run_training(short, resume=True)
    run_training(second, resume=True)
    weights = SearchedNet(arch)
    weights.load_state_dict(torch.load(tmp_path / "weights.pth"))
    torch.testing.assert_close(final(second)["stem.conv.weight"], weights.stem.conv.weight.data)
    assert {"model_final.pth", "run.yaml"} < {f.name for f in (output / "earlier-1").iterdir()}
    assert "holds files" not in (output / "log.txt").read_text().rsplit("Flags", 1)[1]


def test_images_that_differ_are_refused_and_named(short, tmp_path, image_root, capsys):
    shutil.copytree(image_root, tmp_path / "images")
    ours = other(short, "DATA.ROOT", tmp_path / "images")
    run_training(short)
    run_training(ours, resume=True)  # the same images, elsewhere
    (tmp_path / "images" / "train" / "red" / "3.png").unlink()
    (tmp_path / "config.yaml").write_text(ours.dump())
    command = ["train", "--resume", "--config-file", str(tmp_path / "config.yaml")]
    assert main(command) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "train images: 48 then, 47 now (missing: train/red/3.png)" in said
    assert main([*command[:2], "--allow-changes", *command[2:]]) == 0
    assert "train images: 48 then, 47 now" in (Path(ours.OUTPUT_DIR) / "log.txt").read_text()
    assert main([command[0], "--allow-changes", *command[2:]]) == 2
    assert "--allow-changes goes with --resume only" in capsys.readouterr().err


def test_a_search_does_not_go_on_with_a_training_nor_a_training_with_a_search(short):
    run_training(short)
    search = other(
        *(short, "SEARCH.TARGET", 3e6, "SEARCH.WARMUP_EPOCHS", 0, "SEARCH.JOINT_EPOCH", 0),
        *("SEARCH.VAL_BATCH_SIZE", 12),
    )
    with pytest.raises(ResumeError, match="holds a training, which a search cannot go on with"):
        run_search(search, resume=True, allow_changes=True)


def test_a_folder_of_an_earlier_version_is_resumed(short):
    expected = run_training(short)
    output = Path(short.OUTPUT_DIR)
    (output / "run.yaml").unlink()
    for name in ("model_final.pth", "model_best.pth"):
        contents = read_checkpoint(output / name)
        del contents["run_id"]
        torch.save(contents, output / name)
    with pytest.raises(ResumeError, match=r"SOLVER\.LR"):
        run_training(other(short, "SOLVER.LR", 0.01), resume=True)
    assert not (output / "run.yaml").exists()
    assert run_training(short, resume=True) == expected
    assert "whether they are the same cannot be told" in (output / "log.txt").read_text()
    assert yaml.safe_load((output / "run.yaml").read_text())["takes_unmarked"] is True
    assert run_training(short, resume=True) == expected


@pytest.mark.parametrize(
    ("key", "value"), [("CHECKPOINT.KEEP", 1), ("TEST.PERIOD", -1), ("SOLVER.BATCH_SIZE", 49)]
)
def test_what_is_refused_without_decoding_leaves_the_earlier_run(short, key, value):
    output = Path(short.OUTPUT_DIR)
    run_training(short)
    before = {file: file.read_bytes() for file in output.iterdir()}
    with pytest.raises(Exception, match=key):
        run_training(other(short, key, value))
    assert {file: file.read_bytes() for file in output.iterdir()} == before
