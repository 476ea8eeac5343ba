"""Accuracy and loss of a classifier on labelled images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from fpnas.errors import DataError
from fpnas.utils import comm


def evaluate(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Evaluate ``model`` in inference mode on all batches of ``loader``.

    Every module's training flag is as before afterwards. With torch.distributed initialised each
    rank brings its own share of the images, and all ranks get the result over all of them.

    Args:
        model: images float32 [N, 3, S, S] -> logits [N, num_classes].
        loader: batches of images and int64 labels [N].
        device: where the model is.

    Returns:
        "top1": share of the images whose label has the highest logit, percent.
        "top5": share of those whose label is among the five highest; only from five classes on.
        "loss": cross entropy, mean over the images, nats.

    Raises DataError if there are no images or a label exceeds the model's classes.
    """
    # Images, images with five classes or more, correct at 1, correct among 5, summed loss.
    totals = torch.zeros(5, dtype=torch.float64)
    with evaluating(model), torch.inference_mode():
        # disable=None: no bar where there is no terminal.
        disable = None if comm.is_main_process() else True
        for images, labels in tqdm(loader, desc="Evaluating", leave=False, disable=disable):
            logits = model(images.to(device))
            totals += _count(logits, labels.to(device)).cpu()
    count, with_top5, top1, top5, loss = comm.all_reduce_sum(totals).tolist()
    if not count:
        raise DataError("There are no images to evaluate on.")
    result = {"top1": 100 * top1 / count}
    if with_top5 == count:
        result["top5"] = 100 * top5 / count
    result["loss"] = loss / count
    return result


def _count(logits: Tensor, labels: Tensor) -> Tensor:
    """The five totals of one batch, float64."""
    num_classes = logits.shape[1]
    if int(labels.max()) >= num_classes:
        raise DataError(
            f"The model has {num_classes} classes (MODEL.NUM_CLASSES), but there is an image of "
            f"class {int(labels.max())}, counted from 0."
        )
    logits = logits.float()
    ranked = logits.topk(min(5, num_classes), dim=1).indices
    correct = ranked == labels[:, None]
    loss = F.cross_entropy(logits, labels, reduction="sum")
    count = len(labels)
    counts = (count, count if num_classes >= 5 else 0, correct[:, 0].sum(), correct.sum(), loss)
    return torch.tensor([float(value) for value in counts], dtype=torch.float64)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and back to each module's own flag: some may be frozen on purpose."""
    flags = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in flags.items():
            module.training = training
