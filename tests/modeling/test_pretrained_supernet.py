"""Supernets that start from a trained network, and the order of its channels."""

import copy

import pytest
import torch
from torch import nn

from fpnas.archs import Architecture, get_arch
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec, PooledHeadSpec, SkipSpec
from fpnas.errors import CheckpointError
from fpnas.modeling import SearchedNet, pretrained_supernet
from fpnas.modeling.channel_order import magnitudes, order_channels, taylor_scores
from fpnas.spaces import NetworkSpace

BLOCKS = (
    MBConvSpec(16, expansion=1, splits=1),
    MBConvSpec(24, stride=2, kernel=5, expansion=4, splits=2),
    MBConvSpec(24, kernel=5, expansion=3),
    SkipSpec(24),
    SkipSpec(32),
    MBConvSpec(32, expansion=1, kernel=5),
    ConvSpec(40, kernel=1),
)


def trained(arch, seed=0):
    """A network of ``arch`` as if it had been trained: no number is at its initial value."""
    torch.manual_seed(seed)
    network = SearchedNet(arch)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.3)
            nn.init.normal_(layer.running_mean, 0, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
        elif isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.normal_(layer.bias, 0, 0.3)
    return network.eval()


def toy(*blocks, head=HeadSpec(32, 10)):  # noqa: B008 - frozen
    return Architecture("toy", 32, ConvSpec(16, stride=2), (blocks[:2], blocks[2:]), head)


def padded(*blocks):
    """With shortcuts between maps of different widths."""
    return tuple(
        MBConvSpec(b.channels, b.stride, b.kernel, b.expansion, shortcut="always") for b in blocks
    )


ARCHS = {
    "all blocks": toy(*BLOCKS),
    "pooled head": toy(*BLOCKS, head=PooledHeadSpec(48, 10, bias=True)),
    "shortcuts everywhere": toy(*padded(*(b for b in BLOCKS if isinstance(b, MBConvSpec)))),
    "mobilenetv3_small_100": get_arch("mobilenetv3_small_100"),
    "efficientnet_lite0": get_arch("efficientnet_lite0").with_num_classes(10),
}


@pytest.mark.parametrize("arch", ARCHS.values(), ids=ARCHS)
@torch.no_grad()
def test_order_changes_nothing_but_the_order(arch):
    network = trained(arch)
    images = torch.randn(2, 3, 64, 64)
    before = network(images)
    weights = copy.deepcopy(network.state_dict())
    order_channels(network, magnitudes(network))
    moved = [not torch.equal(weights[name], value) for name, value in network.state_dict().items()]
    assert sum(moved) > len(moved) / 4
    torch.testing.assert_close(network(images), before, rtol=1e-3, atol=1e-4 * before.abs().max())


@pytest.mark.parametrize("arch", ARCHS.values(), ids=ARCHS)
@torch.no_grad()
def test_largest_is_the_network_and_the_smallest_works(arch):
    network = trained(arch)
    space = NetworkSpace.around(arch)
    supernet = pretrained_supernet(network, space).eval()
    images = torch.randn(2, 3, 64, 64)
    expected = network(images)
    found = supernet.extract(space.origin_choices)(images)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max())
    smallest = supernet(images, [0] * len(space.variables))
    assert smallest.shape == (2, arch.num_classes) and smallest.isfinite().all()


@torch.no_grad()
def test_the_best_channels_come_first():
    """By hand: the inner channels of a block whose scales are known."""
    network = trained(toy(*BLOCKS))
    norm = network.stage2[0].depthwise.bn
    norm.weight.copy_(torch.linspace(0.1, 2.0, len(norm.weight)))
    network.stage2[0].project.conv.weight.fill_(1.0)
    order_channels(network, magnitudes(network))
    assert norm.weight.diff().lt(0).all()


def test_taylor_scores_name_the_channels_that_the_loss_needs():
    """A channel whose projection is 0 cannot matter."""
    network = trained(toy(*BLOCKS))
    block = network.stage2[0]
    with torch.no_grad():
        block.project.conv.weight[:, ::2] = 0
    batches = [(torch.randn(4, 3, 32, 32), torch.arange(4)) for _ in range(2)]
    scores = taylor_scores(network, batches)["stage2.0.depthwise.bn"]
    assert scores[::2].eq(0).all() and scores[1::2].gt(0).any()
    assert all(p.grad is None for p in network.parameters()) and not network.training


def test_weights_of_another_architecture_are_refused():
    network = trained(toy(*BLOCKS))
    with pytest.raises(CheckpointError, match="'toy'.*lies around 'efficientnet_lite0'"):
        pretrained_supernet(network, NetworkSpace.around(get_arch("efficientnet_lite0")))
