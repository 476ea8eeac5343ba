"""Weights become a network: what they know themselves, what the config adds, what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from fpnas.config import get_cfg
from fpnas.data import preprocessing
from fpnas.errors import CheckpointError, ConfigError
from fpnas.modeling import SearchedNet
from fpnas.training import load_network, load_trained, run_evaluation, run_training
from fpnas.training.artifact import Description, describe_weights

NAMES = ("black", "blue", "green", "red", "white", "yellow")


def save(arch, file: Path, about: Description | None) -> str:
    torch.manual_seed(3)
    described = {} if about is None else about.to_dict()
    torch.save({"model": SearchedNet(arch).state_dict(), **described}, file)
    return str(file)


@pytest.fixture
def described(cfg, arch, tmp_path: Path) -> str:
    about = dataclasses.replace(preprocessing(cfg), mean=(0.5, 0.5, 0.5))
    return save(arch, tmp_path / "described.pth", Description(arch, about, NAMES))


@pytest.fixture
def alone(arch, tmp_path: Path) -> str:
    return save(arch, tmp_path / "alone.pth", None)


@pytest.fixture
def three(cfg, arch, tmp_path: Path) -> str:
    """Of three classes."""
    arch = arch.with_num_classes(3)
    about = Description(arch, preprocessing(cfg), ("a", "b", "c"))
    return save(arch, tmp_path / "three.pth", about)


def same(model: SearchedNet, file: str) -> bool:
    stored = torch.load(file)["model"]
    return all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("with_arch", [True, False])
def test_weights_that_describe_themselves(cfg, described, with_arch):
    cfg.MODEL.WEIGHTS, cfg.MODEL.ARCH = described, cfg.MODEL.ARCH if with_arch else ""
    net = load_network(cfg, ("of", "the", "data"))
    assert same(net.model, described) and not net.model.training
    assert net.description.classes == NAMES
    assert net.description.preprocessing.mean == (0.5, 0.5, 0.5)
    cfg.MODEL.NUM_CLASSES = 6
    load_network(cfg)
    cfg.MODEL.NUM_CLASSES = 5
    with pytest.raises(ConfigError, match=r"MODEL\.NUM_CLASSES is 5; valid: 6, the classes of"):
        load_network(cfg)


def test_another_network_of_the_same_shapes_is_refused(cfg, arch, described, tmp_path):
    head = dataclasses.replace(arch.head, act="relu")
    dataclasses.replace(arch, name="edited", head=head).save(tmp_path / "edited.yaml")
    cfg.MODEL.WEIGHTS, cfg.MODEL.ARCH = described, str(tmp_path / "edited.yaml")
    with pytest.raises(CheckpointError, match="another architecture than 'edited'"):
        load_network(cfg)
    cfg.MODEL.WEIGHTS = cfg.MODEL.ARCH = ""
    cfg.SOLVER.DISTILL.ARCH = str(tmp_path / "edited.yaml")
    cfg.SOLVER.DISTILL.WEIGHTS = described
    cfg.MODEL.ARCH = str(tmp_path / "edited.yaml")
    with pytest.raises(CheckpointError, match="another architecture than 'edited'"):
        run_training(cfg)


def test_weights_alone_have_the_config_s_description(cfg, alone):
    cfg.MODEL.WEIGHTS = alone
    net = load_network(cfg, NAMES)
    assert same(net.model, alone)
    assert net.description == Description(net.model.arch, preprocessing(cfg), NAMES)
    with pytest.raises(ConfigError, match=r"does not name the network's classes"):
        load_network(cfg)
    with pytest.raises(CheckpointError, match=r"of another shape.*head\.fc\.weight"):
        load_network(cfg, NAMES[:4])
    cfg.MODEL.ARCH = ""
    with pytest.raises(CheckpointError, match=r"without their architecture.*MODEL\.ARCH"):
        load_network(cfg, NAMES)
    with pytest.raises(CheckpointError, match="without their architecture"):
        load_trained(alone)
    with pytest.raises(CheckpointError, match="without their architecture"):
        run_training(cfg)
    assert not Path(cfg.OUTPUT_DIR).exists()


def test_without_weights_the_network_is_random(cfg):
    assert load_network(cfg, NAMES).model.arch.num_classes == 6
    cfg.MODEL.ARCH = ""
    for run in (lambda: load_network(cfg, NAMES), lambda: run_training(cfg)):
        with pytest.raises(ConfigError, match=r"MODEL\.ARCH is empty"):
            run()


def test_published_weights_are_described_by_their_record():
    cfg = get_cfg()
    cfg.MODEL.WEIGHTS = "zoo://fp_nas_fmnist_xs"
    net = load_network(cfg)
    assert net.description == describe_weights(cfg.MODEL.WEIGHTS)
    assert len(net.description.classes) == net.model.arch.num_classes == 10
    stored = load_trained(cfg.MODEL.WEIGHTS).model.state_dict()
    assert all(torch.equal(w, stored[name]) for name, w in net.model.state_dict().items())


@pytest.mark.parametrize("with_arch", [True, False])
def test_an_evaluation_needs_the_classes_of_the_data(cfg, three, with_arch):
    cfg.MODEL.WEIGHTS, cfg.MODEL.ARCH = three, cfg.MODEL.ARCH if with_arch else ""
    with pytest.raises(ConfigError, match=r"has 3 classes, the data set 'image_folder' has 6"):
        run_evaluation(cfg)


def test_a_training_starts_from_the_architecture_of_its_weights(cfg, three, tmp_path):
    """It can be resumed when the file is gone."""
    arch, cfg.MODEL.ARCH, cfg.MODEL.WEIGHTS = cfg.MODEL.ARCH, "", three
    cfg.SOLVER.EPOCHS, cfg.DATA.INPUT_SIZE = 1, 16
    result = run_training(cfg)
    log = (Path(cfg.OUTPUT_DIR) / "log.txt").read_text()
    assert "is a network for DATA.INPUT_SIZE 12, this run has 16" in log
    assert "dropped for a fresh classifier of 6 classes" in log
    Path(three).unlink()
    assert run_training(cfg, resume=True) == result
    trained = load_trained(Path(cfg.OUTPUT_DIR) / "model_final.pth")
    cfg.MODEL.ARCH, cfg.MODEL.WEIGHTS = arch, ""
    trained.description.check_same_network(load_network(cfg, NAMES).model.arch, "")


def test_a_teacher_may_know_its_architecture(cfg, described, three):
    cfg.SOLVER.DISTILL.WEIGHTS, cfg.SOLVER.EPOCHS = three, 1
    with pytest.raises(CheckpointError, match=r"SOLVER\.DISTILL\.WEIGHTS.*has 3 classes.*has 6"):
        run_training(cfg)
    assert not Path(cfg.OUTPUT_DIR).exists()
    cfg.SOLVER.DISTILL.WEIGHTS = described
    run_training(cfg)
