from __future__ import annotations

import pytest
from export_nets import TinyMBConvNet, smooth_images, tiny_net
from torch import Tensor


@pytest.fixture
def net() -> TinyMBConvNet:
    return tiny_net()


@pytest.fixture(scope="session")
def images() -> Tensor:
    return smooth_images(7, seed=1)
