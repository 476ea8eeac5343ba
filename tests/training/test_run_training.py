"""run_training and run_evaluation: files, figures, resuming, distillation, several processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fpnas.archs import Architecture
from fpnas.config import CfgNode, get_cfg
from fpnas.data import TestLoader, build_dataset, preprocessing
from fpnas.engine import launch
from fpnas.errors import ResumeError
from fpnas.training import ClassificationTrainer, load_trained, run_evaluation, run_training
from fpnas.training.accuracy import evaluate
from fpnas.utils.checkpoint import read_checkpoint


class Killed(Exception):
    """Stands for a kill: nothing is saved on the way out."""


def with_keys(cfg: CfgNode, **keys: object) -> CfgNode:
    """``cfg`` with dotted keys (``__`` for the dot) changed, frozen."""
    cfg = cfg.clone()
    cfg.defrost()
    for key, value in keys.items():
        cfg.merge_from_list([key.replace("__", "."), str(value)])
    cfg.freeze()
    return cfg


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch):
    """killed_after(n): the next training raises Killed in place of step n."""

    def arrange(step: int) -> None:
        run_step = ClassificationTrainer.run_step

        def run_step_or_die(self: ClassificationTrainer) -> None:
            if self.iter == step:
                monkeypatch.setattr(ClassificationTrainer, "run_step", run_step)
                raise Killed
            run_step(self)

        monkeypatch.setattr(ClassificationTrainer, "run_step", run_step_or_die)

    return arrange


def final_state(cfg: CfgNode) -> dict:
    """All that model_final.pth holds but times, the config's own text and the run's id."""
    contents = read_checkpoint(Path(cfg.OUTPUT_DIR) / "model_final.pth")
    del contents["config"], contents["run_id"]
    for name in ("time", "data_time"):
        del contents["trainer"]["scalars"]["latest"][name]
    return contents


def assert_same(found: Any, expected: Any, where: str = "checkpoint") -> None:
    """Equal structure, equal values, equal bits of tensors."""
    assert type(found) is type(expected), where
    if isinstance(found, dict):
        assert list(found) == list(expected), where
        for key in found:
            assert_same(found[key], expected[key], f"{where}.{key}")
    elif isinstance(found, (list, tuple)):
        assert len(found) == len(expected), where
        for index, pair in enumerate(zip(found, expected, strict=True)):
            assert_same(*pair, f"{where}[{index}]")
    elif isinstance(found, torch.Tensor):
        assert torch.equal(found, expected), where
    else:
        assert found == expected, where


def lines_of(cfg: CfgNode) -> list[dict]:
    lines = (Path(cfg.OUTPUT_DIR) / "metrics.json").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [
        {name: value for name, value in record.items() if not name.endswith("time")}
        for record in records
    ]


def test_a_training_writes_its_files_and_returns_its_figures(cfg, arch):
    cfg = with_keys(cfg, SOLVER__EMA_DECAY=0.9, SOLVER__EPOCHS=20, MODEL__DROP_PATH=0.0)
    result = run_training(cfg)
    output = Path(cfg.OUTPUT_DIR)
    assert result["top1"] >= 90  # six colours; guessing gives 17
    assert result["top1"] <= result["top5"] <= 100
    assert (result["flops"], result["params"]) == (arch.flops(12), arch.params)
    assert result["weights"] == "ema"
    assert yaml.safe_load((output / "result.yaml").read_text()) == result
    assert Architecture.load(output / "architecture.yaml") == arch
    saved = get_cfg()
    saved.merge_from_file(output / "config.yaml")
    assert saved == cfg
    lines = lines_of(cfg)
    assert [line["iteration"] for line in lines] == list(range(80))
    assert {"loss", "train_top1", "grad_norm", "lr", "test_top1", "test_loss"} <= set(lines[-1])
    assert result["best_top1"] == max(line.get("test_top1", 0) for line in lines)
    assert (output / "last_checkpoint").read_text() == "model_final.pth"
    assert "The training" in (output / "report.html").read_text()
    best = read_checkpoint(output / "model_best.pth")
    assert best["iteration"] == result["best_iteration"] and "trainer" not in best


def test_model_final_holds_the_evaluated_network_and_all_it_needs(cfg):
    cfg = with_keys(cfg, SOLVER__EMA_DECAY=0.9)
    result = run_training(cfg)
    images = build_dataset(cfg, "test")
    for name in ("model_final.pth", "model_best.pth"):
        trained = load_trained(Path(cfg.OUTPUT_DIR) / name)
        assert trained.description.classes == images.classes
        assert trained.description.preprocessing == preprocessing(cfg)
        scores = evaluate(trained.model, TestLoader(images, cfg, 5))
        expected = result["top1"] if name == "model_final.pth" else result["best_top1"]
        assert scores["top1"] == pytest.approx(expected)
    trained = load_trained(Path(cfg.OUTPUT_DIR) / "model_final.pth")
    assert evaluate(trained.model, TestLoader(images, cfg, 250))["loss"] == pytest.approx(
        result["loss"], rel=1e-5
    )


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_a_killed_and_resumed_training_ends_with_the_same_bits(
    cfg, tmp_path, killed_after, ema_decay, optimizer
):
    keys = {"SOLVER__EMA_DECAY": ema_decay, "SOLVER__OPTIMIZER": optimizer, "SOLVER__LR": 0.01}
    whole, broken = (
        with_keys(cfg, OUTPUT_DIR=tmp_path / name, **keys) for name in ("whole", "broken")
    )
    expected = run_training(whole)
    killed_after(6)  # in the second epoch, after the checkpoint of step 4
    with pytest.raises(Killed):
        run_training(broken)
    torch.rand(3)  # whatever a new process has done before
    assert run_training(broken, resume=True) == expected
    assert_same(final_state(broken), final_state(whole))
    assert lines_of(broken) == lines_of(whole)


def test_a_training_resumes_with_another_rate(cfg, tmp_path, killed_after):
    slower = {"SOLVER__LR": cfg.SOLVER.LR / 100}
    whole = with_keys(cfg, OUTPUT_DIR=tmp_path / "whole", **slower)
    run_training(whole)
    killed_after(6)
    with pytest.raises(Killed):
        run_training(cfg)
    with pytest.raises(ResumeError, match=r"SOLVER\.LR: 0\.05 then, 0\.0005 now"):
        run_training(with_keys(cfg, **slower), resume=True)
    run_training(with_keys(cfg, **slower), resume=True, allow_changes=True)
    run_training(with_keys(cfg, **slower), resume=True)  # these are its own by now
    log = (Path(cfg.OUTPUT_DIR) / "log.txt").read_text()
    assert log.count("SOLVER.LR: 0.05 then, 0.0005 now") == 1
    rates, expected = ([line["lr"] for line in lines_of(c)] for c in (cfg, whole))
    assert rates[-1] == expected[-1] < rates[0] / 50


def test_resuming_a_finished_training_returns_its_result_again(cfg):
    cfg = with_keys(cfg)
    expected = run_training(cfg)
    assert run_training(cfg, resume=True) == expected


def test_the_best_checkpoint_is_never_the_one_resumed_from(cfg, killed_after):
    cfg = with_keys(cfg, SOLVER__LR=1e-9)  # nothing gets better than at the first evaluation
    killed_after(9)
    with pytest.raises(Killed):
        run_training(cfg)
    output = Path(cfg.OUTPUT_DIR)
    assert read_checkpoint(output / "model_best.pth")["iteration"] == 4
    assert (output / "last_checkpoint").read_text() == "model_0000008.pth"


def test_a_fine_tuning_starts_from_the_weights_and_resumes_without_them(
    cfg, tmp_path, killed_after
):
    first = with_keys(cfg, OUTPUT_DIR=tmp_path / "first", SOLVER__EMA_DECAY=0.9)
    run_training(first)
    weights = tmp_path / "weights.pth"
    shutil.copy(tmp_path / "first" / "model_final.pth", weights)
    tuned = with_keys(cfg, MODEL__WEIGHTS=weights, SOLVER__LR=1e-12, SOLVER__EMA_DECAY=0.9)
    killed_after(5)
    with pytest.raises(Killed):
        run_training(tuned)
    weights.unlink()
    run_training(tuned, resume=True)
    start = read_checkpoint(tmp_path / "first" / "model_final.pth")["model"]
    end = read_checkpoint(Path(tuned.OUTPUT_DIR) / "model_final.pth")["model"]
    for name in ("stem.conv.weight", "head.fc.weight"):
        torch.testing.assert_close(end[name], start[name])


def test_a_training_in_the_folder_of_a_search_loses_none_of_its_files(cfg, arch):
    output = Path(cfg.OUTPUT_DIR)
    names = ["config.yaml", "metrics.json", "report.html", "search_result.pth", "model_final.pth"]
    output.mkdir()
    for name in [*names, "mine.txt"]:
        (output / name).write_text("of the search")
    (output / "target-6M").mkdir()
    arch.save(output / "architecture.yaml")
    searched = (output / "architecture.yaml").read_bytes()
    cfg = with_keys(cfg, SOLVER__EPOCHS=1, MODEL__ARCH=output / "architecture.yaml")
    run_training(cfg)
    aside = output / "earlier-1"
    assert {(aside / name).read_text() for name in names} == {"of the search"}
    assert (aside / "target-6M").is_dir()
    assert (aside / "architecture.yaml").read_bytes() == searched
    assert (output / "mine.txt").is_file() and not (output / "search_result.pth").exists()
    assert lines_of(cfg)[-1]["iteration"] == 3
    run_training(cfg, resume=True)
    assert not (output / "earlier-2").exists()


def test_an_evaluation_repeats_the_figures_and_writes_nothing(cfg, tmp_path):
    trained = with_keys(cfg, SOLVER__EMA_DECAY=0.9)
    result = run_training(trained)
    weights = Path(trained.OUTPUT_DIR) / "model_final.pth"
    for arch in (trained.MODEL.ARCH, ""):
        other = with_keys(
            cfg, OUTPUT_DIR=tmp_path / "none", MODEL__WEIGHTS=weights, MODEL__ARCH=arch
        )
        found = run_evaluation(other)
        assert found == {name: result[name] for name in ("top1", "top5", "loss", "flops", "params")}
    assert not (tmp_path / "none").exists()


def test_an_evaluation_with_other_preprocessing_or_classes_warns(cfg, caplog, image_root, tmp_path):
    trained = with_keys(cfg, SOLVER__EPOCHS=1)
    run_training(trained)
    weights = Path(trained.OUTPUT_DIR) / "model_final.pth"
    renamed = tmp_path / "renamed"
    shutil.copytree(image_root, renamed)
    (renamed / "train" / "black").rename(renamed / "train" / "ebony")
    (renamed / "val" / "black").rename(renamed / "val" / "ebony")
    keys = {"MODEL__WEIGHTS": weights, "DATA__STD": "(1.0, 1.0, 1.0)", "DATA__ROOT": renamed}
    run_evaluation(with_keys(cfg, **keys))
    assert "classes of other names or order" in caplog.text
    assert "std=(0.229, 0.224, 0.225)" in caplog.text and "std=(1.0, 1.0, 1.0)" in caplog.text


def test_distillation_pulls_the_student_to_its_teacher(cfg, tmp_path):
    teacher = with_keys(cfg, OUTPUT_DIR=tmp_path / "teacher", SOLVER__EPOCHS=20)
    run_training(teacher)
    keys = {
        "SOLVER__DISTILL__ARCH": cfg.MODEL.ARCH,
        "SOLVER__DISTILL__WEIGHTS": tmp_path / "teacher" / "model_final.pth",
        "SOLVER__DISTILL__WEIGHT": 1.0,
        "MODEL__WEIGHTS": tmp_path / "teacher" / "model_final.pth",
        "SOLVER__LABEL_SMOOTHING": 0.5,
    }
    student = with_keys(cfg, SOLVER__LR=1e-12, MODEL__DROP_PATH=0.0, MODEL__DROPOUT=0.0, **keys)
    run_training(student)
    # At weight 1 the labels' loss, at least log(12) - ... > 0.5 here, must not be in it. What is
    # left is the difference between batch statistics and running ones.
    assert lines_of(student)[-1]["loss"] < 0.5


@pytest.mark.slow
def test_two_processes_train_one_network_and_agree_on_its_accuracy(cfg, tmp_path):
    cfg = with_keys(cfg, SOLVER__EPOCHS=2, SOLVER__EMA_DECAY=0.9)
    launch(run_training, 2, args=(cfg,))
    result = yaml.safe_load((Path(cfg.OUTPUT_DIR) / "result.yaml").read_text())
    # One process alone finds the same figures for the file: what was evaluated in two shares were
    # the main process's BatchNorm statistics, and no image was counted twice.
    weights = Path(cfg.OUTPUT_DIR) / "model_final.pth"
    alone = run_evaluation(with_keys(cfg, MODEL__WEIGHTS=weights))
    assert alone["top1"] == pytest.approx(result["top1"])
    assert alone["loss"] == pytest.approx(result["loss"], rel=1e-5)
    assert len(read_checkpoint(weights)["trainer"]["rng"]) == 2
