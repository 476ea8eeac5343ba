"""Wrong input: a message that names it, before anything is written."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from fpnas.archs import Architecture
from fpnas.config import CfgNode
from fpnas.data import ImageFiles
from fpnas.errors import CheckpointError, ConfigError, DivergedError, UserError
from fpnas.modeling import SearchedNet
from fpnas.training import ClassificationTrainer, load_trained, run_evaluation, run_training
from fpnas.utils.checkpoint import read_checkpoint


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding an image is an error: what can be known before it shall be said before it."""

    def decode(self: ImageFiles, index: int) -> None:
        raise AssertionError("An image was decoded.")

    monkeypatch.setattr(ImageFiles, "image", decode)


def error_of(cfg: CfgNode, *pairs: object, kind: type[UserError], run=run_training) -> str:
    """Change keys, run, expect an error and no output folder; the message."""
    cfg.merge_from_list([str(item) for item in pairs])
    with pytest.raises(kind) as error:
        run(cfg)
    assert not Path(cfg.OUTPUT_DIR).exists()
    return str(error.value)


@pytest.fixture
def weights(arch: Architecture, tmp_path: Path) -> Path:
    """Weights alone, of the tiny architecture."""
    file = tmp_path / "weights.pth"
    torch.save({"model": SearchedNet(arch).state_dict()}, file)
    return file


@pytest.fixture
def wider_file(arch: Architecture, tmp_path: Path) -> Path:
    """The tiny architecture with a wider head."""
    head = dataclasses.replace(arch.head, channels=64)
    file = tmp_path / "wider.yaml"
    dataclasses.replace(arch, name="wider", head=head).save(file)
    return file


def test_number_of_classes_that_is_not_the_data_s(cfg):
    message = error_of(cfg, "MODEL.NUM_CLASSES", 10, kind=ConfigError)
    assert "MODEL.NUM_CLASSES is 10" in message and "6 classes" in message


def test_unusable_solver_key(cfg):
    assert "'cosine'" in error_of(cfg, "SOLVER.SCHEDULE", "cosin", kind=ConfigError)


def test_weights_of_another_architecture(cfg, weights, wider_file):
    message = error_of(
        cfg, "MODEL.WEIGHTS", weights, "MODEL.ARCH", wider_file, kind=CheckpointError
    )
    assert "head.conv.conv.weight" in message


@pytest.mark.parametrize("run", [run_training, run_evaluation])
@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("MODEL.ARCH", "fbnetv2_f", "mean 'fbnetv2_f"), ("MODEL.WEIGHTS", "none.pth", "'none.pth'")],
)
def test_what_needs_no_images_is_checked_before_they_are_decoded(
    cfg, weights, no_decoding, run, key, value, words
):
    pairs = ["MODEL.WEIGHTS", weights, key, value]
    assert words in error_of(cfg, *pairs, kind=UserError, run=run)


def test_a_folder_that_cannot_be_written_to_is_found_before_images_are_decoded(
    cfg, weights, no_decoding
):
    cfg.OUTPUT_DIR = str(weights / "below")
    with pytest.raises(ConfigError, match=r"OUTPUT_DIR '.*below'.*weights\.pth is no folder"):
        run_training(cfg)


def test_teacher_without_weights(cfg):
    message = error_of(cfg, "SOLVER.DISTILL.ARCH", cfg.MODEL.ARCH, kind=ConfigError)
    assert "SOLVER.DISTILL.WEIGHTS is empty" in message


def test_teacher_without_architecture(cfg, weights):
    message = error_of(cfg, "SOLVER.DISTILL.WEIGHTS", weights, kind=ConfigError)
    assert "SOLVER.DISTILL.ARCH is empty" in message


def test_teacher_with_weights_of_another_architecture(cfg, weights, wider_file):
    message = error_of(
        cfg, "SOLVER.DISTILL.ARCH", wider_file, "SOLVER.DISTILL.WEIGHTS", weights,
        kind=CheckpointError,
    )  # fmt: skip
    assert str(weights) in message


def test_evaluation_without_weights(cfg):
    message = error_of(cfg, kind=ConfigError, run=run_evaluation)
    assert "MODEL.WEIGHTS is empty" in message


def test_evaluation_of_weights_alone_needs_an_architecture(cfg, weights):
    message = error_of(
        cfg, "MODEL.WEIGHTS", weights, "MODEL.ARCH", "", kind=CheckpointError, run=run_evaluation
    )
    assert "MODEL.ARCH" in message
    cfg.MODEL.ARCH = "unknown_net"
    error_of(cfg, kind=UserError, run=run_evaluation)


def test_same_shapes_but_another_network(cfg, arch, tmp_path):
    """Weights fit a network with another activation; their description does not."""
    cfg.SOLVER.EPOCHS = 1
    run_training(cfg)
    other = dataclasses.replace(
        arch, name="other", head=dataclasses.replace(arch.head, act="hswish")
    )
    other.save(tmp_path / "other.yaml")
    cfg.MODEL.ARCH = str(tmp_path / "other.yaml")
    with pytest.raises(CheckpointError, match=r"its head is .*act='swish'.*act='hswish'"):
        run_training(cfg, resume=True, allow_changes=True)
    cfg.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR) / "model_final.pth")
    with pytest.raises(CheckpointError, match="another architecture than 'other'"):
        run_evaluation(cfg)


def test_a_failed_resumption_leaves_the_files_of_the_run(cfg, wider_file):
    cfg.SOLVER.EPOCHS = 1
    run_training(cfg)
    files = [path for path in Path(cfg.OUTPUT_DIR).iterdir() if path.name != "log.txt"]
    before = {path: path.read_bytes() for path in files}
    cfg.MODEL.ARCH = str(wider_file)
    with pytest.raises(CheckpointError, match="does not fit the model"):
        run_training(cfg, resume=True, allow_changes=True)
    assert {path: path.read_bytes() for path in files} == before


def test_resuming_on_other_classes(cfg, tmp_path, image_root):
    cfg.SOLVER.EPOCHS = 1
    run_training(cfg)
    shutil.copytree(image_root, tmp_path / "renamed")
    for split in ("train", "val"):
        (tmp_path / "renamed" / split / "red").rename(tmp_path / "renamed" / split / "aaa")
    cfg.DATA.ROOT = str(tmp_path / "renamed")
    with pytest.raises(CheckpointError, match=r"other classes: black, blue.*data has aaa, black"):
        run_training(cfg, resume=True, allow_changes=True)


def test_averaging_that_came_after_the_checkpoint(cfg):
    cfg.SOLVER.EPOCHS = 1
    run_training(cfg)
    cfg.SOLVER.EMA_DECAY = 0.9
    with pytest.raises(CheckpointError, match=r"SOLVER\.EMA_DECAY"):
        run_training(cfg, resume=True, allow_changes=True)


def test_a_training_that_diverges_keeps_its_last_good_checkpoint(cfg, monkeypatch):
    run_step = ClassificationTrainer.run_step

    def run_step_with_nan(self: ClassificationTrainer) -> None:
        if self.iter == 6:
            with torch.no_grad():
                self.model.head.fc.weight[0, 0] = torch.nan
        run_step(self)

    monkeypatch.setattr(ClassificationTrainer, "run_step", run_step_with_nan)
    with pytest.raises(DivergedError, match=r"iteration 6.*SOLVER\.LR"):
        run_training(cfg)
    folder = Path(cfg.OUTPUT_DIR)
    assert (folder / "last_checkpoint").read_text() == "model_0000004.pth"
    saved = read_checkpoint(folder / "model_0000004.pth")
    assert all(value.isfinite().all() for value in saved["model"].values())
    assert not (folder / "model_final.pth").exists()


def test_a_huge_learning_rate_ends_as_a_diverged_run(cfg):
    cfg.merge_from_list(["SOLVER.LR", "1e30"])
    with pytest.raises(DivergedError):
        run_training(cfg)
    assert not (Path(cfg.OUTPUT_DIR) / "model_final.pth").exists()


def test_a_file_that_is_no_checkpoint_cannot_be_rebuilt(tmp_path):
    (tmp_path / "model.pth").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match=r"model\.pth"):
        load_trained(tmp_path / "model.pth")
