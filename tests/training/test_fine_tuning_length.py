"""Batch, rate and epochs of a fine-tuning, from the number of images."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpnas.config import find_config, get_cfg
from fpnas.training import load_trained, run_training
from fpnas.training.fine_tuning import batch_size_for, epochs_for, with_length


@given(st.integers(2, 100_000), st.sampled_from([1, 2, 3, 8]))
def test_every_number_of_images_makes_steps(num_images: int, world_size: int) -> None:
    batch = batch_size_for(num_images, world_size)
    assert batch % world_size == 0
    assert batch <= max(32, world_size)
    if num_images >= 4 * world_size:
        steps = num_images // batch
        assert steps >= 1
        assert steps * epochs_for(num_images, batch) >= min(400, 40 * steps)


def test_few_images_are_seen_more_often() -> None:
    lengths = {n: epochs_for(n, batch_size_for(n)) for n in (20, 250, 1_000, 3_000, 20_000)}
    assert lengths == {20: 40, 250: 27, 1_000: 13, 3_000: 10, 20_000: 10}
    batches = {n: batch_size_for(n) for n in (6, 20, 250, 1_000, 20_000)}
    assert batches == {6: 2, 20: 5, 250: 16, 1_000: 32, 20_000: 32}


def test_zeros_are_filled_in_and_the_rate_follows_the_batch() -> None:
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.EPOCHS", "0", "SOLVER.BATCH_SIZE", "0", "SOLVER.LR", "0.02"])
    cfg.freeze()
    filled = with_length(cfg, 250).SOLVER
    assert (filled.BATCH_SIZE, filled.EPOCHS, filled.LR) == (16, 27, pytest.approx(0.01))
    assert cfg.SOLVER.EPOCHS == 0


def test_given_numbers_stay() -> None:
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.EPOCHS", "3", "SOLVER.BATCH_SIZE", "24", "SOLVER.LR", "0.02"])
    assert with_length(cfg, 250) is cfg
    cfg.merge_from_list(["SOLVER.EPOCHS", "0"])
    filled = with_length(cfg, 240).SOLVER
    assert (filled.BATCH_SIZE, filled.EPOCHS, filled.LR) == (24, 40, 0.02)


def test_the_recipe_needs_data_and_a_model_only(image_root, arch_file, tmp_path: Path) -> None:
    cfg = get_cfg()
    cfg.merge_from_file(find_config("quick/finetune.yaml"))
    cfg.merge_from_list(
        [
            *("MODEL.ARCH", str(arch_file), "OUTPUT_DIR", str(tmp_path / "out")),
            *("DATA.ROOT", str(image_root), "DATA.INPUT_SIZE", "12", "DATA.NUM_WORKERS", "0"),
            *("TEST.PERIOD", "0", "CHECKPOINT.PERIOD", "20", "LOG.TENSORBOARD", "False"),
        ]
    )
    result = run_training(cfg)
    assert result["top1"] > 90  # of six colours, after 40 epochs of four steps
    log = (tmp_path / "out" / "log.txt").read_text()
    assert f"Data: image_folder {image_root}: 6 classes, 48 training and 18 test images" in log
    written = get_cfg()
    written.merge_from_file(tmp_path / "out" / "config.yaml")
    assert (written.SOLVER.BATCH_SIZE, written.SOLVER.EPOCHS) == (12, 40)
    assert load_trained(tmp_path / "out" / "model_final.pth").description.classes[0] == "black"


def test_batch_norm_is_frozen_where_pretrained_weights_meet_few_images():
    cfg = get_cfg()
    cfg.merge_from_file(find_config("quick/finetune.yaml"))
    assert with_length(cfg, 250).MODEL.NORM == "BN"  # fresh weights need statistics
    cfg.MODEL.WEIGHTS = "zoo://efficientnet_lite0"
    assert with_length(cfg, 250).MODEL.NORM == "FrozenBN"
    assert with_length(cfg, 3_000).MODEL.NORM == "BN"
    cfg.MODEL.NORM = "BN"
    assert with_length(cfg, 250).MODEL.NORM == "BN"
