"""Split-Attention, of which Squeeze-Excite is the case of one split."""

from __future__ import annotations

from torch import Tensor, nn

from fpnas.layers.conv import build_activation, build_gate


class SplitAttention(nn.Module):
    """Weighs R splits of a feature map against each other, channel by channel.

    ``[N, C * R, H, W] -> [N, C, H, W]``. The splits of a channel are neighbours: feature
    ``c * R + r`` is split r of channel c, the order in which a depthwise convolution with channel
    multiplier R writes them. Gates come from the globally pooled sum of the splits through two
    fully connected layers (``C -> hidden``, ``act``, ``hidden -> C * R``); they are a softmax over
    the R splits, or the sigmoid-like ``gate`` for R = 1, which makes that case exactly
    Squeeze-Excite.

    Source: Figure 2 of the paper; ResNeSt (Zhang et al. 2020) without its cardinal groups.
    """

    def __init__(
        self, channels: int, hidden: int, splits: int, act: str = "relu", gate: str = "sigmoid"
    ) -> None:
        super().__init__()
        self.splits = splits
        # 1x1 convolutions on the pooled map: the same sums as linear layers, no reshapes.
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.act = build_activation(act)
        self.fc2 = nn.Conv2d(hidden, channels * splits, 1)
        self.gate = build_gate(gate) if splits == 1 else nn.Softmax(2)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        if self.splits == 1:
            return x * self.gate(self.fc2(self.act(self.fc1(self.pool(x)))))
        splits = x.unflatten(1, [-1, self.splits])  # [N, C, R, H, W]
        # Pooling is linear, so the pooled sum of the splits is the sum of the pooled splits.
        pooled = self.pool(x).unflatten(1, [-1, self.splits]).sum(2)  # [N, C, 1, 1]
        logits = self.fc2(self.act(self.fc1(pooled))).unflatten(1, [-1, self.splits])
        return (splits * self.gate(logits)).sum(2)
