"""A training's checkpoint becomes a published network."""

from __future__ import annotations

import pytest
import torch
from zoo_cases import CLASSES, PREPROCESSING, tiny_arch, tiny_net

from fpnas import model_zoo
from fpnas.errors import CheckpointError
from fpnas.model_zoo.verify import OK, verify
from fpnas.training.artifact import Description
from fpnas_zoo.publish import Provenance, publish

PROVENANCE = Provenance(
    dataset="three pets",
    recipe="quick/train.yaml",
    commit="0123abc",
    seed=1,
    data_hash="sha256:77",
    licence="MIT",
    source="made up",
)


@pytest.fixture
def checkpoint(tmp_path):
    """model_final.pth of the tiny network; its architecture lies beside it."""
    net = tiny_net()
    tiny_arch().save(tmp_path / "arch.yaml")
    about = Description(net.arch, PREPROCESSING, CLASSES)
    path = tmp_path / "model_final.pth"
    torch.save({"model": net.state_dict(), **about.to_dict()}, path)
    return path


def test_published_network_verifies_and_predicts(zoo, checkpoint):
    arch_file = str(checkpoint.with_name("arch.yaml"))
    metrics = (model_zoo.Metric("top1", 90.0, "pets", command="fpnas eval"),)
    record = publish("pets", str(checkpoint), arch_file, PROVENANCE, metrics)
    assert {check.status for check in verify()} == {OK}
    assert model_zoo.info("pets").record == record
    assert (record.seed, record.classes, record.preprocessing) == (1, CLASSES, PREPROCESSING)
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    net = model_zoo.get("pets", pretrained=True).eval()
    with torch.inference_mode():
        torch.testing.assert_close(net(image), tiny_net()(image), rtol=1e-2, atol=1e-2)


def test_another_architecture_is_refused(zoo, checkpoint):
    with pytest.raises(CheckpointError, match="another architecture"):
        publish("pets", str(checkpoint), "fbnetv2_f1", PROVENANCE)
    assert list(zoo.iterdir()) == []


def test_values_beyond_fp16_are_refused(zoo, checkpoint):
    contents = torch.load(checkpoint, weights_only=True)
    contents["model"]["stem.bn.running_var"][0] = 1e6
    torch.save(contents, checkpoint)
    with pytest.raises(CheckpointError, match="'stem.bn.running_var'.*fp16"):
        publish("pets", str(checkpoint), str(checkpoint.with_name("arch.yaml")), PROVENANCE)
    assert list(zoo.iterdir()) == []
