from __future__ import annotations

from functools import cache

import pytest
import timm
import torch
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn

from fpnas.archs import Architecture, get_arch
from fpnas.blocks import HeadSpec, MBConvSpec, SkipSpec
from fpnas.contrib.timm import to_timm
from fpnas.errors import CheckpointError
from fpnas.model_zoo.layouts import from_timm_state
from fpnas.modeling import SearchedNet

# One network of each family, under our name and timm's. Numbers of the others: test_named.py.
FAMILIES = {
    "efficientnet_b0": "efficientnet_b0",
    "efficientnet_lite0": "tf_efficientnet_lite0",
    "fbnetc_100": "fbnetc_100",
    "hardcorenas_d": "hardcorenas_d",
    "mnasnet_100": "mnasnet_100",
    "mobilenetv2_100": "mobilenetv2_100",
    "mobilenetv3_large_100": "mobilenetv3_large_100",
    "mobilenetv3_small_100": "mobilenetv3_small_100",
    "semnasnet_100": "semnasnet_100",
    "spnasnet_100": "spnasnet_100",
}


@cache
def pair(name: str) -> tuple[SearchedNet, nn.Module]:
    """Ours with the weights of timm's, whose BatchNorms and biases are random, too."""
    torch.manual_seed(0)
    theirs = timm.create_model(FAMILIES[name], pretrained=False)
    with torch.no_grad():
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                module.weight.normal_(1, 0.1)
                module.bias.normal_(0, 0.1)
            elif isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
                module.bias.normal_(0, 0.5)
    ours = SearchedNet(get_arch(name))
    ours.load_state_dict(from_timm_state(theirs.state_dict(), ours.arch))
    return ours, theirs


@pytest.mark.parametrize("name", FAMILIES)
def test_outputs_equal_timms(name: str) -> None:
    ours, theirs = (net.eval() for net in pair(name))
    x = torch.randn(2, 3, 64, 67, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(x)
        scale = expected.abs().max().item()
        assert scale > 1e-3
        torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize(
    "name", ["efficientnet_b0", "efficientnet_lite0", "fbnetc_100", "mobilenetv3_small_100"]
)
def test_gradients_equal_timms(name: str) -> None:
    """In training mode, in double precision: batch statistics of few pixels magnify rounding."""
    ours, theirs = (net.train().double() for net in pair(name))
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(2)).double()
    for net in (ours, theirs):
        net.zero_grad()
        net(x).square().sum().backward()
    expected = {**theirs.state_dict(), **{n: p.grad for n, p in theirs.named_parameters()}}
    expected = from_timm_state(expected, ours.arch)
    for parameter, value in ours.named_parameters():
        scale = expected[parameter].abs().max().item()
        torch.testing.assert_close(value.grad, expected[parameter], rtol=1e-5, atol=1e-5 * scale)
    for key, value in ours.named_buffers():
        torch.testing.assert_close(value, expected[key])
    for net in (ours, theirs):
        net.float()


def shapes(name: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        return timm.create_model(name).state_dict()


def test_everything_that_does_not_fit_is_listed() -> None:
    state = shapes("mobilenetv3_small_100")
    state["stranger"] = state.pop("blocks.1.0.conv_pw.weight")
    state["conv_head.bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError) as error:
        from_timm_state(state, get_arch("mobilenetv3_small_100"))
    for part in ("blocks.1.0.conv_pw.weight", "stage2.0.expand.conv.weight", "stranger"):
        assert part in str(error.value)
    assert "conv_head.bias (3,)" in str(error.value) and "(1024,)" in str(error.value)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("mnasnet_100", "spnasnet_100"),
        ("semnasnet_100", "mnasnet_100"),
        ("mobilenetv3_large_100", "efficientnet_b0"),
    ],
)
def test_another_network_is_refused(name: str, other: str) -> None:
    with pytest.raises(CheckpointError, match=f"'{name}'"):
        from_timm_state(shapes(other), get_arch(name))


def test_another_number_of_classes_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"classifier\.weight \(1000, 1280\).*\(10, 1280\)"):
        from_timm_state(shapes("mnasnet_100"), get_arch("mnasnet_100").with_num_classes(10))


def test_skips_are_counted_as_in_to_timm() -> None:
    """The identity is no block of timm, another skip is its convolution."""
    arch = Architecture(
        "skips",
        64,
        get_arch("mnasnet_100").stem,
        (
            (SkipSpec(32), MBConvSpec(16, 2, expansion=1)),
            (SkipSpec(16),),
            (SkipSpec(24, 2), MBConvSpec(24)),
        ),
        HeadSpec(1280, 10, "relu"),
    )
    assert to_timm(arch) == [["ds_r1_k3_s2_c16"], ["cn_r1_k1_s2_c24", "ir_r1_k3_s1_e6_c24"]]
    with torch.device("meta"):
        twin = EfficientNet(
            decode_arch_def(to_timm(arch)),
            num_classes=10,
            num_features=1280,
            stem_size=arch.stem.channels,
        )
    made = {
        name: torch.full(value.shape, float(number))
        for number, (name, value) in enumerate(twin.state_dict().items())
    }
    own = SearchedNet(arch).state_dict()
    mapped = from_timm_state(made, arch)
    assert {n: v.shape for n, v in mapped.items()} == {n: v.shape for n, v in own.items()}
    assert torch.equal(mapped["stage3.0.conv.weight"], made["blocks.1.0.conv.weight"])
    assert torch.equal(mapped["stage1.1.project.bn.bias"], made["blocks.0.0.bn2.bias"])
