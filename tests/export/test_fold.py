from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fpnas.export import fold_bn


def count_bn(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_folded_network_is_equal_and_has_no_batchnorm(net, images):
    before = {key: value.clone() for key, value in net.state_dict().items()}
    folded = fold_bn(net)
    assert count_bn(folded) == 0
    torch.testing.assert_close(net.eval()(images), folded(images), rtol=1e-5, atol=1e-6)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_original_keeps_its_mode_and_the_copy_its_classes(net):
    folded = fold_bn(net)
    assert net.training and not folded.training
    assert type(folded.stem) is type(net.stem)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
    affine=st.booleans(),
    stride=st.integers(1, 2),
)
def test_any_conv_and_batchnorm(seed, groups, bias, affine, stride):
    torch.manual_seed(seed)
    conv = nn.Conv2d(4, 8, 3, stride, 1, groups=groups, bias=bias)
    bn = nn.BatchNorm2d(8, affine=affine)
    bn.running_mean.normal_()
    bn.running_var.uniform_(0.1, 3.0)
    pair = nn.Sequential(conv, bn).eval()
    x = torch.randn(2, 4, 9, 9)
    folded = fold_bn(pair)
    assert isinstance(folded[1], nn.Identity)
    torch.testing.assert_close(pair(x), folded(x), rtol=1e-4, atol=1e-5)


class SharedConvOutput(nn.Module):
    """The convolution's output is used beside the BatchNorm: folding would change the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + self.bn(y)


class CalledTwice(nn.Module):
    """One convolution, two BatchNorms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.first = nn.BatchNorm2d(3)
        self.second = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.conv(self.first(self.conv(x))))


class WrongOrder(nn.Module):
    """Defined conv, bn; executed bn, conv."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.bn(x))


@pytest.mark.parametrize("make", [SharedConvOutput, CalledTwice, WrongOrder])
def test_what_cannot_be_folded_stays(make, images):
    torch.manual_seed(0)
    model = make()
    model(images)  # BatchNorm statistics that differ from (0, 1)
    folded = fold_bn(model)
    assert count_bn(folded) == count_bn(model)
    torch.testing.assert_close(model.eval()(images), folded(images))


def test_batch_statistics_are_not_folded(images):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    assert count_bn(fold_bn(model)) == 1


class ControlFlow(nn.Module):
    """fx cannot trace a branch on a value; the children are folded all the same."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if x.sum() > 0 else self.body(-x)


def test_untraceable_parent_folds_its_children(net, images):
    model = ControlFlow(net)
    folded = fold_bn(model)
    assert count_bn(folded) == 0
    torch.testing.assert_close(model.eval()(images), folded(images), rtol=1e-5, atol=1e-6)
