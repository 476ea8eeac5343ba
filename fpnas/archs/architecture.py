"""Architecture: one network, described by numbers alone; and architectures by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from fpnas.blocks import BlockSpec, Cost, block_name, output_size, spec_from_dict, spec_to_dict
from fpnas.errors import ConfigError, UnknownNameError
from fpnas.layers import BN_EPS
from fpnas.utils.records import load_yaml, parse
from fpnas.utils.registry import Registry

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


class Layer(NamedTuple):
    """One block in its place."""

    name: str  # path inside the network, such as "stage2.0"
    spec: BlockSpec
    in_channels: int
    in_size: int  # rows (= columns) that enter it, px
    out_size: int  # those that leave it
    cost: Cost


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Stem, stages of blocks, head. Immutable and hashable; equal when all numbers are equal.

    Attributes:
        name: of the architecture.
        input_size: side of the square input for which it was designed, px.
        stem: the first block; takes ``in_channels``.
        stages: blocks in order of execution, one tuple for each block group.
        head: the last block; its ``num_classes`` outputs are the logits.
        in_channels: channels of the image.
        bn_eps: what every BatchNorm adds to the variance.
    """

    name: str
    input_size: int
    stem: BlockSpec
    stages: tuple[tuple[BlockSpec, ...], ...]
    head: BlockSpec
    in_channels: int = 3
    bn_eps: float = BN_EPS

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(tuple(stage) for stage in self.stages))
        for field in ("input_size", "in_channels"):
            value = getattr(self, field)
            if type(value) is not int or value < 1:
                raise ConfigError(
                    f"Architecture '{self.name}': {field} must be a whole number of at least 1, "
                    f"found {value!r}."
                )
        if type(self.bn_eps) is not float or not 0 < self.bn_eps < 1:
            raise ConfigError(
                f"Architecture '{self.name}': bn_eps must be a number between 0 and 1, such as "
                f"0.001, found {self.bn_eps!r}."
            )
        if not self.stages or not all(self.stages):
            raise ConfigError(
                f"Architecture '{self.name}' needs stages with at least one block in each."
            )
        heads = [hasattr(block, "num_classes") for block in (self.stem, *self.blocks, self.head)]
        if sum(heads) != 1 or not heads[-1]:
            raise ConfigError(
                f"Architecture '{self.name}' ends in its one head, a block with num_classes such "
                f"as Head; found {block_name(self.head)} after {sum(heads[:-1])} other head(s)."
            )

    @property
    def num_classes(self) -> int:
        return self.head.num_classes

    @property
    def blocks(self) -> tuple[BlockSpec, ...]:
        """All blocks between stem and head."""
        return tuple(block for stage in self.stages for block in stage)

    def with_num_classes(self, num_classes: int) -> Architecture:
        """This architecture with another number of outputs."""
        return dataclasses.replace(
            self, head=dataclasses.replace(self.head, num_classes=num_classes)
        )

    def with_in_channels(self, in_channels: int) -> Architecture:
        """This architecture for images with another number of channels."""
        return dataclasses.replace(self, in_channels=in_channels)

    def named_blocks(self) -> Iterator[tuple[str, BlockSpec, int]]:
        """``(name, block, in_channels)`` in order of execution, stem and head included."""
        channels = self.in_channels
        yield "stem", self.stem, channels
        channels = self.stem.channels
        for s, stage in enumerate(self.stages, start=1):
            for b, block in enumerate(stage):
                yield f"stage{s}.{b}", block, channels
                channels = block.channels
        yield "head", self.head, channels

    def layers(self, input_size: int | None = None) -> list[Layer]:
        """Every block with its shape and its cost for an input of ``input_size`` px.

        ``None`` stands for the architecture's own input size. Raises ConfigError below 1 px.
        """
        size = self.input_size if input_size is None else input_size
        if size < 1:
            raise ConfigError(f"The input_size of a network is at least 1 px, found {size}.")
        layers = []
        for name, block, channels in self.named_blocks():
            out_size = output_size(size, block.stride)
            layers.append(
                Layer(name, block, channels, size, out_size, block.cost(channels, size, size))
            )
            size = out_size
        return layers

    def flops(self, input_size: int | None = None) -> int:
        """Multiply-adds of convolutions and linear layers for one image (see :class:`Cost`)."""
        return sum(layer.cost.flops for layer in self.layers(input_size))

    @property
    def params(self) -> int:
        """Weights of convolutions and linear layers, without bias and BatchNorm."""
        return sum(layer.cost.params for layer in self.layers())

    def to_dict(self) -> dict[str, Any]:
        """Plain data; the inverse of :meth:`from_dict`."""
        return {
            "name": self.name,
            "input_size": self.input_size,
            "in_channels": self.in_channels,
            **({} if self.bn_eps == BN_EPS else {"bn_eps": self.bn_eps}),
            "stem": spec_to_dict(self.stem),
            "stages": [[spec_to_dict(block) for block in stage] for stage in self.stages],
            "head": spec_to_dict(self.head),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "The architecture") -> Architecture:
        """Raises UserError, which names ``where`` and the key that is missing or of no use."""
        return parse(cls, data, where, readers=_READERS)

    def to_yaml(self) -> str:
        """YAML text with one line for each block."""
        return yaml.dump(self.to_dict(), Dumper=_Dumper, sort_keys=False, width=1000)

    @classmethod
    def from_yaml(cls, text: str, where: str = "The architecture") -> Architecture:
        """The inverse of :meth:`to_yaml`. Raises UserError, as :meth:`from_dict`."""
        return cls.from_dict(load_yaml(text, where), where)

    def save(self, path: str | Path) -> None:
        """Write :meth:`to_yaml` to ``path``."""
        Path(path).write_text(self.to_yaml(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Architecture:
        """Read a file written by :meth:`save`. Raises UserError, which names the file."""
        where = f"Architecture file '{path}'"
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where} cannot be read: {error}") from None
        return cls.from_yaml(text, where)


def _read_stages(stages: Any, where: str) -> tuple[tuple[BlockSpec, ...], ...]:
    if not isinstance(stages, list) or not all(isinstance(stage, list) for stage in stages):
        raise ConfigError(f"{where} must be a list of lists of blocks, found {stages!r}.")
    return tuple(
        tuple(spec_from_dict(block, f"{where}[{s}][{b}]") for b, block in enumerate(stage))
        for s, stage in enumerate(stages)
    )


_READERS = {
    "name": lambda name, where: str(name),
    "stem": spec_from_dict,
    "stages": _read_stages,
    "head": spec_from_dict,
}


class _Dumper(yaml.SafeDumper):
    """Blocks in flow style, one a line; everything around them in block style."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> Any:
        return super().represent_mapping(tag, mapping, flow_style="block" in mapping)

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


ARCH_REGISTRY = Registry(
    "ARCH",
    contract="""Names of architectures: callables without arguments that return an Architecture.

    Register your own::

        @ARCH_REGISTRY.register()
        def my_net() -> Architecture:
            return Architecture.load("my_net.yaml")

    The files of ``fpnas/archs/named/`` are registered under their file names.
    """,
)


def get_arch(name: str | Path) -> Architecture:
    """The architecture of that name in ARCH_REGISTRY, or the one in that YAML file.

    Raises UnknownNameError on an unknown name and ConfigError on a file that is no architecture.
    """
    text = str(name)
    if text not in ARCH_REGISTRY and text.endswith((".yaml", ".yml")):
        return Architecture.load(text)
    try:
        build = ARCH_REGISTRY.get(text)
    except UnknownNameError as error:
        raise UnknownNameError(f"{error} A YAML file's name ends in .yaml.") from None
    return build()


def _reader(file: Traversable) -> Callable[[], Architecture]:
    return lambda: Architecture.from_yaml(file.read_text(encoding="utf-8"))


for _file in sorted(resources.files("fpnas.archs").joinpath("named").iterdir(), key=str):
    if _file.name.endswith(".yaml"):
        ARCH_REGISTRY.register(_reader(_file), name=_file.name.removesuffix(".yaml"))
