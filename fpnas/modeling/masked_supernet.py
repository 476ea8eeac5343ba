"""The alternative to slicing: channel masks on full-size tensors, for differentiable searches.

FBNetV2 [Wan et al. 2020] masks channels and computes all other choices.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fpnas.blocks import BlockSpec, MBConv, MBConvSpec, SkipSpec
from fpnas.errors import ConfigError, UserError
from fpnas.layers import PaddedShortcut
from fpnas.modeling.searched_net import without_init
from fpnas.modeling.supernet import SuperNet, tensor_places
from fpnas.spaces import BlockGroup, NetworkSpace, SearchSpace


def uniform_weights(space: SearchSpace) -> list[Tensor]:
    """Every choice with the same weight: a relaxed one-hot [values] for each search variable.

    They ask for gradients, as the weights of a search do.
    """
    return [torch.full((n,), 1 / n).requires_grad_() for n in space.cardinalities]


@dataclass(frozen=True)
class Mixture:
    """Values of a variable and their weights [values], which sum to 1. One value: exactly that."""

    values: tuple[Any, ...]
    weights: Tensor

    def parts(self) -> Iterator[tuple[Any, Tensor | int]]:
        """Each value with its weight; a value without an alternative has the number 1."""
        weights = [1] if len(self.values) == 1 else self.weights
        return zip(self.values, weights, strict=True)


Mixtures = dict[str, Mixture]  # by field of the block type

# A weight's name in the store, and where it stands in a module: tensors[leaf].
Place = tuple[str, dict[str, Any], str]


class MaskedSuperNet(SuperNet):
    """A supernet whose channel choices are masks on tensors of the largest size, as in FBNetV2.

    The weights are those of :class:`SuperNet` under the same names, so that states are
    interchangeable and ``extract`` works alike. ``net(x, choices)`` gives the same logits, too, at
    the price of the largest network; ``net.mix(x, weights)`` relaxes the choices.

    Only groups of MBConv blocks are known. Unlike in :class:`SuperNet`, gradients arrive in the
    parameters themselves, for any optimizer of torch.
    """

    def __init__(
        self,
        space: NetworkSpace,
        num_classes: int | None = None,
        sharing: str = "paper",
        zero_init_residual: bool = False,
    ) -> None:
        """Arguments as in :class:`SuperNet`, but not ``sharing="all"``: kernels are no masks.

        Raises UserError on that and on blocks that cannot be masked.
        """
        if sharing == "all":
            raise ConfigError(
                "SEARCH.SHARING 'all' is for the probabilistic search; a differentiable one takes "
                "'paper' or 'pointwise'."
            )
        _check_maskable(space)
        super().__init__(space, num_classes, sharing, zero_init_residual)
        self._largest: dict[tuple[str, BlockSpec, int], tuple[nn.Module, list[Place]]] = {}

    def forward(self, x: Tensor, choices: Tensor | Sequence[int]) -> Tensor:
        """Logits ``[N, num_classes]`` of the architecture ``choices[V]`` for ``x[N, C, H, W]``.

        One path, in which the channels beyond the chosen ones are 0.
        """
        one = torch.ones(1, device=x.device)
        groups = self.space.decode(choices)
        return self._run(x, [{k: Mixture((v,), one) for k, v in g.items()} for g in groups])

    def mix(self, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Logits ``[N, num_classes]`` of a mixture of all architectures, differentiable in both.

        Every combination of kernel, activation and splits is computed, and the results are summed
        with the products of their weights. The masks of expansions and channels are averaged.
        One-hot weights give the logits of ``forward``.

        Args:
            x: ``[N, C, H, W]``.
            weights: for each of the V search variables a relaxed one-hot [values]: not negative,
                sum 1.
        """
        return self._run(x, named_mixtures(self.space, weights, x.device))

    def _run(self, x: Tensor, mixtures: Sequence[Mixtures]) -> Tensor:
        x = self._block("stem", self.space.stem, x.shape[1])(x)
        one = torch.ones(1, device=x.device)
        entering = Mixture((self.space.stem.channels,), one)
        groups = zip(self.space.block_groups, self.space.places, mixtures, strict=True)
        for group, places, own in groups:
            own = {**{k: Mixture((v,), one) for k, v in group.fixed.items()}, **own}
            for b, place in enumerate(places):
                x = self._mixed_block(place, group, b, x, entering, own)
                entering = own["channels"]
        return self._block("head", self.space.head, x.shape[1])(x)

    def _mixed_block(
        self,
        name: str,
        group: BlockGroup,
        number: int,
        x: Tensor,
        entering: Mixture,
        own: Mixtures,
    ) -> Tensor:
        """Block ``number`` of a group; ``entering`` are the channels of ``x``, which is masked."""
        stride = group.stride if number == 0 else 1
        width = max(group.variables["channels"])
        always = own["shortcut"].values[0] == "always"
        has_shortcut = always or stride == 1
        shortcut = PaddedShortcut(x.shape[1], width, stride).resized(x) if has_shortcut else x
        same: Tensor | float = 1.0  # weight of equal channels of input and output
        if number == 0:
            same = _agreement(entering, own["channels"]) if stride == 1 else 0.0
        # Weight of the shortcut where it needs no mask: of any block, or of a skip alone.
        kept = 0.0 if always else same
        branches = []
        for kernel, weight in own["kernel"].parts():
            if kernel == 0:
                kept = weight * same if always else kept
                if not isinstance(same, float) or same == 0:
                    skip = self._block(name, SkipSpec(width, stride), x.shape[1])
                    branches.append(weighted(skip(x), weight * (1 - same)))
                continue
            for out, share in self._mbconvs(name, group, stride, kernel, x, entering, own):
                branches.append(weighted(out, weight * share))
            if always:
                branches.append(weighted(shortcut, weight))
        if not branches:
            return shortcut
        out = sum(branches[1:], start=branches[0])
        out = out * channel_mask(own["channels"].values, own["channels"].weights, out)
        if isinstance(kept, float) and kept in (0.0, 1.0):
            return out + shortcut if kept else out
        return out + weighted(shortcut, kept)

    def _mbconvs(
        self,
        name: str,
        group: BlockGroup,
        stride: int,
        kernel: int,
        x: Tensor,
        entering: Mixture,
        own: Mixtures,
    ) -> Iterator[tuple[Tensor, Tensor | int]]:
        """The residual branch of each kind of MBConv of this kernel size, with its weight."""
        conventions = {name: own[name].values[0] for name in MBConvSpec.rare_fields}
        inner, hidden, share = _widths(entering, own["expansion"], conventions)
        expansion = max(group.variables.get("expansion", own["expansion"].values))
        kinds = itertools.product(own["act"].parts(), own["splits"].parts())
        for (act, act_weight), (splits, splits_weight) in kinds:
            spec = MBConvSpec(
                channels=max(group.variables["channels"]),
                stride=stride,
                kernel=kernel,
                expansion=expansion,
                act=act,
                splits=splits,
                **conventions,
            )
            block = self._block(name, spec, x.shape[1])
            yield _masked_branch(block, splits, x, inner, hidden, share), act_weight * splits_weight

    def _block(self, name: str, block: BlockSpec, in_channels: int) -> nn.Module:
        """The block of this supernet's largest size, on the parameters themselves."""
        key = (name, block, in_channels)
        if key not in self._largest:
            with torch.device("meta"), without_init():
                module = block.build_largest(in_channels)
            places = [
                (self._weight_name(name, block, path), tensors, leaf)
                for path, tensors, leaf in tensor_places(module)
            ]
            self._largest[key] = (module, places)
        module, places = self._largest[key]
        for weight, tensors, leaf in places:  # anew, as functional_call and others exchange them
            tensors[leaf] = self.store.full(weight)
        return module.train(self.training)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_largest": {}}


def _masked_branch(
    block: MBConv, splits: int, x: Tensor, inner: list[int], hidden: list[int], weights: Tensor
) -> Tensor:
    """``block`` without its shortcut, at full width, as if it had ``inner`` and ``hidden`` units.

    The mask after the depthwise convolution is enough: until there, each channel is on its own.
    """
    out = block.depthwise(block.expand(x))
    width = out.shape[1] // max(splits, 1)
    mask = channel_mask(inner, weights, out, width)
    if not splits:
        return block.project(out * mask)
    out = out * mask.repeat_interleave(splits, dim=1)  # the splits of a channel are neighbours
    attention = block.attention
    # Every activation maps 0 to 0, so that masking fc1's weights is masking the hidden units.
    mask = channel_mask(hidden, weights, out, attention.fc1.out_channels).transpose(0, 1)
    first = {
        "fc1.weight": attention.fc1.weight * mask,
        "fc1.bias": attention.fc1.bias * mask.flatten(),
    }
    return block.project(functional_call(attention, first, out))


def _widths(
    entering: Mixture, expansion: Mixture, conventions: dict[str, Any]
) -> tuple[list[int], list[int], Tensor]:
    """For every pair of input channels and expansion: inner channels, hidden units, its weight."""
    inner, hidden = [], []
    for channels, ratio in itertools.product(entering.values, expansion.values):
        spec = MBConvSpec(channels=1, expansion=ratio, **conventions)
        inner.append(spec.inner_channels(channels))
        hidden.append(spec.attention.hidden_channels(channels, inner[-1]))
    return inner, hidden, torch.outer(entering.weights, expansion.weights).flatten()


def channel_mask(
    sizes: Sequence[int], weights: Tensor, like: Tensor, width: int | None = None
) -> Tensor:
    """Weighted mean of masks that keep the first ``sizes[i]`` channels: [1, width, 1, 1]."""
    width = like.shape[1] if width is None else width
    channels = torch.arange(width, device=like.device)
    prefixes = channels < torch.tensor(sizes, device=like.device)[:, None]
    return (weights @ prefixes.to(weights.dtype)).to(like.dtype).view(1, -1, 1, 1)


def _agreement(first: Mixture, second: Mixture) -> Tensor | float:
    """Weight of the pairs of equal values; a float (0 or 1) where it is certain."""
    equal = [[a == b for b in second.values] for a in first.values]
    flat = list(itertools.chain(*equal))
    if len(flat) == 1 or not any(flat):
        return float(flat[0])
    return first.weights @ first.weights.new_tensor(equal) @ second.weights


def weighted(x: Tensor, weight: Tensor | float) -> Tensor:
    """``weight * x``, without a copy for the number 1."""
    return weight.to(x.dtype) * x if isinstance(weight, Tensor) else x


def named_mixtures(
    space: SearchSpace, weights: Sequence[Tensor], device: torch.device
) -> list[Mixtures]:
    """The variables of each group with their weights, float32. Raises UserError on other shapes."""
    found = [tuple(w.shape) for w in weights]
    if found != [(n,) for n in space.cardinalities]:
        raise UserError(
            f"Space '{space.name}' needs one weight for each value of its "
            f"{len(space.variables)} variables, shapes {[(n,) for n in space.cardinalities]}; "
            f"found {found}."
        )
    mixtures = iter(
        Mixture(variable.values, weight.to(device, torch.float32))
        for variable, weight in zip(space.variables, weights, strict=True)
    )
    return [{v.name: next(mixtures) for v in group.variables} for group in space.groups]


def _check_maskable(space: NetworkSpace) -> None:
    for number, group in enumerate(space.block_groups, start=1):
        if group.spec_type is not MBConvSpec:
            raise UserError(
                f"A masked supernet knows groups of 'MBConv' blocks only; stage{number} of space "
                f"'{space.name}' searches '{group.block}'."
            )
        if group.channel_position is None:
            raise UserError(
                f"A masked supernet needs 'channels' among the variables of every group; "
                f"group {number} of space '{space.name}' has as many as enter it."
            )
        if "never" in group.variables.get("shortcut", [group.fixed.get("shortcut")]):
            raise UserError(
                f"A masked supernet knows the shortcuts 'equal' and 'always'; group {number} of "
                f"space '{space.name}' has 'never'."
            )
        for name in MBConvSpec.rare_fields:
            if len(group.variables.get(name, ())) > 1:
                raise UserError(
                    f"A masked supernet cannot search over '{name}', as stage{number} of space "
                    f"'{space.name}' does; give it one value."
                )
        expansions = group.variables.get("expansion", ())
        if 1 in expansions and len(expansions) > 1:
            raise UserError(
                f"A masked supernet cannot mix expansion 1, which has no expanding convolution, "
                f"with others; stage{number} of space '{space.name}' searches {expansions}."
            )
