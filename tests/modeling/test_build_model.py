from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torchvision.ops import StochasticDepth

import fpnas
from fpnas.archs import get_arch
from fpnas.config import get_cfg
from fpnas.errors import CheckpointError, ConfigError, UnknownNameError
from fpnas.modeling import SearchedNet, build_model
from fpnas.spaces import get_space


@pytest.fixture
def arch_file(tmp_path) -> str:
    space = get_space("FP-NAS-Micro")
    choices = space.sample(1, torch.Generator().manual_seed(0))[0]
    space.architecture(choices, "mine").save(tmp_path / "mine.yaml")
    return str(tmp_path / "mine.yaml")


def config(**model):
    cfg = get_cfg()
    for key, value in model.items():
        cfg.MODEL[key] = value
    return cfg


def test_by_name() -> None:
    model = build_model(config(ARCH="fbnetv2_f1"))
    assert isinstance(model, SearchedNet)
    assert model.arch == get_arch("fbnetv2_f1")
    assert fpnas.build_model is build_model


def test_by_file_with_another_number_of_classes(arch_file: str) -> None:
    assert build_model(config(ARCH=arch_file)).arch.num_classes == 10
    model = build_model(config(ARCH=arch_file, NUM_CLASSES=3))
    assert model.arch.num_classes == 3
    assert model(torch.randn(2, 3, 28, 28)).shape == (2, 3)


def test_dropout_and_drop_path(arch_file: str) -> None:
    model = build_model(config(ARCH=arch_file, DROPOUT=0.25, DROP_PATH=0.5))
    assert model.head.dropout.p == 0.25
    rates = [module.p for module in model.modules() if isinstance(module, StochasticDepth)]
    assert rates and max(rates) > 0


@pytest.mark.parametrize("key", ["DROPOUT", "DROP_PATH"])
@pytest.mark.parametrize("value", [2.0, 1.0, -1.0])
def test_probabilities_that_are_none(arch_file: str, key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"MODEL\.{key} is {value}; valid: 0 or more, below 1"):
        build_model(config(ARCH=arch_file, **{key: value}))
    with pytest.raises(ConfigError, match=rf"MODEL\.{key} is {value}"):
        fpnas.model_zoo.get("mobilenetv2_100", **{key.lower(): value})


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights(arch_file: str, tmp_path, suffix: str) -> None:
    torch.manual_seed(0)
    source = build_model(config(ARCH=arch_file)).eval()
    path = str(tmp_path / f"weights{suffix}")
    if suffix == ".pth":
        torch.save({"model": source.state_dict()}, path)
    else:
        save_file(source.state_dict(), path)
    model = build_model(config(ARCH=arch_file, WEIGHTS=path)).eval()
    x = torch.randn(2, 3, 28, 28)
    assert torch.equal(model(x), source(x))
    assert not torch.equal(build_model(config(ARCH=arch_file)).eval()(x), source(x))


def test_weights_of_another_architecture(arch_file: str, tmp_path) -> None:
    path = str(tmp_path / "weights.pth")
    torch.save({"model": build_model(config(ARCH=arch_file, NUM_CLASSES=3)).state_dict()}, path)
    with pytest.raises(CheckpointError, match=r"head\.fc\.weight"):  # nobody asked for 10 classes
        build_model(config(ARCH=arch_file, WEIGHTS=path))
    with pytest.raises(CheckpointError, match=r"stem\.conv\.weight"):
        build_model(config(ARCH="fbnetv2_f1", NUM_CLASSES=10, IN_CHANNELS=1, WEIGHTS=path))


def test_errors(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"MODEL\.ARCH is empty"):
        build_model(config())
    with pytest.raises(UnknownNameError, match="mean 'fbnetv2_f"):
        build_model(config(ARCH="fbnetv2_f9"))
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        build_model(config(ARCH=str(tmp_path / "none.yaml")))
