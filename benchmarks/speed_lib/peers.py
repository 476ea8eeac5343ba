"""Networks of timm to compare with."""

from __future__ import annotations

from functools import partial

import timm
import torch
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from torch import nn

from fpnas.archs import Architecture
from fpnas.blocks import HeadSpec
from fpnas.blocks.mbconv import MBConvSpec
from fpnas.blocks.spec import round_channels
from fpnas.errors import UserError
from fpnas.modeling import SearchedNet

_ACT_CODES = {"relu": "re", "swish": "sw", "hswish": "hs"}
_ACTS = {"relu": nn.ReLU, "swish": nn.SiLU, "hswish": nn.Hardswish}


def peer(name: str) -> nn.Module:
    """timm's network ``name`` with fresh weights."""
    return timm.create_model(name, pretrained=False)


def timm_twin(arch: Architecture) -> EfficientNet:
    """``arch`` built by timm's own builder, with fresh weights.

    For a stem of stride 2, MBConv blocks with at most one split and a plain head; UserError else.
    """
    head = arch.head
    supported = (
        isinstance(head, HeadSpec)
        and arch.stem.stride == 2
        and arch.stem.act == head.act
        and all(isinstance(b, MBConvSpec) and b.splits <= 1 for b in arch.blocks)
    )
    if not supported:
        raise UserError(f"timm's builder has no twin of the architecture '{arch.name}'.")
    return EfficientNet(
        decode_arch_def([[_block(spec) for spec in stage] for stage in arch.stages]),
        num_classes=head.num_classes,
        num_features=head.channels,
        stem_size=arch.stem.channels,
        stem_kernel_size=arch.stem.kernel,
        act_layer=_ACTS[head.act],
        se_layer=_SE_LAYER,
        round_chs_fn=round_channels,
    )


def same_network(network: SearchedNet, twin: nn.Module, input_size: int) -> bool:
    """Whether both compute the same logits once ``twin`` has the weights of ``network``.

    Tensors are matched in order of execution; equal logits mean equal weights and multiply-adds.
    """
    ours, theirs = network.state_dict(), twin.state_dict()
    if [value.shape for value in ours.values()] != [value.shape for value in theirs.values()]:
        return False
    twin.load_state_dict(dict(zip(theirs, ours.values(), strict=True)))
    images = torch.randn(2, 3, input_size, input_size)
    with torch.no_grad():
        logits = network.eval()(images)
        return torch.allclose(logits, twin.eval()(images), rtol=1e-3, atol=1e-4)


def _block(spec: MBConvSpec) -> str:
    kind = "ds" if spec.expansion == 1 else f"ir_e{spec.expansion:g}"
    attention = f"_se{0.25 * spec.expansion:g}" if spec.splits else ""  # timm: of the input
    return (
        f"{kind}_r1_k{spec.kernel}_s{spec.stride}_c{spec.channels}"
        f"_n{_ACT_CODES[spec.act]}{attention}"
    )


def _hidden_channels(quarter: float) -> int:
    return round_channels(round(quarter))


# Our gates are wider than timm's default and always go through a ReLU.
_SE_LAYER = partial(SqueezeExcite, force_act_layer=nn.ReLU, rd_round_fn=_hidden_channels)
