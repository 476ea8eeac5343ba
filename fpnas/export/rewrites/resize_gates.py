"""Gates brought to the size of their map before the multiplication.

ONNX Runtime multiplies in its blocked channel layout only where both shapes are equal, and leaves
it for a Mul that broadcasts. In int8 the plain Mul is the faster one.
"""

from __future__ import annotations

from torch import Tensor, nn

from fpnas.export.rewrites.modules import replace_modules
from fpnas.export.rewrites.operators import fill_map
from fpnas.layers import SplitAttention


class PlainScale(nn.Module):
    """Map ``[N, C, H, W]`` times gate ``[N, C, 1, 1]``, by broadcasting."""

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        return x * gate


class ResizedScale(nn.Module):
    """Map ``[N, C, H, W]`` times gate ``[N, C, 1, 1]``, which is written out as a map first."""

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        return x * fill_map(gate, x.shape[2], x.shape[3])


class ScaledSqueezeExcite(nn.Module):
    """Split-Attention of one split with :class:`ResizedScale`: ``[N, C, H, W] -> [N, C, H, W]``."""

    def __init__(self, attention: SplitAttention) -> None:
        super().__init__()
        self.pool = attention.pool
        self.fc1, self.act, self.fc2 = attention.fc1, attention.act, attention.fc2
        self.gate = attention.gate
        self.scale = ResizedScale()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(x, self.gate(self.fc2(self.act(self.fc1(self.pool(x))))))


def resize_gates(network: nn.Module) -> None:
    """Rewrite Squeeze-Excite, and what ``split_branches`` made of Split-Attention."""
    replace_modules(
        network,
        SplitAttention,
        lambda module: ScaledSqueezeExcite(module) if module.splits == 1 else module,
    )
    replace_modules(network, PlainScale, lambda _: ResizedScale())
