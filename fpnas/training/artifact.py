"""Weights that say themselves what network they are and what it expects; loading and using them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from fpnas.archs import Architecture
from fpnas.config import CfgNode, get_cfg
from fpnas.config.checks import check_value
from fpnas.data import Preprocessing, preprocessing
from fpnas.data.decode import decode_image
from fpnas.data.preprocessing import set_preprocessing
from fpnas.errors import CheckpointError, ConfigError, some
from fpnas.model_zoo.weights import published_record
from fpnas.modeling import SearchedNet, fresh_classifier
from fpnas.utils.checkpoint import Checkpointer, RunTag, load_weights, read_checkpoint

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Description:
    """What must be known beside the weights.

    Attributes:
        arch: the architecture, with the number of classes of the training.
        preprocessing: from an image to the network's input.
        classes: names of the classes, in the order of the logits.
    """

    arch: Architecture
    preprocessing: Preprocessing
    classes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Text, numbers and lists only; the keys of a checkpoint."""
        return {
            "architecture": self.arch.to_yaml(),
            "preprocessing": self.preprocessing.to_dict(),
            "classes": list(self.classes),
        }

    @classmethod
    def from_dict(cls, contents: Mapping[str, Any], source: str) -> Description | None:
        """Of a checkpoint's ``contents``; None if they are weights alone.

        Raises CheckpointError if the description is incomplete.
        """
        if "architecture" not in contents:
            return None
        lacking = [key for key in ("preprocessing", "classes") if key not in contents]
        if lacking:
            raise CheckpointError(f"'{source}' lacks {' and '.join(lacking)}.")
        return cls(
            Architecture.from_yaml(contents["architecture"]),
            Preprocessing.from_dict(contents["preprocessing"]),
            tuple(contents["classes"]),
        )

    def check_same_network(self, arch: Architecture, source: str) -> None:
        """Raise CheckpointError if ``arch`` differs, other than in its name and input size.

        Networks that differ in strides or activations have weights of the same shapes.
        """
        theirs = dataclasses.replace(self.arch, name=arch.name, input_size=arch.input_size)
        if theirs != arch:
            raise CheckpointError(
                f"'{source}' belongs to another architecture than '{arch.name}': "
                f"{_first_difference(theirs, arch)}."
            )

    def check_contents(self, contents: Mapping[str, Any], source: str) -> None:
        """Raise CheckpointError if a checkpoint's ``contents`` are of another network or classes.

        Weights alone are taken at their word.
        """
        theirs = Description.from_dict(contents, source)
        if theirs is not None:
            theirs.check_same_network(self.arch, source)
            if theirs.classes != self.classes:
                raise CheckpointError(
                    f"'{source}' was trained on other classes: {some(theirs.classes)} "
                    f"({len(theirs.classes)}); the data has {some(self.classes)} "
                    f"({len(self.classes)})."
                )

    def warn_of_other_preprocessing(self, ours: Preprocessing, source: str, effect: str) -> None:
        """Warn if ``ours``, of the config, is another one; ``effect`` says which of both counts."""
        if self.preprocessing != ours:
            logger.warning(
                "%s was trained with %s, the config has %s: %s",
                *(source, self.preprocessing, ours, effect),
            )


def _first_difference(theirs: Architecture, ours: Architecture) -> str:
    their_blocks, our_blocks = list(theirs.named_blocks()), list(ours.named_blocks())
    for (name, block, _), (_, own_block, _) in zip(their_blocks, our_blocks, strict=False):
        if block != own_block:
            return f"its {name} is {block}, that of '{ours.name}' is {own_block}"
    return f"it has {len(their_blocks)} blocks, '{ours.name}' has {len(our_blocks)}"


class SelfDescription(Protocol):
    """What stands in every checkpoint of a training beside weights and config, as Description."""

    def to_dict(self) -> dict[str, Any]:
        """Text, numbers and lists only; the keys of a checkpoint."""

    def check_contents(self, contents: Mapping[str, Any], source: str) -> None:
        """Raise CheckpointError if the ``contents`` of the checkpoint ``source`` are of another."""


class TrainingCheckpointer(Checkpointer):
    """A Checkpointer whose every file holds ``about``, too, and that loads none of another."""

    def __init__(
        self,
        model: nn.Module,
        save_dir: str | Path,
        about: SelfDescription | None,
        *,
        config: str = "",
        run: RunTag | None = None,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, config=config, run=run, **checkpointables)
        self._about = about

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """As :meth:`Checkpointer.write`, with the description."""
        super().write(name, {**({} if self._about is None else self._about.to_dict()), **data})

    def load(self, path: str | Path) -> dict[str, Any]:
        """As :meth:`Checkpointer.load`. CheckpointError, too, if the description is another."""
        contents = super().load(path)
        if self._about is not None:
            self._about.check_contents(contents, str(path))
        return contents


# From weights to a network -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TrainedNet:
    """A network in eval mode, with what must be known beside its weights."""

    model: SearchedNet
    description: Description


def describe_weights(path: str | Path) -> Description | None:
    """What a checkpoint says of itself, or the zoo of ``zoo://name``; None for weights alone.

    Raises CheckpointError if the file cannot be read, UserError on an unknown name.
    """
    record = published_record(str(path))
    if record is not None:
        return Description(record.build_arch(), record.preprocessing, record.class_names)
    return Description.from_dict(read_checkpoint(path), str(path))


def start_from_file(cfg: CfgNode, path: str) -> None:
    """Set MODEL.WEIGHTS and the DATA keys of the preprocessing to those of a network in a file.

    Raises CheckpointError if the file cannot be read or does not describe its network.
    """
    about = describe_weights(path)
    if about is None:
        raise _without_description(path)
    cfg.MODEL.WEIGHTS = path
    set_preprocessing(cfg, about.preprocessing)


def load_network(cfg: CfgNode, classes: Sequence[str] | None = None) -> TrainedNet:
    """The network of ``cfg.MODEL``, whose weights must fit as they are, and its description.

    Weights that describe themselves (of a training, of a search, of the zoo) need no MODEL.ARCH;
    one that is given must be their network. To other weights, and to none (a random network), the
    config and ``classes`` are the description.

    Args:
        cfg: MODEL is read, and DATA for the preprocessing.
        classes: names of the outputs where the weights name none; None: nobody knows them.

    Raises ConfigError if nobody knows the classes, or if MODEL.NUM_CLASSES is not the number of
    those that the weights name; CheckpointError if the weights do not belong to the architecture or
    none is given; as :func:`fpnas.modeling.fresh_classifier`.
    """
    path, wanted = cfg.MODEL.WEIGHTS, cfg.MODEL.NUM_CLASSES
    about = describe_weights(path) if path else None
    if about is None:
        if path and not cfg.MODEL.ARCH:
            raise _without_description(path)
        if classes is None:
            raise ConfigError(
                f"DATA.ROOT is empty, and MODEL.WEIGHTS '{path}' does not name the network's "
                "classes: give the data set of its training."
            )
        count = wanted or len(classes)
    else:
        count = len(about.classes)
        valid = f"{count}, the classes of '{path}', or 0"
        check_value("MODEL.NUM_CLASSES", wanted, wanted in (0, count), valid)
    arch = about.arch if about is not None and not cfg.MODEL.ARCH else None
    model = fresh_classifier(with_num_classes(cfg, count), arch)
    if path:
        load_weights(model, path)
    if about is None:
        about = Description(model.arch, preprocessing(cfg), tuple(classes))
    about.check_same_network(model.arch, path)
    return TrainedNet(model.eval(), about)


def load_trained(path: str | Path) -> TrainedNet:
    """The network in a checkpoint of :func:`run_training`, such as ``model_final.pth``.

    Or in any other file that describes itself, or of ``zoo://name``. Raises CheckpointError if the
    file cannot be read or holds weights alone.
    """
    cfg = get_cfg()
    cfg.MODEL.WEIGHTS = str(path)
    return load_network(cfg)


class Guess(NamedTuple):
    """A class and its probability, 0 to 1."""

    name: str
    probability: float


@dataclasses.dataclass(frozen=True)
class Classifier:
    """From an image file to the names of the most probable classes.

    Attributes:
        model: the network, in eval mode.
        preprocessing: from the photo to its input.
        classes: names of its outputs.
    """

    model: SearchedNet
    preprocessing: Preprocessing
    classes: tuple[str, ...]

    @classmethod
    def from_zoo(cls, name: str) -> Classifier:
        """The published network ``name``. Raises as :func:`fpnas.model_zoo.get`."""
        return cls.from_checkpoint(f"zoo://{name}")

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> Classifier:
        """The network of a training, such as ``model_final.pth``. Raises CheckpointError."""
        trained = load_trained(path)
        about = trained.description
        return cls(trained.model, about.preprocessing, about.classes)

    def predict(self, path: str | Path, top: int = 5) -> list[Guess]:
        """The ``top`` most probable classes, the best first; fewer if there are fewer classes.

        Raises DataError, which names the file, if it is no readable image.
        """
        image = self.preprocessing(decode_image(str(path)))
        with torch.inference_mode():
            probabilities = self.model(image[None])[0].softmax(0)
        values, indices = probabilities.topk(min(top, len(self.classes)))
        pairs = zip(indices.tolist(), values.tolist(), strict=True)
        return [Guess(self.classes[index], value) for index, value in pairs]


def described_arch(path: str | Path) -> Architecture:
    """The architecture of weights that describe themselves; CheckpointError if they do not."""
    about = describe_weights(path)
    if about is None:
        raise _without_description(path)
    return about.arch


def with_num_classes(cfg: CfgNode, num_classes: int) -> CfgNode:
    """A copy of ``cfg`` with MODEL.NUM_CLASSES."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.NUM_CLASSES = num_classes
    return cfg


def _without_description(path: str | Path) -> CheckpointError:
    return CheckpointError(
        f"'{path}' holds weights without their architecture. A training, an evaluation and an "
        "export take that as MODEL.ARCH; a prediction needs a file that has it, such as "
        "model_final.pth of a training or network.pth of a search, or a published network "
        "(--model)."
    )
