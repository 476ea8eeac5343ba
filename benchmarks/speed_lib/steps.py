"""The training steps that are compared: forward, backward, optimizer step, gradients cleared."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fpnas.modeling import SuperNet
from fpnas.solver import SharedSGD

LR, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 4e-5

Step = Callable[[], None]
Batch = tuple[Tensor, Tensor]


def random_batch(size: int, input_size: int, num_classes: int, seed: int = 0) -> Batch:
    """Noise images (N, 3, S, S) in channels_last and random labels (N,)."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, input_size, input_size, generator=generator)
    labels = torch.randint(num_classes, (size,), generator=generator)
    return images.contiguous(memory_format=torch.channels_last), labels


def sgd(parameters: list[nn.Parameter]) -> torch.optim.SGD:
    """The optimizer of all comparisons."""
    return torch.optim.SGD(
        parameters, lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, foreach=True
    )


def network_step(network: nn.Module, batch: Batch) -> Step:
    """A step of a network of its own, as any training loop does it."""
    network.train().to(memory_format=torch.channels_last)
    return _step(network, sgd(list(network.parameters())), batch)


def sliced_step(supernet: SuperNet, optimizer: SharedSGD, choices: Tensor, batch: Batch) -> Step:
    """A step of one sampled architecture on the shared weights; binding it is part of the step."""
    return _step(lambda images: supernet(images, choices), optimizer, batch)


def shared_sgd(supernet: SuperNet) -> SharedSGD:
    """:func:`sgd` for shared weights."""
    return SharedSGD(supernet.store, LR, MOMENTUM, WEIGHT_DECAY, WEIGHT_DECAY)


def _step(
    forward: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer, batch: Batch
) -> Step:
    images, labels = batch

    def step() -> None:
        F.cross_entropy(forward(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
