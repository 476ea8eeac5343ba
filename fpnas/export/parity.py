"""Parity: does an exported file compute what the PyTorch model computes?

A small absolute difference proves nothing where the logits themselves are small (an untrained
network easily has logits near 1e-10), and a small difference relative to the logits proves nothing
where a constant bias is all there is of them. So the difference is measured against what the model
makes of its images, and a model that makes nothing of them cannot pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fpnas.export.source import Runner

# Smallest spread with which a comparison says anything. Below it, float32 rounding of the constant
# part of the logits reaches the order of the tolerance.
MIN_SPREAD = 0.01


@dataclass(frozen=True)
class Tolerance:
    """What an exported file may deviate by."""

    max_rel_error: float = 1e-4
    min_top1_agreement: float = 100.0  # %


@dataclass(frozen=True)
class Parity:
    """Comparison of exported logits b with reference logits a, both (N, num_classes).

    With c = a - (mean of a over the N images):

    - ``spread`` = max|c| / max|a|: share of the logits that depends on the image;
    - ``max_rel_error`` = max|a - b| / min(max|a|, max|c|);
    - ``top1_agreement``: images on which both have the same best class, %.
    """

    max_rel_error: float
    spread: float
    top1_agreement: float

    def judge(self, tolerance: Tolerance) -> tuple[str, str]:
        """Status and message: ``ok``, ``failed``, or ``unverified`` if the images cannot tell."""
        error_of_largest = self.max_rel_error * min(1.0, self.spread)  # max|a - b| / max|a|
        if self.spread < MIN_SPREAD and error_of_largest <= tolerance.max_rel_error:
            return "unverified", (
                f"the model's outputs are nearly equal for all images (spread {self.spread:.0e}, "
                f"needed {MIN_SPREAD:g}), so equal outputs prove nothing; use trained weights"
            )
        if not self.max_rel_error <= tolerance.max_rel_error:  # also catches NaN
            return "failed", (
                f"max relative error {self.max_rel_error:.1e} against the PyTorch model, "
                f"allowed {tolerance.max_rel_error:.0e}"
            )
        if self.top1_agreement < tolerance.min_top1_agreement:
            return "failed", (
                f"top-1 agreement {self.top1_agreement:.1f} % with the PyTorch model, "
                f"needed {tolerance.min_top1_agreement:g} %"
            )
        return "ok", ""


def compare(reference: np.ndarray, exported: np.ndarray) -> Parity:
    """Compare logits (N, num_classes). Raises ValueError if the shapes differ."""
    if reference.shape != exported.shape:
        raise ValueError(f"outputs have shape {exported.shape}, the model's {reference.shape}")
    a, b = reference.astype(np.float64), exported.astype(np.float64)
    largest = np.abs(a).max()
    deviation = np.abs(a - a.mean(axis=0)).max()
    difference = np.abs(a - b).max()
    agreement = 100.0 * np.mean(a.argmax(axis=1) == b.argmax(axis=1))
    with np.errstate(divide="ignore"):
        error = difference / min(largest, deviation) if difference else 0.0
    spread = deviation / largest if largest > 0 else 0.0
    return Parity(float(error), float(spread), float(agreement))


def run_in_batches(
    run: Runner, images: np.ndarray, batch_size: int, dynamic_batch: bool = False
) -> np.ndarray:
    """Logits (N, num_classes) of all ``images`` (N, C, S, S), float32.

    A file of fixed batch size gets full batches only: the last one is filled up with the first
    images, whose outputs are then dropped. With ``dynamic_batch`` the batch sizes are 1, 2, 3, ...,
    so that a file which only claims to take any batch is found out.
    """
    outputs, start, size = [], 0, 1 if dynamic_batch else batch_size
    while start < len(images):
        stop = min(start + size, len(images)) if dynamic_batch else start + size
        indices = np.arange(start, stop) % len(images)
        outputs.append(run(np.ascontiguousarray(images[indices])))
        start, size = stop, size + dynamic_batch
    return np.concatenate(outputs)[: len(images)]
