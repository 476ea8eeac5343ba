"""Hard-swish and hard-sigmoid out of Add, Clip and Mul.

NNAPI and CoreML, as ONNX Runtime hands graphs to them, take neither HardSwish nor HardSigmoid, and
the whole graph falls apart into pieces. ONNX Runtime's own kernels fuse HardSwish with the
convolution before it, so that this form is slower on a CPU.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fpnas.export.rewrites.modules import replace_modules


class PlainHardswish(nn.Module):
    """``x clip(x + 3, 0, 6) / 6``, any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (F.relu6(x + 3) * (1 / 6))


class PlainHardsigmoid(nn.Module):
    """``clip(x + 3, 0, 6) / 6``, any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x + 3) * (1 / 6)


def plain_hswish(network: nn.Module) -> None:
    """Rewrite every ``nn.Hardswish`` and ``nn.Hardsigmoid``."""
    replace_modules(network, nn.Hardswish, lambda _: PlainHardswish())
    replace_modules(network, nn.Hardsigmoid, lambda _: PlainHardsigmoid())
