"""The masked and the all-choices supernet against the plain networks that they stand for."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fpnas.blocks import ConvSpec, HeadSpec
from fpnas.errors import ConfigError, UserError
from fpnas.modeling import SuperNet
from fpnas.modeling.masked_supernet import MaskedSuperNet, uniform_weights
from fpnas.solver import SharedSGD
from fpnas.spaces import BlockGroup, NetworkSpace, get_space

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

CLOSE = {"rtol": 1e-5, "atol": 1e-5}

# Every kind of shortcut: equal channels by chance, by nature, never; and every kind of attention.
TINY = NetworkSpace(
    "tiny",
    8,
    stem=ConvSpec(channels=8),
    block_groups=[
        BlockGroup(
            {
                "kernel": (0, 3, 5),
                "act": ("relu", "swish"),
                "splits": (0, 1, 2, 4),
                "expansion": (1.5, 3.0, 4.5),
                "channels": (8, 12, 16),
            }
        ),
        BlockGroup(
            {"kernel": (0, 3), "splits": (0, 1), "expansion": (2.0, 4.0), "channels": (12, 16)},
            repeats=2,
        ),
        BlockGroup(
            {"kernel": (0, 3), "expansion": (1.0,), "channels": (8, 16)}, repeats=2, stride=2
        ),
    ],
    head=HeadSpec(channels=16, num_classes=4),
)
MINI = get_space("FP-NAS-Mini++").at(input_size=12)
ALWAYS = TINY.with_shortcut("always").at(input_size=9)  # odd maps where they are pooled


def randomise(net: nn.Module) -> None:
    """Values that no two tensors share, so that a leaking channel shows."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in net.store.named_weights():
            noise = torch.randn(value.shape, generator=generator)
            if value.dim() > 1:
                value.copy_(noise * value[0].numel() ** -0.5)
            else:
                value.copy_(0.3 * noise + name.endswith("weight"))


def images(n: int, size: int) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def one_hot(space: NetworkSpace, choices: Tensor) -> list[Tensor]:
    return [
        nn.functional.one_hot(c, n).float()
        for c, n in zip(choices, space.cardinalities, strict=True)
    ]


def drawn(space: NetworkSpace, n: int) -> list[Tensor]:
    """Random architectures, then the smallest and the largest sizes, and one that skips."""
    random = space.sample(n, torch.Generator().manual_seed(0))
    last = torch.tensor(space.cardinalities) - 1
    skipping = last.clone()
    skipping[[columns[0] for columns in space.group_columns]] = 0
    smallest = torch.zeros_like(last)
    smallest[[columns[0] for columns in space.group_columns]] = 1
    return [*random, smallest, last, skipping]


def make_net(space: NetworkSpace = TINY, sharing: str = "paper") -> MaskedSuperNet:
    torch.manual_seed(0)
    net = MaskedSuperNet(space, sharing=sharing)
    randomise(net)
    return net


@pytest.mark.parametrize("sharing", ["paper", "pointwise"])
@pytest.mark.parametrize(
    ("space", "n"), [(TINY, 12), (MINI, 2), (ALWAYS, 12)], ids=["tiny", "mini", "always"]
)
def test_masks_equal_slices(space: NetworkSpace, n: int, sharing: str) -> None:
    """Batch statistics included: in training mode no masked channel may count."""
    net = make_net(space, sharing)
    for choices in drawn(space, n):
        network = net.extract(choices)
        assert network.training
        x = images(3, space.input_size)
        torch.testing.assert_close(net(x, choices), network(x), **CLOSE)


@pytest.mark.parametrize("space", [TINY, ALWAYS], ids=["tiny", "always"])
@pytest.mark.parametrize("sharing", ["paper", "pointwise"])
def test_one_hot_weights_equal_the_plain_network(space: NetworkSpace, sharing: str) -> None:
    net = make_net(space, sharing)
    for choices in drawn(space, 8):
        expected = net.extract(choices)(images(3, space.input_size))
        logits = net.mix(images(3, space.input_size), one_hot(space, choices))
        torch.testing.assert_close(logits, expected, **CLOSE)


def test_running_statistics_of_the_chosen_channels_are_the_plain_networks() -> None:
    net = make_net()
    choices = torch.tensor(net.space.cardinalities) - 1
    choices[[columns[-1] for columns in net.space.group_columns]] -= 1  # not all channels
    network = net.extract(choices)
    for _ in range(3):
        network(images(3, 8))
        net(images(3, 8), choices)
    net.eval(), network.eval()
    torch.testing.assert_close(net(images(2, 8), choices), network(images(2, 8)), **CLOSE)


@pytest.mark.parametrize("space", [TINY, ALWAYS], ids=["tiny", "always"])
def test_gradients_of_masks_equal_those_of_slices(space: NetworkSpace) -> None:
    net = make_net(space)
    choices = net.space.sample(1, torch.Generator().manual_seed(3))[0]
    sliced = SuperNet(net.space)
    sliced.load_state_dict(net.state_dict())  # the same names
    for logits in (net(images(3, 8), choices), sliced(images(3, 8), choices)):
        logits.square().sum().backward()
    touched = {t.name: t for t in sliced.store.touched()}
    for name, weight in net.store.named_weights():
        if name not in touched:
            assert weight.grad is None
            continue
        expected = torch.zeros_like(weight)
        expected[tuple(map(slice, touched[name].shape))] = touched[name].grad
        torch.testing.assert_close(weight.grad, expected, rtol=1e-3, atol=1e-4)


def test_mixture_reaches_every_weight_of_every_variable() -> None:
    net = make_net()
    weights = uniform_weights(net.space)
    net.mix(images(3, 8), weights).square().sum().backward()
    for weight, variable in zip(weights, net.space.variables, strict=True):
        if variable.cardinality > 1:
            assert torch.count_nonzero(weight.grad) == variable.cardinality, variable


def test_mixture_of_masks_is_their_mean() -> None:
    """Without anything nonlinear behind it, the average mask averages the outputs."""
    space = NetworkSpace(
        "channels",
        8,
        ConvSpec(8),
        [BlockGroup({"kernel": (3,), "expansion": (2.0,), "channels": (8, 16, 24)}, stride=2)],
        HeadSpec(8, num_classes=2),
    )
    net = MaskedSuperNet(space)
    net._block("head", space.head, 24)  # bound, then replaced to look at what enters it
    net._largest["head", space.head, 24] = (nn.Identity(), [])
    singles = [net(images(2, 8), torch.tensor([0, 0, c])) for c in range(3)]
    share = torch.tensor([0.2, 0.5, 0.3])
    mixed = net.mix(images(2, 8), [torch.ones(1), torch.ones(1), share])
    torch.testing.assert_close(mixed, sum(w * s for w, s in zip(share, singles, strict=True)))


def test_copies_and_conversions_stay_whole() -> None:
    net = make_net()
    choices = torch.tensor(net.space.cardinalities) - 1
    before = net(images(2, 8), choices)
    twin = copy.deepcopy(net).to(memory_format=torch.channels_last)
    torch.testing.assert_close(twin(images(2, 8), choices), before, **CLOSE)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.zero_()
    assert torch.count_nonzero(twin(images(2, 8), choices)) == 0
    torch.testing.assert_close(net(images(2, 8), choices), before, **CLOSE)


@pytest.fixture
def all_choices(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[SuperNet]]:
    """The peer of the speed benchmark, imported as it is when that runs."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from speed_lib.all_choices import AllChoicesSuperNet

    yield AllChoicesSuperNet
    for name in [n for n in sys.modules if n.partition(".")[0] == "speed_lib"]:
        del sys.modules[name]


@pytest.mark.parametrize("space", [TINY, ALWAYS], ids=["tiny", "always"])
def test_all_choices_with_one_hot_weights_is_the_widest_plain_network(
    space: NetworkSpace, all_choices: type[SuperNet]
) -> None:
    net = all_choices(space, num_classes=3)
    randomise(net)
    for choices in drawn(space, 4):
        for columns in net.space.group_columns:  # channels at their largest: no masks
            choices[columns[-1]] = net.space.cardinalities[columns[-1]] - 1
        expected = net.extract(choices)(images(3, 8))
        logits = net(images(3, 8), one_hot(net.space, choices))
        torch.testing.assert_close(logits, expected, **CLOSE)


def test_all_choices_learn_by_shared_sgd(all_choices: type[SuperNet]) -> None:
    net = all_choices(TINY)
    weights = uniform_weights(net.space)
    before = {name: weight.detach().clone() for name, weight in net.store.named_weights()}
    optimizer = SharedSGD(net.store, lr=0.1)
    net(images(3, 8), weights).square().sum().backward()
    optimizer.step()
    moved = [n for n, w in net.store.named_weights() if not torch.equal(w, before[n])]
    kernels = {name.split("/")[1] for name in moved if name.startswith("stage2.0")}
    assert {"kernel3,splits0", "kernel3,splits1"} <= kernels
    assert all(
        torch.count_nonzero(w.grad) > 0
        for w, v in zip(weights, net.space.variables, strict=True)
        if v.cardinality > 1
    )


def test_other_blocks_are_refused() -> None:
    group = BlockGroup({"kernel": (1, 3), "channels": (8, 16)}, block="Conv")
    space = NetworkSpace("plain", 8, ConvSpec(8), [group], HeadSpec(8, num_classes=2))
    with pytest.raises(UserError, match="'MBConv' blocks only; stage1 of space 'plain'.*'Conv'"):
        MaskedSuperNet(space)


def test_expansion_1_among_others_is_refused() -> None:
    group = BlockGroup({"kernel": (3,), "expansion": (1.0, 2.0), "channels": (8,)})
    space = NetworkSpace("mixed", 8, ConvSpec(8), [group], HeadSpec(8, num_classes=2))
    with pytest.raises(UserError, match="expansion 1.*stage1 of space 'mixed'"):
        MaskedSuperNet(space)


def test_weights_of_a_wrong_shape_are_refused() -> None:
    net = MaskedSuperNet(get_space("FP-NAS-Micro"))
    with pytest.raises(UserError, match="'FP-NAS-Micro' needs one weight for each value"):
        net.mix(images(2, 28), uniform_weights(net.space)[:-1])


def test_kernels_are_no_masks() -> None:
    with pytest.raises(ConfigError, match="SEARCH.SHARING 'all' is for the probabilistic search"):
        MaskedSuperNet(TINY, sharing="all")
