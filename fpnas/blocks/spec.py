"""What a block is: a small typed record from which its cost, its module and its weights follow."""

from __future__ import annotations

import dataclasses
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn

from fpnas.errors import ConfigError, UnknownNameError
from fpnas.utils.records import parse
from fpnas.utils.registry import Registry

BLOCK_REGISTRY = Registry(
    "BLOCK",
    contract="""Names of block types: subclasses of :class:`BlockSpec`, frozen dataclasses.

    A block type says how one block of an architecture is described. It has at least the fields
    ``channels`` (output channels) and ``stride`` (input rows per output row), and defines

    - ``cost(in_channels, height, width) -> Cost``: multiply-adds and weights at that input size;
    - ``build(in_channels) -> nn.Module``: the block, ``[N, in_channels, H, W] -> [N, channels,
      (H - 1) // stride + 1, ...]``.

    That is enough to stand in an architecture's YAML file and in a search space. A block that
    groups of a space search over may also define ``size_fields`` (fields on which weights are
    shared by slicing), ``weight_group`` (which choices share weights), ``build_largest`` (what a
    supernet stores) and ``from_choice``.
    """,
)


class Cost(NamedTuple):
    """Cost of a block, or of K networks as tensors ``[K]``.

    Attributes:
        flops: multiply-adds of convolutions and linear layers for one image, the convention of
            the paper and of fvcore. Nothing for bias, BatchNorm, activation, pooling and gating.
        params: weights of convolutions and linear layers, without bias and BatchNorm.
    """

    flops: Any
    params: Any


class BlockSpec(ABC):
    """Base of all block types, frozen dataclasses. Contract: ``BLOCK_REGISTRY.__doc__``."""

    # A supernet holds the weights for the largest value of these fields; smaller values use the
    # first channels. Every other field selects weights by ``weight_group``.
    size_fields: ClassVar[tuple[str, ...]] = ("channels", "expansion")

    # Fields that few blocks change from their defaults; files leave them out where nothing differs.
    rare_fields: ClassVar[tuple[str, ...]] = ()

    channels: int
    stride: int

    @abstractmethod
    def cost(self, in_channels: int, height: int, width: int) -> Cost:
        """Cost for one image of ``height`` x ``width`` px with ``in_channels`` channels."""

    def keeps_shape(self, in_channels: int) -> bool:
        """Whether the output has the shape of the input."""
        return self.stride == 1 and in_channels == self.channels

    @abstractmethod
    def build(self, in_channels: int) -> nn.Module:
        """The block as a module with fresh weights."""

    def build_largest(self, in_channels: int) -> nn.Module:
        """What a supernet stores for this block, the largest of its kind: all weights of any size.

        Differs from :meth:`build` only for a block that needs weights at some sizes but not at
        its largest.
        """
        return self.build(in_channels)

    def weight_group(self, parameter: str, sharing: str) -> str:
        """Name of the set of supernet weights that ``parameter`` is a slice of.

        Choices that give the same name share the parameter. By default every value of the fields
        that are no ``size_fields`` has weights of its own.

        Args:
            parameter: name inside the module, such as ``"depthwise.conv.weight"``.
            sharing: the supernet's rule, a value of ``SEARCH.SHARING``.
        """
        fields = sorted(_written_fields(self).items())
        return ",".join(f"{k}={v}" for k, v in fields if k not in self.size_fields)

    @classmethod
    def from_choice(cls, **fields: Any) -> BlockSpec:
        """The block that a choice of search variables stands for; may be of another type."""
        return cls(**fields)


class BlockShape(NamedTuple):
    """A block and the input it gets: all that its cost depends on."""

    spec: BlockSpec
    in_channels: int
    in_size: int  # rows (= columns), px

    @property
    def cost(self) -> Cost:
        return self.spec.cost(self.in_channels, self.in_size, self.in_size)

    @property
    def is_identity(self) -> bool:
        """Whether the block hands its input on as it is."""
        if self.cost.params:
            return False  # without a module to build
        with torch.device("meta"):  # no weights, no random numbers
            return isinstance(self.spec.build(self.in_channels), nn.Identity)

    def __str__(self) -> str:
        """Registry name, fields and input, such as ``Skip(channels=16, stride=2) on 8x28x28``."""
        fields = spec_to_dict(self.spec)
        name = fields.pop("block")
        # 1 and 1.0 are equal as fields, hence one block shape.
        for key, value in fields.items():
            if isinstance(value, float) and value.is_integer():
                fields[key] = int(value)
        inner = ", ".join(f"{key}={value}" for key, value in fields.items())
        return f"{name}({inner}) on {self.in_channels}x{self.in_size}x{self.in_size}"


def output_size(size: int, stride: int) -> int:
    """Rows (columns) that leave a padded convolution of ``stride`` on ``size`` rows (columns)."""
    return (size - 1) // stride + 1


def round_channels(channels: float, divisor: int = 8) -> int:
    """``channels`` rounded half up to a multiple of ``divisor``, as the FBNet family does.

    At least ``divisor``; one step higher when rounding would lose over 5 %.
    """
    rounded = int(channels / divisor + 0.5) * divisor
    rounded += divisor * (rounded < 0.95 * channels)
    return max(rounded, divisor)


def spec_to_dict(spec: BlockSpec) -> dict[str, Any]:
    """Plain data of a block: its registry name under ``block``, then its fields.

    Rare fields are there where they differ from their defaults, and so are a record's own fields.
    """
    return {"block": block_name(spec), **_written_fields(spec)}


def spec_from_dict(data: Mapping[str, Any], where: str = "") -> BlockSpec:
    """The inverse of :func:`spec_to_dict`. Fields with a default may be missing.

    Raises UserError, which names what does not fit and ``where`` it stands.
    """
    where = f"{where}: " if where else ""
    if not isinstance(data, Mapping) or "block" not in data:
        raise ConfigError(f"{where}A block is a mapping with the key 'block', found {data!r}.")
    values = dict(data)
    name = values.pop("block")
    if not isinstance(name, str):
        raise ConfigError(f"{where}A block's 'block' is the name of its type, found {name!r}.")
    try:
        kind = BLOCK_REGISTRY.get(name)
    except UnknownNameError as error:
        raise UnknownNameError(f"{where}{error}") from None
    records = [f for f in dataclasses.fields(kind) if dataclasses.is_dataclass(f.default)]
    readers = {f.name: functools.partial(parse, type(f.default), readers={}) for f in records}
    return parse(kind, values, f"{where}Block '{name}'", readers=readers)


def _written_fields(spec: BlockSpec) -> dict[str, Any]:
    """The fields of a block by name, without rare ones that have their defaults."""
    written = {}
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if field.name in spec.rare_fields and value == field.default:
            continue
        if dataclasses.is_dataclass(value):  # a record: what differs from its defaults
            own = {f.name: (getattr(value, f.name), f.default) for f in dataclasses.fields(value)}
            value = {name: found for name, (found, default) in own.items() if found != default}
        written[field.name] = value
    return written


def block_name(spec: BlockSpec) -> str:
    """Name under which the type of ``spec`` is registered."""
    for name, spec_type in BLOCK_REGISTRY:
        if spec_type is type(spec):
            return name
    raise ConfigError(f"{type(spec).__name__} is not in the BLOCK registry; register it first.")


def check_whole(spec: Any, **minimum: int) -> None:
    """Raise ConfigError unless each named field of ``spec`` is an int of at least that value."""
    for field, least in minimum.items():
        value = getattr(spec, field)
        if type(value) is not int or value < least:
            raise ConfigError(
                f"{type(spec).__name__}.{field} must be a whole number of at least {least}, "
                f"found {value!r}."
            )


def check_ratio(spec: Any, field: str) -> None:
    """Raise ConfigError unless that field of ``spec`` is a finite number above 0."""
    value = getattr(spec, field)
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ConfigError(
            f"{type(spec).__name__}.{field} must be a number above 0, found {value!r}."
        )


def check_flag(spec: Any, field: str) -> None:
    """Raise ConfigError unless that field of ``spec`` is true or false."""
    value = getattr(spec, field)
    if type(value) is not bool:
        raise ConfigError(f"{type(spec).__name__}.{field} must be true or false, found {value!r}.")
