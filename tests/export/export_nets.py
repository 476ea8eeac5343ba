"""A small MBConv network with a spread of outputs, and smooth colour images for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIZE = 32
CLASSES = 5


class ConvBNAct(nn.Module):
    def __init__(self, cin: int, cout: int, kernel: int, stride: int, groups: int, act: nn.Module):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(cout)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.reduce = nn.Conv2d(channels, 4, 1)
        self.expand = nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.expand(torch.relu(self.reduce(gate))))


class TinyMBConvNet(nn.Module):
    """Stem, one MBConv block with squeeze-excite and shortcut, head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBNAct(3, 8, 3, 2, 1, nn.Hardswish())
        self.expand = ConvBNAct(8, 24, 1, 1, 1, nn.SiLU())
        self.depthwise = ConvBNAct(24, 24, 3, 1, 24, nn.SiLU())
        self.attention = SqueezeExcite(24)
        self.project = ConvBNAct(24, 8, 1, 1, 1, nn.Identity())
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.project(self.attention(self.depthwise(self.expand(x))))
        return self.classifier(self.dropout(x.mean((2, 3))))


def smooth_images(count: int, seed: int) -> Tensor:
    """Coloured blobs, float32 (count, 3, SIZE, SIZE)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 4, 4, generator=generator)
    return nn.functional.interpolate(coarse, SIZE, mode="bilinear")


def tiny_net(seed: int = 0) -> TinyMBConvNet:
    """In train mode, BatchNorm statistics and affine parameters far from their initial values."""
    torch.manual_seed(seed)
    net = TinyMBConvNet()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias, std=0.5)
    return calibrate(net)


def calibrate(net: nn.Module) -> nn.Module:
    """Let the BatchNorms average over some batches, so that outputs depend on the image."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        for step in range(5):
            net.train()(smooth_images(16, seed=100 + step))
    return net
