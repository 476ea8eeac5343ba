"""A fresh network starts near the loss of a guess, whatever the number of classes."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from fpnas.modeling import SearchedNet
from fpnas.spaces import get_space


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
