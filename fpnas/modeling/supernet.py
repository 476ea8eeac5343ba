"""SuperNet: the weights of all architectures of a space, shared by slicing."""

from __future__ import annotations

import copy
import gc
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fpnas.blocks import BlockSpec
from fpnas.config.checks import check_name
from fpnas.errors import ConfigError
from fpnas.modeling.searched_net import SearchedNet, init_weights, without_init, zero_init_residual
from fpnas.modeling.weight_store import Shape, WeightStore
from fpnas.spaces import NetworkSpace

SHARING = ("paper", "pointwise", "all")

# Blocks whose views are kept ready. One of FBNetV2-F takes about 30 KB beside the shared weights.
_MAX_BOUND_BLOCKS = 4096


class BoundBlock(NamedTuple):
    """A block on the weights of a supernet, and what it borrows."""

    module: nn.Module
    slices: tuple[tuple[str, Shape], ...]  # of parameters: name and shape
    names: tuple[str, ...]  # of parameters and buffers


class SuperNet(nn.Module):
    """One sampled architecture at a time, on weights that all architectures share.

    A sampled architecture is a plain :class:`SearchedNet` whose parameters and BatchNorm buffers
    are parts of this network's tensors (``bind``); there is no second forward pass to keep in
    step with the first. Any registered block can be searched over: its ``weight_group`` says
    which choices share a tensor, its sizes say which part they use.

    Gradients gather in the store (``supernet.store``) and are, as ever, the ``.grad`` of the
    parameters that a sample used. Step them with :class:`~fpnas.solver.SharedSGD`, which leaves
    alone what was not used of a weight; an optimizer of torch would decay it. With several
    processes average them in one collective, as the trainers of :mod:`fpnas.search` do.

    Raises RuntimeError where torch would look for gradients, or put weights, in vain: in the
    forward pass of DistributedDataParallel, and when a weight was replaced by another tensor (see
    :meth:`~fpnas.modeling.weight_store.WeightStore.check`).

    Attributes:
        space: the search space; its ``num_classes`` is the number of logits.
        store: the weights.
    """

    def __init__(
        self,
        space: NetworkSpace,
        num_classes: int | None = None,
        sharing: str = "paper",
        zero_init_residual: bool = False,
    ) -> None:
        """
        Args:
            space: what may be sampled.
            num_classes: logits; ``None`` keeps the space's own number.
            sharing: "paper", "pointwise" or "all", see ``SEARCH.SHARING``.
            zero_init_residual: every block starts as its shortcut, which all blocks must have.
        """
        super().__init__()
        check_name("SEARCH.SHARING", sharing, SHARING)
        self.space = space.at(num_classes=num_classes)
        self.sharing = sharing
        if zero_init_residual:
            _check_shortcuts(self.space)
        self.store = WeightStore()
        self._bound: OrderedDict[tuple[str, BlockSpec, int], BoundBlock] = OrderedDict()
        self._bound_version = self.store.version
        for (name, block, in_channels), follows in _corner_blocks(self.space, max).items():
            # What follows has the shape of its input whatever its size, so that a skip in it needs
            # no weights at any size.
            module = block.build(in_channels) if follows else block.build_largest(in_channels)
            self._add_weights(name, block, module, zero_init_residual)
        with without_init():
            for name, block, in_channels in _corner_blocks(self.space, min):
                self._check_weights(name, block, in_channels)

    def forward(self, x: Tensor, choices: Tensor | Sequence[int]) -> Tensor:
        """Logits ``[N, num_classes]`` of the architecture ``choices[V]`` for ``x[N, C, H, W]``."""
        return self.bind(choices)(x)

    def bind(self, choices: Tensor | Sequence[int]) -> SearchedNet:
        """The architecture ``choices[V]`` as a network on this supernet's own weights.

        It is in this supernet's training or eval mode as of this call. With gradients enabled,
        the weights that it uses count as touched.
        """
        if torch.is_grad_enabled():
            _check_not_distributed()
        touched: list[tuple[str, Shape]] = []

        def borrow(name: str, block: BlockSpec, in_channels: int) -> nn.Module:
            bound = self.bind_block(name, block, in_channels)
            touched.extend(bound.slices)
            return bound.module

        with _without_garbage_collection(), torch.random.fork_rng(devices=[]), without_init():
            network = SearchedNet(self.space.architecture(choices), build=borrow)
        if torch.is_grad_enabled():
            self.store.touch(touched)
        return network.train(self.training)

    def extract(self, choices: Tensor | Sequence[int], name: str = "") -> SearchedNet:
        """A standalone copy of the architecture ``choices[V]`` with its present weights."""
        with torch.no_grad():
            network = copy.deepcopy(self.bind(choices))
        network.arch = self.space.architecture(choices, name)
        for module in network.modules():  # deepcopy keeps a buffer's whole, full-size storage
            for key, buffer in module._buffers.items():
                module._buffers[key] = None if buffer is None else buffer.clone()
        return network

    def _add_weights(
        self, name: str, block: BlockSpec, module: nn.Module, zero_residual: bool
    ) -> None:
        init_weights(module)
        if zero_residual:
            zero_init_residual(module)
        for path, tensors, leaf in tensor_places(module):
            self.store.add(self._weight_name(name, block, path), tensors[leaf])

    def _check_weights(self, name: str, block: BlockSpec, in_channels: int) -> None:
        """Raise ConfigError unless the stored weights have the parts that ``block`` needs."""
        for path, tensors, leaf in tensor_places(block.build(in_channels)):
            shape = tuple(tensors[leaf].shape)
            if not self.store.holds(self._weight_name(name, block, path), shape):
                raise ConfigError(
                    f"Space '{self.space.name}': {name} cannot share weights by size. {block} "
                    f"needs '{path}' of shape {shape}, which its largest choice lacks."
                    " (With expansion 1 a block does not expand; it must be the only value, or "
                    "stand beside a larger one.)"
                )

    def _weight_name(self, name: str, block: BlockSpec, path: str) -> str:
        return f"{name}/{block.weight_group(path, self.sharing)}/{path}"

    def bind_block(self, name: str, block: BlockSpec, in_channels: int) -> BoundBlock:
        """That block on this supernet's own weights, for networks that :meth:`bind` does not make.

        What is differentiated must be touched: ``store.touch(bound.slices)``.
        """
        if self._bound_version != self.store.version:
            self._bound.clear()  # their views point at the old tensors
            self._bound_version = self.store.version
        key = (name, block, in_channels)
        if key in self._bound:
            self._bound.move_to_end(key)
            self.store.check(self._bound[key].names)
            return self._bound[key]
        module = block.build(in_channels)  # for its shapes: bind() leaves the weights as they come
        slices, names = [], []
        for path, tensors, leaf in tensor_places(module):
            slice_ = (self._weight_name(name, block, path), tuple(tensors[leaf].shape))
            names.append(slice_[0])
            if isinstance(tensors[leaf], nn.Parameter):
                slices.append(slice_)
            tensors[leaf] = self.store.view(*slice_)
        self.store.check(names)
        self._bound[key] = BoundBlock(module, tuple(slices), tuple(names))
        if len(self._bound) > _MAX_BOUND_BLOCKS:
            self._bound.popitem(last=False)
        return self._bound[key]

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles bind anew: the views of a copy would not share its memory.
        return {**self.__dict__, "_bound": OrderedDict()}


def _check_not_distributed() -> None:
    """Raise RuntimeError inside DistributedDataParallel, whose hooks would see no gradient."""
    # torch notes the module that runs for its compiler; there is no public way to ask.
    if getattr(DistributedDataParallel, "_active_ddp_module", None) is not None:
        raise RuntimeError(
            "DistributedDataParallel cannot train a SuperNet: gradients gather in parts of "
            "supernet.store, where it does not look. Average the gradients that "
            "supernet.store.touched() lists over the processes, as fpnas.search.methods."
            "SearchTrainer does, and step them with fpnas.solver.SharedSGD; or train the network "
            "that supernet.extract(choices) returns."
        )


def _check_shortcuts(space: NetworkSpace) -> None:
    for number, group in enumerate(space.block_groups, start=1):
        shortcuts = group.variables.get("shortcut", [group.fixed.get("shortcut")])
        if any(shortcut != "always" for shortcut in shortcuts):
            raise ConfigError(
                "SEARCH.ZERO_INIT_RESIDUAL needs a shortcut in every block: set SEARCH.SHORTCUT to "
                f"'always'. Stage {number} of space '{space.name}' has {list(shortcuts)}."
            )


def _corner_blocks(
    space: NetworkSpace, extreme: Callable[[Sequence[Any]], Any]
) -> dict[tuple[str, BlockSpec, int], bool]:
    """``(name, block, in_channels)`` of every block of the largest sizes (``extreme`` is max).

    And whether its group follows. For each place in the network: the largest sizes, for every
    combination of the other choices. Their weights cover all architectures. With ``extreme=min``:
    the smallest sizes.
    """
    corner = {("stem", space.stem, 3): False}
    in_channels = space.stem.channels
    for group, places in zip(space.block_groups, space.places, strict=True):
        fixed = {
            name: [extreme(values)] if name in group.spec_type.size_fields else values
            for name, values in group.variables.items()
        }
        for choice in group.combinations(fixed):
            channels = in_channels
            for place, block in zip(places, group.blocks(choice, in_channels), strict=True):
                corner[place, block, channels] = group.channel_position is None
                channels = block.channels
        in_channels = extreme(group.leaving([in_channels]))
    corner["head", space.head, in_channels] = False
    return corner


def tensor_places(module: nn.Module) -> list[tuple[str, dict[str, Any], str]]:
    """``(path, tensors, leaf)`` of every parameter and buffer, which is ``tensors[leaf]``.

    A tensor is replaced by assigning to that; it costs a fraction of the way over ``setattr``.
    """
    return [
        (f"{prefix}.{leaf}" if prefix else leaf, tensors, leaf)
        for prefix, layer in module.named_modules()
        for tensors in (layer._parameters, layer._buffers)
        for leaf, value in tensors.items()
        if value is not None
    ]


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Python otherwise looks for garbage several times while the modules of a network are made.

    They are thousands of objects without a cycle; looking takes up to half of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
