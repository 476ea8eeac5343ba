"""SharedSGD: plain SGD where a sample went, nothing anywhere else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fpnas.modeling import SuperNet
from fpnas.solver import SharedSGD
from fpnas.spaces import get_space

SPACE = get_space("FP-NAS-Micro").at(input_size=8, num_classes=4)


def make(nesterov: bool = False, sharing: str = "paper") -> tuple[SuperNet, SharedSGD]:
    torch.manual_seed(0)
    supernet = SuperNet(SPACE, sharing=sharing)
    optimizer = SharedSGD(
        supernet.store,
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-2,
        weight_decay_norm=1e-3,
        nesterov=nesterov,
    )
    return supernet, optimizer


def sample(seed: int) -> Tensor:
    return SPACE.sample(1, torch.Generator().manual_seed(seed))[0]


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(6, 3, 8, 8, generator=generator)
    return images, torch.randint(4, (6,), generator=generator)


def step(supernet: SuperNet, optimizer: SharedSGD, choices: Tensor, seed: int) -> None:
    images, labels = batch(seed)
    F.cross_entropy(supernet(images, choices), labels).backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize(
    ("nesterov", "sharing"), [(False, "paper"), (True, "paper"), (True, "all")]
)
def test_equals_torch_sgd_on_the_extracted_network(nesterov: bool, sharing: str) -> None:
    supernet, optimizer = make(nesterov, sharing)
    choices = sample(1)
    network = supernet.extract(choices)
    weights = [p for p in network.parameters() if p.dim() > 1]
    vectors = [p for p in network.parameters() if p.dim() <= 1]
    plain = torch.optim.SGD(
        [{"params": weights, "weight_decay": 1e-2}, {"params": vectors, "weight_decay": 1e-3}],
        lr=0.1,
        momentum=0.9,
        nesterov=nesterov,
    )
    for seed in range(4):
        step(supernet, optimizer, choices, seed)
        images, labels = batch(seed)
        plain.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        plain.step()
    expected = network.state_dict()
    for name, value in supernet.extract(choices).state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6, msg=name)


def test_classifier_has_a_rate_of_its_own() -> None:
    steps = {}
    for share in (1.0, 0.25):
        torch.manual_seed(0)
        supernet = SuperNet(SPACE)
        before = {name: w.detach().clone() for name, w in supernet.store.named_weights()}
        step(supernet, SharedSGD(supernet.store, lr=0.1, classifier_lr=share), sample(1), 0)
        steps[share] = {n: w.detach() - before[n] for n, w in supernet.store.named_weights()}
    slowed = [name for name in steps[1.0] if "/fc." in name and "attention" not in name]
    assert len(slowed) == 2
    for name, whole in steps[1.0].items():
        factor = 0.25 if name in slowed else 1.0
        torch.testing.assert_close(steps[0.25][name], factor * whole, msg=name)
        assert name not in slowed or whole.any()


def test_untouched_weights_keep_value_and_momentum() -> None:
    supernet, optimizer = make()
    step(supernet, optimizer, sample(1), 0)  # leaves momentum where sample 1 went
    before = {name: w.detach().clone() for name, w in supernet.store.named_weights()}
    momenta = {p: s["momentum_buffer"].clone() for p, s in optimizer.state.items()}

    images, labels = batch(1)
    F.cross_entropy(supernet(images, sample(2)), labels).backward()
    touched = {t.name: t.shape for t in supernet.store.touched()}
    optimizer.step()
    optimizer.zero_grad()

    moved = 0
    for name, weight in supernet.store.named_weights():
        outside = torch.ones_like(weight, dtype=torch.bool)
        if name in touched:
            outside[tuple(slice(0, size) for size in touched[name])] = False
            moved += not torch.equal(weight, before[name])
        assert torch.equal(weight[outside], before[name][outside]), name
        if weight in momenta:
            momentum = optimizer.state[weight]["momentum_buffer"]
            assert torch.equal(momentum[outside], momenta[weight][outside]), name
    assert moved == len(touched)
    assert len(touched) < len(before)


def test_state_round_trip_goes_on_with_the_same_bits() -> None:
    supernet, optimizer = make()
    step(supernet, optimizer, sample(1), 0)
    resumed, resumed_optimizer = make()
    resumed.load_state_dict(supernet.state_dict())
    resumed_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for seed in (1, 2):
        step(supernet, optimizer, sample(seed), seed)
        step(resumed, resumed_optimizer, sample(seed), seed)
    expected = supernet.state_dict()
    assert all(torch.equal(v, expected[n]) for n, v in resumed.state_dict().items())


def test_no_closure() -> None:
    with pytest.raises(ValueError, match="closure"):
        make()[1].step(lambda: 0.0)
