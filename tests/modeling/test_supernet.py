from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec
from fpnas.errors import ConfigError, UserError
from fpnas.modeling import SearchedNet, SuperNet
from fpnas.spaces import BlockGroup, NetworkSpace, get_space

# Views of larger tensors have strides of their own; autograd mentions it once.
pytestmark = pytest.mark.filterwarnings("ignore:grad and param do not obey")

SPACES = [
    ("FP-NAS-Micro", 28, 6),
    ("FP-NAS-Mini", 16, 5),
    ("FP-NAS-Mini++", 16, 6),
    ("FBNetV2-F++", 32, 3),
]


def randomise(net: nn.Module, seed: int = 0) -> None:
    """Values that no two tensors share, BatchNorm's included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*net.named_parameters(), *net.named_buffers()]:
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator).to(value)
            if name.endswith("running_var"):
                value.copy_(noise.abs() + 0.5)
            elif value.dim() > 1:
                value.copy_(noise * value[0].numel() ** -0.5)
            else:
                value.copy_(0.2 * noise + name.endswith("weight"))


@pytest.fixture(scope="module", params=["paper", "pointwise"])
def supernets(request) -> dict[str, SuperNet]:
    nets = {}
    for name, size, _ in SPACES:
        nets[name] = SuperNet(get_space(name).at(input_size=size), 7, request.param)
        randomise(nets[name])
    return nets


def two_groups(**first) -> NetworkSpace:
    """Ten ways to differ, small enough to look at every tensor."""
    return NetworkSpace(
        "two",
        8,
        stem=ConvSpec(channels=8),
        block_groups=[
            BlockGroup(
                {"kernel": (0, 3, 5), "splits": (0, 1, 2), "act": ("relu", "swish")}
                | {"expansion": (1.0, 2.0, 3.0), "channels": (8, 12, 16)}
                | first
            ),
            BlockGroup(
                {"kernel": (0, 3), "expansion": (1.0, 2.0), "channels": (8, 16)},
                repeats=2,
                stride=2,
            ),
        ],
        head=HeadSpec(channels=16, num_classes=4),
    )


# kernel, splits, act, expansion, channels; kernel, expansion, channels
LARGE = torch.tensor([1, 2, 0, 2, 2, 1, 1, 1])
SMALL = torch.tensor([1, 2, 0, 1, 1, 1, 0, 0])


def draw(space: NetworkSpace, n: int, seed: int = 0) -> Tensor:
    return space.sample(n, torch.Generator().manual_seed(seed))


def images(n: int, size: int) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def grads_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("name", "size", "n"), SPACES)
def test_extracted_network_equals_the_supernet(supernets, name, size, n) -> None:
    """Outputs, BatchNorm buffers and gradients, in both modes, to the last bit."""
    supernet = supernets[name]
    x = images(4, size)
    for choices in draw(supernet.space, n):
        supernet.eval()
        network = supernet.extract(choices)
        assert not network.training
        assert torch.equal(network(x), supernet(x, choices))

        supernet.train()
        network = supernet.extract(choices)
        assert network.training
        supernet.store.clear_gradients()
        logits, own_logits = supernet(x, choices), network(x)
        assert torch.equal(own_logits, logits)
        for out in (logits, own_logits):
            out.square().sum().backward()
        bound = supernet.bind(choices)
        assert grads_of(network).keys() == dict(network.named_parameters()).keys()
        for (key, value), (own_key, own) in zip(
            bound.named_parameters(), network.named_parameters(), strict=True
        ):
            assert key == own_key
            assert torch.equal(value.grad, own.grad), key
        for (key, value), (own_key, own) in zip(
            bound.named_buffers(), network.named_buffers(), strict=True
        ):
            assert key == own_key
            assert torch.equal(value, own), key
    supernet.store.clear_gradients()


@pytest.mark.parametrize(("name", "size", "n"), SPACES)
def test_extracted_network_is_a_searched_net(supernets, name, size, n) -> None:
    """Built independently from the same architecture, it takes the same weights."""
    supernet = supernets[name].eval()
    choices = draw(supernet.space, 1, seed=5)[0]
    network = supernet.extract(choices, name="found")
    assert network.arch == supernet.space.architecture(choices, "found")
    assert network.arch.num_classes == 7
    fresh = SearchedNet(network.arch).eval()
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(fresh(images(2, size)), supernet(images(2, size), choices))


def test_weights_are_prefixes() -> None:
    supernet = SuperNet(two_groups())
    randomise(supernet)
    network = supernet.extract(SMALL)
    for path, value in network.stage1[0].state_dict().items():
        full = supernet.store.full(f"stage1.0/kernel3,splits2/{path}")
        assert torch.equal(value, full[tuple(slice(0, side) for side in value.shape)]), path
        if value.dim() > 1 and path != "attention.fc1.weight":
            assert value.numel() < full.numel()
    # Split r of channel c is feature c * R + r, at every width.
    assert network.stage1[0].depthwise.conv.weight.shape[0] == 2 * 16
    assert supernet.store.full("stage1.0/kernel3,splits2/depthwise.conv.weight").shape[0] == 2 * 24


def test_a_small_kernel_is_the_centre_of_a_large_one() -> None:
    supernet = SuperNet(two_groups(), sharing="all")
    randomise(supernet)
    large = supernet.bind([2, 1, 0, 2, 2, 1, 1, 1]).stage1[0].depthwise.conv.weight
    small = supernet.bind([1, 0, 0, 1, 1, 1, 1, 1]).stage1[0].depthwise.conv.weight
    assert large.shape[2:] == (5, 5)
    assert small.shape[2:] == (3, 3)
    assert torch.equal(small, large[: len(small), :, 1:4, 1:4])
    small.square().sum().backward()
    assert torch.equal(large.grad[: len(small), :, 1:4, 1:4], 2 * small)
    assert float(large.grad.abs().sum()) == pytest.approx(float(small.grad.abs().sum()))


@pytest.mark.parametrize("name", ["FP-NAS-Micro", "FBNetV2-F++"])
def test_networks_that_share_all_stand_alone_too(name: str) -> None:
    supernet = SuperNet(get_space(name).at(input_size=16), sharing="all")
    randomise(supernet)
    for choices in draw(supernet.space, 4):
        network = supernet.extract(choices)
        x = images(4, 16)
        assert torch.equal(network(x), supernet(x, choices))


def test_bind_shares_storage() -> None:
    supernet = SuperNet(two_groups())
    network = supernet.bind(SMALL)
    storages = {p.untyped_storage().data_ptr() for p in supernet.state_dict().values()}
    for name, value in network.state_dict().items():
        assert value.untyped_storage().data_ptr() in storages, name
    x, before = images(2, 8), supernet(images(2, 8), LARGE)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    assert not torch.allclose(supernet(x, LARGE), before)
    again = supernet.bind(SMALL)
    assert all(a is b for a, b in zip(network.parameters(), again.parameters(), strict=True))


def shared_weights(supernet: SuperNet, first: dict, second: dict) -> set[str]:
    """Parameters of the block that two choices for the first group have in common."""
    names = []
    for change in (first, second):
        choices = LARGE.clone()
        for column, value in change.items():
            choices[column] = value
        block = supernet.bind(choices).stage1[0]
        names.append({n: p.untyped_storage().data_ptr() for n, p in block.named_parameters()})
    return {name for name in names[0] if names[0][name] == names[1].get(name)}


KERNEL, SPLITS, ACT, EXPANSION, CHANNELS = range(5)


@pytest.mark.parametrize("sharing", ["paper", "pointwise", "all"])
def test_what_is_shared(sharing: str) -> None:
    supernet = SuperNet(two_groups(), sharing=sharing)
    everything = set(dict(supernet.bind(LARGE).stage1[0].named_parameters()))
    pointwise = {name for name in everything if name.startswith(("expand.", "project."))}
    depthwise = {name for name in everything if name.startswith("depthwise.")}
    between_kinds = set() if sharing == "paper" else pointwise
    assert shared_weights(supernet, {ACT: 0}, {ACT: 1}) == everything
    assert shared_weights(supernet, {CHANNELS: 0}, {CHANNELS: 2}) == everything
    assert shared_weights(supernet, {EXPANSION: 1}, {EXPANSION: 2}) == everything
    between_kernels = everything if sharing == "all" else between_kinds
    assert shared_weights(supernet, {KERNEL: 1}, {KERNEL: 2}) == between_kernels
    assert shared_weights(supernet, {SPLITS: 2}, {SPLITS: 1}) == between_kinds
    with_or_without_se = between_kinds | depthwise if sharing == "all" else between_kinds
    assert shared_weights(supernet, {SPLITS: 0}, {SPLITS: 1}) == with_or_without_se
    # A skip has a convolution of its own, no prefix of anything else.
    assert shared_weights(supernet, {KERNEL: 0, CHANNELS: 1}, {KERNEL: 1}) == set()


def test_pointwise_sharing_stores_the_1x1_convolutions_once() -> None:
    paper, pointwise = (
        sum(p.numel() for p in SuperNet(two_groups(), sharing=sharing).parameters())
        for sharing in ("paper", "pointwise")
    )
    # The first group has 6 combinations of kernel and splits, the second just one.
    expand, project = 8 * 24 + 2 * 24, 24 * 16 + 2 * 16
    assert paper - pointwise == 5 * (expand + project)


def test_extracted_network_stands_alone() -> None:
    supernet = SuperNet(two_groups())
    randomise(supernet)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    network = supernet.extract(SMALL)
    assert not supernet.store.touched()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        network(images(4, 8)).square().sum().backward()
        optimizer.step()
    for name, value in supernet.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, value in network.state_dict().items():  # nor does it carry the full-size memory
        assert value.untyped_storage().nbytes() == value.nbytes, name
    assert not supernet.store.touched()


def test_extract_after_a_backward_has_no_gradients() -> None:
    supernet = SuperNet(two_groups())
    supernet(images(2, 8), SMALL).sum().backward()
    assert all(p.grad is None for p in supernet.extract(SMALL).parameters())


def test_touched_are_the_smallest_prefixes_that_cover_the_slices() -> None:
    supernet = SuperNet(two_groups())
    # Wide expansion with few channels, then the other way round: neither slice holds the other.
    wide, narrow = SMALL.clone(), SMALL.clone()
    wide[EXPANSION], wide[CHANNELS] = 2, 0
    narrow[EXPANSION], narrow[CHANNELS] = 1, 2
    shapes: dict[str, list] = {}
    for choices in (wide, narrow):
        supernet(images(2, 8), choices).sum().backward()
        for path, value in supernet.bind(choices).stage1[0].named_parameters():
            shapes.setdefault(path, []).append(tuple(value.shape))
    touched = {weight.name: weight for weight in supernet.store.touched()}
    block = {name: weight for name, weight in touched.items() if name.startswith("stage1.0/")}
    assert set(block) == {f"stage1.0/kernel3,splits2/{path}" for path in shapes}
    for path, pair in shapes.items():
        weight = touched[f"stage1.0/kernel3,splits2/{path}"]
        box = tuple(map(max, *pair))
        assert weight.shape == tuple(weight.weight.shape) == tuple(weight.grad.shape) == box
    project = touched["stage1.0/kernel3,splits2/project.conv.weight"]
    assert project.shape == (16, 24, 1, 1)
    assert not project.grad[8:, 16:].any()  # in the box, in no slice
    assert project.grad[:8, 16:].any() and project.grad[8:, :16].any()
    full = supernet.store.full(project.name)
    assert project.weight.data_ptr() == full.data_ptr()


def test_no_gradient_outside_what_was_touched() -> None:
    supernet = SuperNet(two_groups())
    supernet(images(2, 8), SMALL).sum().backward()
    touched = {weight.name: weight.shape for weight in supernet.store.touched()}
    for name, _ in supernet.store.named_weights():
        grad = supernet.store._grad(name).clone()
        if name in touched:
            grad[tuple(slice(0, side) for side in touched[name])] = 0
        assert not grad.any(), name
    used = {id(supernet.store.full(name)) for name in touched}
    assert all((p.grad is not None) == (id(p) in used) for p in supernet.parameters())


def test_nothing_is_touched_without_gradients() -> None:
    supernet = SuperNet(two_groups())
    with torch.no_grad():
        supernet(images(2, 8), SMALL)
    assert supernet.store.touched() == []


def test_a_first_look_in_inference_mode_leaves_the_supernet_trainable() -> None:
    supernet = SuperNet(two_groups())
    with torch.inference_mode():
        supernet(images(2, 8), LARGE)
    supernet(images(2, 8), LARGE).sum().backward()
    assert all(
        t.grad.abs().sum() > 0 for t in supernet.store.touched() if t.name.endswith("weight")
    )
    supernet.store.clear_gradients()


def test_samples_accumulate_and_are_cleared() -> None:
    supernet = SuperNet(two_groups()).double()
    randomise(supernet)
    x = images(4, 8).double()
    expected: dict[str, Tensor] = {}
    for choices in (LARGE, SMALL, SMALL):
        network = supernet.extract(choices)
        network(x).square().sum().backward()
        for path, grad in grads_of(network.stage1[0]).items():
            full = expected.setdefault(
                path, torch.zeros_like(supernet.store.full(f"stage1.0/kernel3,splits2/{path}"))
            )
            full[tuple(slice(0, side) for side in grad.shape)] += grad
        supernet(x, choices).square().sum().backward()
    touched = {weight.name: weight.grad for weight in supernet.store.touched()}
    for path, grad in expected.items():
        torch.testing.assert_close(touched[f"stage1.0/kernel3,splits2/{path}"], grad.detach())

    supernet.store.clear_gradients()
    assert supernet.store.touched() == []
    assert not any(grad.any() for grad in touched.values())
    supernet(x, SMALL).square().sum().backward()
    network.zero_grad()
    network(x).square().sum().backward()
    for parameter, own in zip(supernet.bind(SMALL).parameters(), network.parameters(), strict=True):
        assert torch.equal(parameter.grad, own.grad)


def test_state_dict_round_trip() -> None:
    space, x = two_groups(), images(3, 8)
    torch.manual_seed(0)
    first = SuperNet(space)
    randomise(first)
    second = SuperNet(space)
    choices = draw(space, 8)
    with torch.no_grad():
        second(x, choices[0])  # bound before the weights change
        second.load_state_dict(first.state_dict())
        for net in (first, second):
            net.eval()
        for row in choices:
            assert torch.equal(first(x, row), second(x, row))


def test_another_dtype_binds_anew() -> None:
    supernet, x = SuperNet(two_groups()), images(3, 8)
    randomise(supernet)
    supernet(x, SMALL).sum().backward()
    network = supernet.extract(SMALL)
    supernet.double(), network.double()
    assert supernet.store.touched() == []
    logits = supernet(x.double(), SMALL)
    assert logits.dtype == torch.float64
    assert torch.equal(logits, network(x.double()))
    logits.sum().backward()
    assert {weight.grad.dtype for weight in supernet.store.touched()} == {torch.float64}
    with torch.no_grad():
        for parameter in supernet.bind(SMALL).parameters():
            parameter.zero_()
    assert not supernet.store.full("head/act=swish,num_classes=4/fc.bias").any()


def test_channels_last() -> None:
    supernet, x = SuperNet(two_groups()).eval(), images(3, 8)
    expected = supernet(x, SMALL)
    supernet.to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(supernet(x, SMALL), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(supernet.extract(SMALL)(x), supernet(x, SMALL))


def test_a_deep_copy_is_a_supernet_of_its_own() -> None:
    supernet, x = SuperNet(two_groups()).eval(), images(2, 8)
    randomise(supernet)
    supernet(x, SMALL).sum().backward()
    other = copy.deepcopy(supernet)
    before = supernet(x, SMALL)
    assert torch.equal(other(x, SMALL), before)
    with torch.no_grad():
        for parameter in other.bind(SMALL).parameters():
            parameter.mul_(2)
    assert torch.equal(supernet(x, SMALL), before)
    name = "stage1.0/kernel3,splits2/project.conv.weight"
    changed = other.store.full(name) != supernet.store.full(name)
    assert changed[:12, :16].all() and not changed[12:].any()


def test_mode_follows_the_supernet() -> None:
    supernet = SuperNet(two_groups())
    assert supernet.bind(SMALL).training
    assert not supernet.eval().bind(SMALL).training
    assert not any(module.training for module in supernet.bind(SMALL).modules())
    assert all(module.training for module in supernet.train().bind(SMALL).modules())


def test_batch_statistics_reach_the_shared_buffers() -> None:
    supernet = SuperNet(two_groups())
    supernet(images(4, 8), SMALL)
    network = supernet.extract(LARGE)
    for name in ("mean", "var"):
        running = getattr(network.stage1[0].project.bn, f"running_{name}")
        start = torch.zeros(1) if name == "mean" else torch.ones(1)
        assert (running[:12] != start).all()
        assert (running[12:] == start).all()


def test_bound_blocks_are_limited(monkeypatch) -> None:
    monkeypatch.setattr("fpnas.modeling.supernet._MAX_BOUND_BLOCKS", 4)
    supernet, x = SuperNet(two_groups()).eval(), images(2, 8)
    for choices in draw(supernet.space, 12):
        assert torch.equal(supernet(x, choices), supernet.extract(choices)(x))
        assert len(supernet._bound) <= 5


def test_every_choice_of_a_space_binds() -> None:
    """The largest blocks hold the weights of all others: also widths that rounding enlarges."""
    space = two_groups(expansion=(0.75, 1.0, 1.75), channels=(4, 12, 20))
    supernet = SuperNet(space).eval()
    with torch.no_grad():
        for choices in draw(space, 60):
            assert supernet(images(1, 8), choices).shape == (1, 4)


def test_expansion_1_as_the_largest_of_several_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"stage1\.0 .*expand.*expansion 1"):
        SuperNet(two_groups(expansion=(0.75, 1)))
    SuperNet(two_groups(expansion=(1,)))


def test_a_block_may_start_as_its_shortcut() -> None:
    space = two_groups(kernel=(3, 5)).with_shortcut("always")
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    # They differ in all but their channels.
    others = LARGE[None].repeat(2, 1) * torch.tensor([0, 0, 0, 0, 1, 1, 0, 1])
    others[1, :4] = torch.tensor([1, 2, 1, 2])
    for is_zero in (False, True):
        torch.manual_seed(0)
        logits = [SuperNet(space, zero_init_residual=is_zero)(x, others[0])]
        torch.manual_seed(0)
        supernet = SuperNet(space, zero_init_residual=is_zero)
        logits.append(supernet(x, others[1]))
        assert torch.equal(*logits) == is_zero
    logits[1].square().sum().backward()
    weights = {t.name: t.grad for t in supernet.store.touched()}
    last = [grad for name, grad in weights.items() if name.endswith("project.bn.weight")]
    assert last and all(grad.any() for grad in last)  # it can leave that start


def test_num_classes() -> None:
    assert SuperNet(two_groups()).space.num_classes == 4
    supernet = SuperNet(two_groups(), num_classes=9)
    assert supernet(images(2, 8), SMALL).shape == (2, 9)


def test_errors() -> None:
    with pytest.raises(
        ConfigError, match=r"SEARCH\.SHARING is 'none'; valid: 'paper', 'pointwise', 'all'"
    ):
        SuperNet(two_groups(), sharing="none")
    supernet = SuperNet(two_groups())
    with pytest.raises(UserError, match="out of range"):
        supernet(images(1, 8), LARGE + 1)
    with pytest.raises(UserError, match="V = 8"):
        supernet.bind([0, 0])


def test_blocks_of_a_group_have_their_own_weights() -> None:
    network = SuperNet(two_groups()).bind(LARGE)
    first, second = network.stage2
    ours = {p.untyped_storage().data_ptr() for p in first.parameters()}
    assert ours.isdisjoint(p.untyped_storage().data_ptr() for p in second.parameters())
    assert isinstance(network.arch.stages[1][0], MBConvSpec)
