"""A finished training becomes a published network with its accuracy."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from fpnas import model_zoo
from fpnas.archs import Architecture
from fpnas.config import get_cfg
from fpnas.data import build_dataset, preprocessing
from fpnas.errors import CheckpointError
from fpnas.model_zoo.verify import OK, verify
from fpnas.modeling import SearchedNet
from fpnas.spaces import get_space
from fpnas.training import run_evaluation
from fpnas.training.artifact import Description
from fpnas_zoo.publish import Training, data_hash, publish_run
from fpnas_zoo.searches import searches

FACTS = Training("quick/train.yaml", "clothes", "1,000 test images", "", "0123abc", "MIT")


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """OUTPUT_DIR of a training on the embedded images, which has hardly learned anything."""
    space = get_space("FP-NAS-Micro")
    arch = dataclasses.replace(space.architecture(space.sample(1)[0]), name="tiny")
    folder = tmp_path / "out"
    folder.mkdir()
    arch.save(folder / "architecture.yaml")
    cfg = get_cfg()
    cfg.SEED, cfg.SOLVER.EMA_DECAY = 3, 0.9
    (folder / "config.yaml").write_text(cfg.dump())
    torch.manual_seed(0)
    net = SearchedNet(arch)
    about = Description(net.arch, preprocessing(cfg), tuple(build_dataset(cfg, "test").classes))
    torch.save({"model": net.state_dict(), **about.to_dict()}, folder / "model_final.pth")
    return folder


def test_record_has_what_the_files_tell_and_the_accuracy(zoo: Path, finished: Path) -> None:
    record = publish_run(finished, "clothes", str(finished / "architecture.yaml"), FACTS)
    assert record == model_zoo.info("clothes").record
    assert {check.status for check in verify()} == {OK}
    assert (record.seed, record.commit, record.data_hash, record.search) == (
        3,
        "0123abc",
        *[None] * 2,
    )
    assert record.source.startswith("trained with fpnas: weights are the average")
    metric = record.metric("top1")
    assert metric.command == "fpnas eval --model clothes"
    again = run_evaluation(model_zoo.get_config("clothes"), record.class_names)
    assert metric.value == round(again["top1"], 2) > 0


def test_architectures_of_a_search_bring_its_cost(zoo: Path, finished: Path) -> None:
    arch = Architecture.load(finished / "architecture.yaml")
    dataclasses.replace(arch, name="fp_nas_c10_s").save(finished / "architecture.yaml")
    record = publish_run(finished, "clothes", str(finished / "architecture.yaml"), FACTS)
    [search] = [s for s in searches() if any(f.arch == "fp_nas_c10_s" for f in s.found)]
    assert record.search == search.cost
    assert record.source.startswith("searched and trained with fpnas")


def test_distillation_stands_in_the_source(zoo: Path, finished: Path) -> None:
    cfg = get_cfg()
    cfg.merge_from_file(str(finished / "config.yaml"))
    cfg.SOLVER.DISTILL.ARCH = str(finished / "architecture.yaml")
    cfg.SOLVER.DISTILL.WEIGHTS = "teacher.pth"
    (finished / "config.yaml").write_text(cfg.dump())
    record = publish_run(finished, "clothes", str(finished / "architecture.yaml"), FACTS)
    assert record.source.startswith("trained with fpnas, distilled from tiny: weights are the")


@pytest.mark.parametrize("file", ["config.yaml", "model_final.pth"])
def test_unfinished_trainings_are_refused(zoo: Path, finished: Path, file: str) -> None:
    (finished / file).unlink()
    with pytest.raises(CheckpointError, match=f"there is no {file}"):
        publish_run(finished, "clothes", str(finished / "architecture.yaml"), FACTS)
    assert list(zoo.iterdir()) == []


def test_data_hash_is_of_names_and_contents(tmp_path: Path) -> None:
    def of(**files: str) -> str | None:
        root = tmp_path / "-".join(files)
        (root / "sub").mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (root / "sub" / name).write_text(text)
        cfg = get_cfg()
        cfg.DATA.ROOT = str(root)
        return data_hash(cfg)

    first = of(a="1", b="2")
    assert first == of(a="1", b="2") and first.startswith("sha256:")
    assert len({first, of(a="1", b="3"), of(a="1", c="2")}) == 3
    assert data_hash(get_cfg()) is None
