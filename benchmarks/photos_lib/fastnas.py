"""The row of NVIDIA's Model Optimizer: FastNAS, a search for channels by each layer's sensitivity.

It finds nothing to prune in timm's networks (version 0.47: "The model does not contain any
configurable hyperparameters!"), so that it gets ours, whose layers are torch's own.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from fpnas.errors import UserError
from fpnas.training.accuracy import evaluate
from photos_lib.row import Given, RowFailed

_DIVISOR = 8  # of channels, as our networks have them; its own is 32
# Photos that BatchNorm is measured on before each score, in batches of 8: with fewer than 50
# batches modelopt scores without measuring.
_CALIBRATION = (400, 8)
_SCORE_PHOTOS = 200


def fastnas(given: Given) -> nn.Module:
    """The whole network, pruned within budget.

    How much accuracy each layer's channels are worth is measured once, on held-out photos and for
    all budgets; the weights of either stage are then cut alike.

    Raises UserError without the library, RowFailed with its message if it fails.
    """
    try:
        from modelopt.torch import prune
        from modelopt.torch.prune.fastnas import FastNASConfig
    except ImportError as error:
        raise UserError(
            f"Row fastnas needs: pip install nvidia-modelopt torchprofile==0.0.4 ({error})."
        ) from None
    photos = given.held_out(_SCORE_PHOTOS)
    network = copy.deepcopy(given.teacher)
    given.decisions.mkdir(parents=True, exist_ok=True)
    try:
        network, _ = prune.prune(
            network,
            [("fastnas", _with_divisor(FastNASConfig().model_dump()))],
            constraints={"flops": f"{given.percent}%"},
            dummy_input=torch.zeros(1, 3, given.size, given.size),
            config={
                "data_loader": _calibration_batches(given),
                "collect_func": lambda images: images,
                "score_func": lambda network: evaluate(network, photos)["top1"],
                "checkpoint": str(given.decisions / "sensitivity.pth"),
                "verbose": False,
            },
        )
    except Exception as error:  # whatever a library of so many parts may raise
        raise RowFailed(f"modelopt: {type(error).__name__}: {error}") from error
    return network


def _calibration_batches(given: Given) -> list[Tensor]:
    count, batch_size = _CALIBRATION
    images: list[Tensor] = []
    for batch, _ in given.batches():
        images += batch
        if len(images) >= count:
            break
    return list(torch.stack(images[:count]).split(batch_size))


def _with_divisor(rules: dict[str, Any]) -> dict[str, Any]:
    """The mode's rules with another divisor of channels."""
    return {
        kind: {
            pattern: {
                key: _DIVISOR if key.endswith("_divisor") else value for key, value in rule.items()
            }
            for pattern, rule in patterns.items()
        }
        for kind, patterns in rules.items()
        if patterns
    }
