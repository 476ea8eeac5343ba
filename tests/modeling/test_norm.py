from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fpnas.errors import DataError
from fpnas.modeling import SearchedNet, SuperNet, recalibrate_bn
from fpnas.spaces import get_space


def batches(*sizes: int, side: int = 12) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, 3, side, side, generator=generator).double() + 0.5 * n for n in sizes]


def norms(model: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}


def statistics(model: nn.Module, data: list[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance of what enters each BatchNorm in training mode, over all batches."""
    seen: dict[str, list[Tensor]] = {}
    handles = [
        layer.register_forward_pre_hook(
            lambda _, args, name=name: seen.setdefault(name, []).append(args[0])
        )
        for name, layer in norms(model).items()
    ]
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    model.train()
    with torch.no_grad():
        for batch in data:
            model(batch)
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
    for handle in handles:
        handle.remove()
    result = {}
    for name, inputs in seen.items():
        values = torch.cat([x.transpose(0, 1).flatten(1) for x in inputs], 1)
        result[name] = values.mean(1), values.var(1, unbiased=False)
    return result


def statistic_buffers(layer: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    return layer.running_mean, layer.running_var


@pytest.fixture
def supernet() -> SuperNet:
    torch.manual_seed(0)
    return SuperNet(get_space("FP-NAS-Micro").at(input_size=12)).double()


def choose(supernet: SuperNet, seed: int = 0) -> Tensor:
    return supernet.space.sample(1, torch.Generator().manual_seed(seed))[0]


@pytest.mark.parametrize("sizes", [(8,), (8, 8, 8), (4, 9, 2)])
def test_equals_the_statistics_of_all_inputs(supernet, sizes) -> None:
    model, data = supernet.extract(choose(supernet)), batches(*sizes)
    expected = statistics(model, data)
    for layer in norms(model).values():  # whatever was there before does not matter
        layer.running_mean.fill_(7)
        layer.running_var.fill_(7)
    recalibrate_bn(model, data)
    assert set(expected) == set(norms(model))
    for name, layer in norms(model).items():
        torch.testing.assert_close(layer.running_mean, expected[name][0], msg=name)
        torch.testing.assert_close(layer.running_var, expected[name][1], msg=name)


def test_equal_batches_average_their_means(supernet) -> None:
    model = supernet.extract(choose(supernet))
    data = batches(6, 6)
    means = [statistics(model, [batch])["stem.bn"][0] for batch in data]
    recalibrate_bn(model, data)
    torch.testing.assert_close(model.stem.bn.running_mean, sum(means) / 2)


def test_writes_into_the_supernet(supernet) -> None:
    """A bound network must still share its statistics with the supernet afterwards."""
    choices, data = choose(supernet), batches(6, 6)
    network = supernet.bind(choices)
    places = [b.data_ptr() for layer in norms(network).values() for b in statistic_buffers(layer)]
    expected = statistics(supernet.extract(choices), data)
    recalibrate_bn(network, iter(data))
    for name, layer in norms(network).items():
        for buffer, value in zip(statistic_buffers(layer), expected[name], strict=True):
            torch.testing.assert_close(buffer, value)
    after = [b.data_ptr() for layer in norms(network).values() for b in statistic_buffers(layer)]
    assert after == places


def test_evaluation_then_equals_the_extracted_network(supernet) -> None:
    choices, data = choose(supernet, 3), batches(6, 6)
    alone = supernet.extract(choices)
    recalibrate_bn(alone, data)
    recalibrate_bn(supernet.bind(choices), data)
    assert torch.equal(supernet.eval()(data[0], choices), alone.eval()(data[0]))


@pytest.mark.parametrize("training", [True, False])
def test_restores_mode_and_momentum_and_touches_no_weight(supernet, training) -> None:
    model = supernet.extract(choose(supernet)).train(training)
    weights = {name: p.clone() for name, p in model.named_parameters()}
    recalibrate_bn(model, batches(4))
    assert all(module.training == training for module in model.modules())
    assert all(layer.momentum == 0.1 for layer in norms(model).values())
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
    assert all(p.grad is None for p in model.parameters())


def test_needs_a_batch(supernet) -> None:
    with pytest.raises(DataError, match="at least one batch"):
        recalibrate_bn(supernet.extract(choose(supernet)), [])


def test_a_network_without_batch_norm() -> None:
    model = nn.Linear(2, 2)
    recalibrate_bn(model, [torch.zeros(1, 2)])
    assert isinstance(model, nn.Linear) and not isinstance(model, SearchedNet)


def test_variance_of_a_constant_is_not_negative() -> None:
    values = torch.linspace(1, 1000, 500)  # some of them round badly
    model = nn.Sequential(nn.BatchNorm2d(500))
    recalibrate_bn(model, [values.view(1, -1, 1, 1).expand(n, -1, 3, 3) for n in (3, 4)])
    assert (model[0].running_var >= 0).all()
    assert model.eval()(torch.zeros(1, 500, 1, 1)).isfinite().all()
