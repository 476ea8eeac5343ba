"""A supernet in the hands of PyTorch's own tools: they work, or say why they do not."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_, parametrize
from toy_supernet import SPACE

from fpnas.engine import launch
from fpnas.modeling import SuperNet
from fpnas.modeling.masked_supernet import MaskedSuperNet
from fpnas.solver import SharedSGD

SMALL, LARGE = torch.tensor([1, 0, 0, 0]), torch.tensor([1, 1, 1, 1])


def make(seed: int = 0) -> SuperNet:
    torch.manual_seed(seed)
    return SuperNet(SPACE)


def images(seed: int = 1) -> Tensor:
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def backward(supernet: nn.Module, choices: Tensor, seed: int = 1) -> None:
    supernet(images(seed), choices).square().sum().backward()


def weights_of(supernet: SuperNet) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in supernet.named_parameters()}


def gradient_of_extracted(supernet: SuperNet, choices: Tensor, seed: int = 1) -> dict[str, Tensor]:
    """By path in the block of stage 1, computed on a network of its own."""
    network = supernet.extract(choices)
    backward(lambda x, _: network(x), choices, seed)
    return {name: p.grad for name, p in network.stage1[0].named_parameters()}


def gathered(supernet: SuperNet, choices: Tensor) -> dict[str, Tensor]:
    """The same from the parameters of the supernet: their ``.grad``, cut to the network's part."""
    network = supernet.extract(choices)
    group = "kernel3,splits2" if choices[1] else "kernel3,splits0"
    grads = {}
    for name, own in network.stage1[0].named_parameters():
        full = supernet.store.full(f"stage1.0/{group}/{name}")
        cut = tuple(slice(0, side) for side in own.shape)
        outside = full.grad.clone()
        outside[cut] = 0
        assert not outside.any(), name
        grads[name] = full.grad[cut]
    return grads


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("choices", [SMALL, LARGE])
def test_parameters_have_the_gradients(choices: Tensor) -> None:
    supernet = make()
    assert all(p.grad is None for p in supernet.parameters())
    expected = gradient_of_extracted(supernet, choices)
    backward(supernet, choices)
    assert_same(gathered(supernet, choices), expected)
    used = {t.name for t in supernet.store.touched()}
    for name, weight in supernet.store.named_weights():
        assert (weight.grad is not None) == (name in used), name


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad_of_torch_clears(set_to_none: bool) -> None:
    supernet = make()
    for choices in (LARGE, SMALL):  # what only the first one used must be cleared, too
        backward(supernet, choices)
    supernet.zero_grad(set_to_none)
    assert not supernet.store.touched() or not set_to_none
    assert not any(p.grad is not None and p.grad.any() for p in supernet.parameters())
    for seed, choices in ((2, SMALL), (3, LARGE)):
        expected = gradient_of_extracted(supernet, choices, seed)
        backward(supernet, choices, seed)
        assert_same(gathered(supernet, choices), expected)
        supernet.zero_grad(set_to_none)


def test_gradients_accumulate_over_samples_after_zero_grad() -> None:
    supernet = make()
    backward(supernet, LARGE)
    supernet.zero_grad()
    expected = gradient_of_extracted(supernet, SMALL)
    backward(supernet, SMALL)
    backward(supernet, SMALL)
    assert_same(gathered(supernet, SMALL), {name: 2 * grad for name, grad in expected.items()})


def test_sgd_of_torch_equals_sgd_on_the_extracted_network() -> None:
    supernet = make()
    network = supernet.extract(LARGE)
    before = weights_of(supernet)
    for net, call in ((supernet, supernet), (network, lambda x, _: network(x))):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-2)
        for seed in range(3):
            optimizer.zero_grad()
            backward(call, LARGE, seed)
            clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
    for name, value in supernet.extract(LARGE).named_parameters():
        torch.testing.assert_close(value, dict(network.named_parameters())[name], msg=name)
    used = {id(supernet.store.full(t.name)) for t in supernet.store.touched()}
    for name, weight in supernet.named_parameters():
        assert id(weight) in used or torch.equal(weight, before[name]), name


def test_an_optimizer_of_a_bound_network_trains_the_supernet() -> None:
    supernet, alone = make(), make()
    networks = [supernet.bind(SMALL), alone.extract(SMALL)]
    for network in networks:
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
        for seed in range(3):
            optimizer.zero_grad()
            backward(lambda x, _, net=network: net(x), SMALL, seed)
            optimizer.step()
        optimizer.zero_grad()
    assert torch.equal(supernet.eval()(images(), SMALL), networks[1].eval()(images()))
    # Its zero_grad took the gradients away; the next sample starts from zero.
    expected = gradient_of_extracted(supernet, SMALL)
    supernet.zero_grad()
    backward(supernet, SMALL)
    assert_same(gathered(supernet, SMALL), expected)


def test_a_gradient_that_was_replaced_is_the_one_that_is_stepped() -> None:
    """As averages over processes are, in loops that do not write them into the old tensor."""
    supernet = make()
    weight = supernet.store.full("stage1.0/kernel3,splits2/project.conv.weight")
    before = weight.detach().clone()
    backward(supernet, LARGE)
    weight.grad = torch.ones_like(weight)
    SharedSGD(supernet.store, lr=0.5).step()
    torch.testing.assert_close(weight.detach(), before - 0.5)


def test_frozen_weights_stay() -> None:
    supernet = make()
    frozen = [w for name, w in supernet.store.named_weights() if name.startswith("stage1.0/")]
    for weight in frozen:
        weight.requires_grad_(False)
    before = [weight.clone() for weight in frozen]
    optimizer = SharedSGD(supernet.store, lr=0.1, weight_decay=0.1)
    backward(supernet, LARGE)
    touched = {t.name for t in supernet.store.touched()}
    optimizer.step()
    assert touched and not any(name.startswith("stage1.0/") for name in touched)
    assert all(torch.equal(w, old) for w, old in zip(frozen, before, strict=True))
    optimizer.zero_grad()
    for weight in frozen:
        weight.requires_grad_(True)
    backward(supernet, LARGE)
    assert any(t.name.startswith("stage1.0/") for t in supernet.store.touched())


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_loaded_weights_are_used(assign: bool, wrapped: bool) -> None:
    supernet, other = make(), make(seed=1).eval()
    backward(supernet, LARGE)  # bound, with gradients
    target = nn.ModuleDict({"inner": supernet}) if wrapped else supernet
    prefix = "inner." if wrapped else ""
    state = {f"{prefix}{name}": v.clone() for name, v in other.state_dict().items()}
    target.load_state_dict(state, assign=assign)
    supernet.eval()
    assert torch.equal(supernet(images(), LARGE), other(images(), LARGE))
    supernet.store.clear_gradients()
    expected = gradient_of_extracted(supernet, LARGE)
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.1)
    optimizer.zero_grad()
    backward(supernet, LARGE)
    assert_same(gathered(supernet, LARGE), expected)
    before = weights_of(supernet)
    optimizer.step()
    assert any(not torch.equal(w, before[name]) for name, w in supernet.named_parameters())


@pytest.mark.parametrize("bound_before", [False, True])
def test_functional_call_is_refused(bound_before: bool) -> None:
    supernet = make()
    if bound_before:
        supernet(images(), SMALL)
    own = supernet(images(), LARGE).detach() if bound_before else None
    others = {name: 2 * value for name, value in supernet.state_dict().items()}
    for weights in (others, dict(list(others.items())[-1:])):  # all, and one of the head alone
        with pytest.raises(RuntimeError, match=r"functional_call.*extract\(choices\)"):
            functional_call(supernet, weights, (images(), LARGE))
    after = supernet(images(), LARGE)  # no view of theirs is left
    assert own is None or torch.equal(after, own)
    network = supernet.extract(LARGE)
    weights = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    assert not functional_call(network, weights, (images(),)).any()


def set_data(supernet: SuperNet) -> None:
    for parameter in supernet.parameters():
        parameter.data = parameter.data.clone()


def set_attribute(supernet: SuperNet) -> None:
    name = next(name for name, _ in supernet.store.named_parameters() if "fc/bias" in name)
    setattr(supernet.store, name, nn.Parameter(torch.zeros(3)))


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def parametrized(supernet: SuperNet) -> None:
    name = next(name for name, _ in supernet.store.named_parameters() if "fc/bias" in name)
    parametrize.register_parametrization(supernet.store, name, Doubled())


@pytest.mark.parametrize("replace", [set_data, set_attribute, parametrized])
def test_replaced_weights_are_refused(replace: Callable[[SuperNet], None]) -> None:
    supernet = make()
    supernet(images(), LARGE)
    replace(supernet)
    with pytest.raises(RuntimeError, match="was replaced by another tensor.*load_state_dict"):
        supernet(images(), LARGE)


def test_loading_makes_replaced_memory_known() -> None:
    supernet = make()
    supernet(images(), LARGE)
    set_data(supernet)
    other = make(seed=1)
    supernet.load_state_dict(other.state_dict())
    assert torch.equal(supernet.eval()(images(), LARGE), other.eval()(images(), LARGE))


def ddp_is_refused() -> None:
    supernet = make()
    for module in (supernet, nn.ModuleList([supernet])):  # itself, and as a part of something
        module.forward = supernet.forward
        parallel = DistributedDataParallel(module, find_unused_parameters=True)
        with pytest.raises(RuntimeError, match=r"cannot train a SuperNet.*touched\(\).*SharedSGD"):
            parallel(images(), LARGE)
        with torch.no_grad():
            assert torch.equal(parallel(images(), LARGE), supernet(images(), LARGE))
    backward(supernet, LARGE)  # outside of it nothing has changed
    network = DistributedDataParallel(supernet.extract(LARGE))
    assert network(images()).shape == (6, 3)


def test_distributed_data_parallel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    process = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**process, "MASTER_PORT": 0}.items():
        monkeypatch.setenv(name, str(value))
    launch(ddp_is_refused, 1)


def test_copies_train_on_their_own() -> None:
    supernet = make()
    backward(supernet, LARGE)
    twin = copy.deepcopy(supernet)
    assert all(p.grad is None for p in twin.parameters())
    before = weights_of(supernet)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    backward(twin, LARGE)
    optimizer.step()
    assert_same(weights_of(supernet), before)
    assert any(not torch.equal(w, before[name]) for name, w in twin.named_parameters())


def test_a_masked_supernet_takes_other_weights() -> None:
    torch.manual_seed(0)
    net, other = (MaskedSuperNet(SPACE).eval() for _ in range(2))
    expected = other(images(), LARGE)
    assert not torch.equal(net(images(), LARGE), expected)
    assert torch.equal(functional_call(net, other.state_dict(), (images(), LARGE)), expected)
    net.load_state_dict(other.state_dict(), assign=True)
    assert torch.equal(net(images(), LARGE), expected)
