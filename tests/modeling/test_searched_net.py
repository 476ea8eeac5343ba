"""A fresh network starts near the loss of a guess, whatever the number of classes."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import StochasticDepth

from fpnas.archs import Architecture, get_arch
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec, PooledHeadSpec, SkipSpec
from fpnas.export import fold_bn
from fpnas.modeling import SearchedNet
from fpnas.modeling.searched_net import init_weights
from fpnas.spaces import get_space


def small_arch(**changes) -> Architecture:
    parts = {
        "name": "small",
        "input_size": 16,
        "stem": ConvSpec(channels=8),
        "stages": (
            (MBConvSpec(channels=8, expansion=1),),
            (MBConvSpec(channels=16, stride=2), MBConvSpec(channels=16, splits=2), SkipSpec(16)),
            (MBConvSpec(channels=16, splits=1),),
        ),
        "head": HeadSpec(channels=32, num_classes=5),
    }
    return Architecture(**{**parts, **changes})


def test_children_are_flat_and_in_order() -> None:
    net = SearchedNet(small_arch())
    names = [name for name, _ in net.named_children()]
    assert names == ["stem", "stage1", "stage2", "stage3", "head"]
    assert [name for name, _ in net.stage2.named_children()] == ["0", "1", "2"]
    x = torch.randn(2, 3, 16, 16)
    out = x
    for child in net.eval().children():
        out = child(out)
    assert torch.equal(net(x), out)
    assert out.shape == (2, 5)
    assert net.arch == small_arch()


def test_shapes_are_those_of_the_layers() -> None:
    net, arch = SearchedNet(small_arch()).eval(), small_arch()
    shapes = {}
    for layer in arch.layers():
        module = net.get_submodule(layer.name)
        module.register_forward_hook(
            lambda _, __, out, name=layer.name: shapes.update({name: tuple(out.shape)})
        )
    net(torch.zeros(1, 3, 16, 16))
    for layer in arch.layers()[:-1]:
        assert shapes[layer.name] == (1, layer.spec.channels, layer.out_size, layer.out_size)


def test_as_a_detection_backbone() -> None:
    net = SearchedNet(get_arch("fbnetv2_f1")).eval()
    getter = IntermediateLayerGetter(net, {"stage3": "c3", "stage4": "c4", "stage5": "c5"})
    features = getter(torch.zeros(1, 3, 64, 64))
    assert {name: tuple(f.shape) for name, f in features.items()} == {
        "c3": (1, 24, 8, 8),
        "c4": (1, 80, 4, 4),
        "c5": (1, 224, 2, 2),
    }


def test_slices_are_plain_networks() -> None:
    net, x = SearchedNet(small_arch()).eval(), torch.randn(1, 3, 16, 16)
    body = net[:-1]
    assert type(body) is nn.Sequential
    assert [name for name, _ in body.named_children()] == ["stem", "stage1", "stage2", "stage3"]
    assert torch.equal(net[-1](body(x)), net(x))
    assert net[0] is net.stem


def test_drop_path_grows_linearly_from_0() -> None:
    net = SearchedNet(small_arch(), drop_path=0.4)
    rates = {
        name: module.p
        for name, module in net.named_modules()
        if isinstance(module, StochasticDepth)
    }
    # Five blocks; those with a shortcut are numbers 0, 2 and 4.
    assert rates == {
        "stage1.0.drop_path": 0.0,
        "stage2.1.drop_path": pytest.approx(0.2),
        "stage3.0.drop_path": pytest.approx(0.4),
    }


def test_drop_path_of_one_block() -> None:
    net = SearchedNet(small_arch(stages=((MBConvSpec(channels=8),),)), drop_path=0.4)
    assert net.stage1[0].drop_path.p == 0


def test_drop_path_drops_whole_branches_in_training_only() -> None:
    torch.manual_seed(0)
    net = SearchedNet(small_arch(), drop_path=0.5)
    block, x = net.stage3[0], torch.randn(64, 16, 4, 4)
    unchanged = (block(x) == x).flatten(1).all(1).float().mean()
    assert 0.3 < unchanged < 0.7
    assert not (block.eval()(x) == x).flatten(1).all(1).any()


@pytest.mark.parametrize(
    "head",
    [HeadSpec(channels=32, num_classes=5), PooledHeadSpec(channels=32, num_classes=5)],
)
def test_dropout(head) -> None:
    net = SearchedNet(small_arch(head=head), dropout=0.3)
    assert net.head.dropout.p == 0.3
    assert SearchedNet(small_arch(head=head)).head.dropout.p == 0
    x = torch.randn(2, 3, 16, 16)
    net.stem.eval(), net.stage1.eval(), net.stage2.eval(), net.stage3.eval()
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_same_seed_same_weights() -> None:
    nets = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        nets.append(SearchedNet(small_arch()).state_dict()["stage2.1.expand.conv.weight"])
    assert torch.equal(nets[0], nets[1]) and not torch.equal(nets[0], nets[2])


@pytest.mark.parametrize(
    ("conv", "fan_out"),
    [
        (nn.Conv2d(64, 128, 1), 128),
        (nn.Conv2d(16, 96, 3), 9 * 96),
        (nn.Conv2d(512, 512, 5, groups=512), 25),
        (nn.Conv2d(512, 1024, 3, groups=512), 18),
    ],
)
def test_initial_convolutions(conv: nn.Conv2d, fan_out: int) -> None:
    torch.manual_seed(0)
    init_weights(conv)
    n, expected = conv.weight.numel(), math.sqrt(2 / fan_out)
    assert conv.weight.std().item() == pytest.approx(expected, rel=4 / math.sqrt(2 * n))
    assert conv.weight.mean().abs() < 4 * expected / math.sqrt(n)
    assert not conv.bias.any()


def test_initial_linear_and_batch_norm() -> None:
    torch.manual_seed(0)
    net = init_weights(nn.Sequential(nn.Linear(300, 25), nn.BatchNorm1d(25)))
    bound = 1 / math.sqrt(300)
    assert net[0].weight.abs().max() <= bound
    assert net[0].weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert not net[0].bias.any()
    assert net[1].weight.eq(1).all() and not net[1].bias.any()


def test_the_network_is_initialised_that_way() -> None:
    net = SearchedNet(small_arch(head=HeadSpec(channels=256, num_classes=64)))
    weight = net.head.fc.weight
    assert 0.9 / 16 < weight.abs().max() <= 1 / 16
    attention = net.stage3[0].attention
    assert not attention.fc1.bias.any() and not attention.fc2.bias.any()


def test_gradients_reach_every_parameter() -> None:
    net = SearchedNet(small_arch())
    net(torch.randn(4, 3, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_bn_eps_reaches_every_batch_norm() -> None:
    for eps in (1e-5, 1e-3):
        net = SearchedNet(small_arch(bn_eps=eps))
        assert {m.eps for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {eps}


@pytest.mark.parametrize("train", [True, False])
def test_scripted_network(train: bool) -> None:
    """With and without shortcut, every number of splits, both paddings, drop path."""
    stages = (
        (MBConvSpec(8, expansion=1), MBConvSpec(16, 2, padding="same")),
        tuple(MBConvSpec(16, act="relu6", splits=splits) for splits in (1, 2, 4)),
    )
    net = SearchedNet(small_arch(stages=stages), dropout=0.2, drop_path=0.3).train(train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(net)
    x, outputs = torch.randn(3, 3, 17, 16), []
    for network in (net, scripted):
        torch.manual_seed(0)
        outputs.append(network(x))
    assert torch.equal(*outputs)


def test_batch_norm_behind_same_padding_is_folded() -> None:
    stages = ((MBConvSpec(16, 2, padding="same"), MBConvSpec(16, splits=2)),)
    net = SearchedNet(small_arch(stem=ConvSpec(8, 3, 2, padding="same"), stages=stages)).eval()
    folded = fold_bn(net)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    for size in (32, 33):
        x = torch.randn(2, 3, size, 35)
        torch.testing.assert_close(folded(x), net(x))


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_first_loss_is_that_of_a_guess(num_classes: int) -> None:
    torch.manual_seed(0)
    space = get_space("FBNetV2-F").at(64, num_classes)
    network = SearchedNet(space.architecture(space.sample(1)[0])).train()
    with torch.no_grad():
        logits = network(torch.randn(16, 3, 64, 64))
    loss = F.cross_entropy(logits, torch.arange(16) % num_classes)
    assert float(loss) == pytest.approx(math.log(num_classes), rel=0.1, abs=0.1)
    assert logits.std() > 0.01
