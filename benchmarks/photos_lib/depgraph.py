"""Rows of torch-pruning (DepGraph, Fang et al. 2023): structured pruning of timm's network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fpnas.errors import UserError
from fpnas.solver import build_optimizer
from photos_lib.row import Given, RowFailed
from photos_lib.training import multiply_adds

Batches = Iterator[tuple[Tensor, Tensor]]

# All channels together reach 100 % after so many steps; the budget ends it before.
_STEPS = 50
_CLOSE = 1.2  # times the budget: from here on it may end within a step, not to cut too much
_MAX_RATIO = 0.9  # of a layer: none dies
_ROUND_TO = 8  # channels, as our networks have them
_GRADIENT_BATCHES = 4


@dataclass(frozen=True)
class Pruning:
    """How the channels to go are chosen.

    Attributes:
        importance: of a channel: "l1" or "l2", the size of its weights; "taylor", the change of
            the loss (Molchanov et al. 2019), from gradients on training photos.
        is_global: channels of all layers compete; otherwise each layer loses the same share.
        recovery: training steps after each pruning step.
    """

    importance: str
    is_global: bool = False
    recovery: int = 0

    def __call__(self, given: Given) -> nn.Module:
        """The whole network as timm's, pruned step by step until it is within budget.

        Raises UserError without the library, RowFailed if it cannot prune so far.
        """
        try:
            import torch_pruning

            from photos_lib.timm_network import as_timm
        except ImportError as error:
            raise UserError(f"This row needs: pip install torch-pruning timm ({error}).") from None
        importance = {
            "l1": torch_pruning.importance.MagnitudeImportance(p=1),
            "l2": torch_pruning.importance.MagnitudeImportance(p=2),
            # Its default, normalised by layer, kept 22 to 36 % top-1 on held-out photos where this
            # kept 61 % (half of the FLOPs, before training).
            "taylor": torch_pruning.importance.TaylorImportance(normalizer=None),
        }[self.importance]
        network = as_timm(given.teacher)
        pruner = torch_pruning.pruner.BasePruner(
            network,
            torch.zeros(1, 3, given.size, given.size),
            importance,
            global_pruning=self.is_global,
            pruning_ratio=1.0,
            max_pruning_ratio=_MAX_RATIO,
            iterative_steps=_STEPS,
            ignored_layers=[network.classifier],
            round_to=_ROUND_TO,
        )
        budget, batches = given.budget, given.batches()
        flops = multiply_adds(network, given.size)
        for _ in range(_STEPS):
            if self.importance == "taylor":
                _add_gradients(network, batches)
            is_close = flops <= _CLOSE * budget
            for group in pruner.step(interactive=True):
                group.prune()
                if is_close and multiply_adds(network, given.size) <= budget:
                    break
            flops = multiply_adds(network, given.size)
            if flops <= budget:
                network.zero_grad()
                return network
            _recover(network, given, batches, self.recovery)
        raise RowFailed(f"torch-pruning ends at {flops / 1e6:.1f} MFLOPs.")


def _add_gradients(network: nn.Module, batches: Batches) -> None:
    """Gradients of the loss on a few batches, in eval mode."""
    network.eval().zero_grad()
    for _, (images, labels) in zip(range(_GRADIENT_BATCHES), batches, strict=False):
        F.cross_entropy(network(images), labels).backward()


def _recover(network: nn.Module, given: Given, batches: Batches, steps: int) -> None:
    """Train for some steps with the recipe's constant learning rate."""
    if not steps:
        return
    optimizer = build_optimizer(given.cfg, network)
    network.train()
    for _, (images, labels) in zip(range(steps), batches, strict=False):
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    network.eval()


PRUNINGS = {
    "tp-l1": Pruning("l1"),
    "tp-l2": Pruning("l2"),
    "tp-taylor": Pruning("taylor", is_global=True),
    "tp-taylor-recovery": Pruning("taylor", is_global=True, recovery=20),
}
