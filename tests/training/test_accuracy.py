from __future__ import annotations

import math
import multiprocessing
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, distributed, nn

from fpnas.errors import DataError
from fpnas.training.accuracy import evaluate


def batches(logits: Tensor, labels: Tensor, batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """With nn.Identity as the model, the "images" are the logits."""
    return list(zip(logits.split(batch_size), labels.split(batch_size), strict=True))


def random_case(count: int, num_classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, num_classes, generator=generator)
    return logits, torch.randint(num_classes, (count,), generator=generator)


def test_hand_made_case() -> None:
    # Labels rank 1st, 2nd, 5th and 6th among six classes.
    logits = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0, 0.0]] * 4)
    result = evaluate(nn.Identity(), batches(logits, torch.tensor([0, 1, 4, 5]), 3))
    assert result["top1"] == 25
    assert result["top5"] == 75
    log_sum = math.log(sum(math.exp(value) for value in range(6)))
    assert result["loss"] == pytest.approx(log_sum - (5 + 4 + 1 + 0) / 4, rel=1e-6)
    assert list(result) == ["top1", "top5", "loss"]


@given(st.integers(1, 40), st.integers(2, 12), st.integers(1, 12), st.integers(0, 100))
@settings(max_examples=40)
def test_equals_the_definition_for_any_batch_size(
    count: int, num_classes: int, batch_size: int, seed: int
) -> None:
    logits, labels = random_case(count, num_classes, seed)
    result = evaluate(nn.Identity(), batches(logits, labels, batch_size))
    higher = (logits > logits.gather(1, labels[:, None])).sum(1)
    assert result["top1"] == pytest.approx(100 * float((higher < 1).double().mean()))
    assert ("top5" in result) == (num_classes >= 5)
    if num_classes >= 5:
        assert result["top5"] == pytest.approx(100 * float((higher < 5).double().mean()))
    assert result["loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), 1e-5)


class Probe(nn.Module):
    """Notes how it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.frozen = nn.BatchNorm1d(3).eval()
        self.calls: list[tuple[bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append((self.norm.training, torch.is_inference_mode_enabled()))
        return self.frozen(self.norm(x))


def test_inference_mode_and_restored_flags() -> None:
    model = Probe()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, batches(*random_case(6, 3), 2))
    assert model.calls == [(False, True)] * 3
    assert model.training and model.norm.training and not model.frozen.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_flags_are_restored_after_an_error() -> None:
    model = Probe()
    with pytest.raises(DataError):
        evaluate(model, batches(torch.zeros(2, 3), torch.tensor([0, 3]), 2))
    assert model.training and not model.frozen.training


def test_label_beyond_the_classes() -> None:
    with pytest.raises(DataError, match=r"model has 3 classes \(MODEL.NUM_CLASSES\).*class 7"):
        evaluate(nn.Identity(), batches(torch.zeros(2, 3), torch.tensor([0, 7]), 2))


def test_no_images() -> None:
    with pytest.raises(DataError, match="no images to evaluate on"):
        evaluate(nn.Identity(), [])


def _evaluate_on_rank(rank: int, store: str, results: multiprocessing.Queue) -> None:
    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    logits, labels = random_case(7, 6)
    # Unequal shares: the second rank has nothing at all.
    share = batches(logits, labels, 2) if rank == 0 else []
    results.put(evaluate(nn.Identity(), share))
    distributed.destroy_process_group()


def test_all_ranks_get_the_result_over_all_images(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [
        context.Process(target=_evaluate_on_rank, args=(rank, str(tmp_path / "store"), results))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    expected = evaluate(nn.Identity(), batches(*random_case(7, 6), 2))
    assert found == [expected, expected]
