from __future__ import annotations

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fpnas.layers import SplitAttention


def squeeze_excite(layer: SplitAttention, x: Tensor) -> Tensor:
    """Squeeze-Excite by matrix products on the pooled vector."""
    hidden = torch.relu(x.mean((2, 3)) @ layer.fc1.weight.flatten(1).T + layer.fc1.bias)
    gates = torch.sigmoid(hidden @ layer.fc2.weight.flatten(1).T + layer.fc2.bias)
    return x * gates[:, :, None, None]


def split_attention(layer: SplitAttention, x: Tensor, splits: int) -> tuple[Tensor, Tensor]:
    """Output and gates ``[N, R, C]``, by a loop over the splits; split r of c is c * R + r."""
    parts = [x[:, r::splits] for r in range(splits)]
    total = torch.zeros_like(parts[0])
    for part in parts:
        total = total + part
    hidden = torch.relu(total.mean((2, 3)) @ layer.fc1.weight.flatten(1).T + layer.fc1.bias)
    logits = hidden @ layer.fc2.weight.flatten(1).T + layer.fc2.bias
    exponentials = torch.stack([logits[:, r::splits].exp() for r in range(splits)], 1)
    gates = exponentials / exponentials.sum(1, keepdim=True)
    return sum(part * gates[:, r, :, None, None] for r, part in enumerate(parts)), gates


def test_one_split_is_squeeze_excite() -> None:
    torch.manual_seed(0)
    layer, x = SplitAttention(12, 4, 1), torch.randn(3, 12, 5, 7)
    torch.testing.assert_close(layer(x), squeeze_excite(layer, x), rtol=1e-6, atol=1e-6)


def test_one_split_is_torchvisions_squeeze_excitation() -> None:
    torch.manual_seed(0)
    layer = SplitAttention(16, 8, 1)
    theirs = torchvision.ops.SqueezeExcitation(16, 8)
    theirs.load_state_dict(layer.state_dict())
    x = torch.randn(3, 16, 6, 6)
    assert torch.equal(layer(x), theirs(x))


@given(
    splits=st.sampled_from([2, 3, 4]),
    channels=st.integers(1, 6),
    hidden=st.integers(1, 5),
    size=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_splits_equal_the_loop(splits, channels, hidden, size, seed) -> None:
    torch.manual_seed(seed)
    layer = SplitAttention(channels, hidden, splits).double()
    x = torch.randn(2, channels * splits, size, size, dtype=torch.float64)
    expected, gates = split_attention(layer, x, splits)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(gates.sum(1), torch.ones_like(gates[:, 0]))


@pytest.mark.parametrize("splits", [2, 4])
def test_gates_sum_to_one(splits: int) -> None:
    """With all splits of a channel alike, the gated sum is that split itself."""
    torch.manual_seed(0)
    layer, split = SplitAttention(6, 3, splits), torch.randn(2, 6, 4, 4)
    torch.testing.assert_close(layer(split.repeat_interleave(splits, 1)), split)


def test_channel_order() -> None:
    """A gate that always picks split r of channel c returns feature c * R + r."""
    channels, splits = 3, 4
    layer = SplitAttention(channels, 2, splits)
    x = torch.randn(2, channels * splits, 2, 2)
    nn.init.zeros_(layer.fc2.weight)
    for picks in ([0, 0, 0], [3, 1, 2]):
        nn.init.constant_(layer.fc2.bias, -1e4)
        with torch.no_grad():
            for c, r in enumerate(picks):
                layer.fc2.bias[c * splits + r] = 1e4
        expected = torch.stack([x[:, c * splits + r] for c, r in enumerate(picks)], 1)
        torch.testing.assert_close(layer(x), expected)


def test_order_is_that_of_a_depthwise_convolution() -> None:
    """Multiplier R writes the R outputs of input channel c to c * R ... c * R + R - 1."""
    conv = nn.Conv2d(3, 6, 1, groups=3, bias=False)
    nn.init.ones_(conv.weight)
    x = torch.arange(3.0).view(1, 3, 1, 1)
    assert conv(x).flatten().tolist() == [0, 0, 1, 1, 2, 2]
