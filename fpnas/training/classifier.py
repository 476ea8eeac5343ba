"""Classifier: a trained network with all that it takes to name what a photo shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from fpnas.data import Preprocessing
from fpnas.data.decode import decode_image
from fpnas.modeling import SearchedNet
from fpnas.training.artifact import load_trained


class Guess(NamedTuple):
    """A class and its probability, 0 to 1."""

    name: str
    probability: float


@dataclass(frozen=True)
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
        return cls._of(f"zoo://{name}")

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> Classifier:
        """The network of a training, such as ``model_final.pth``. Raises CheckpointError."""
        return cls._of(path)

    @classmethod
    def _of(cls, path: str | Path) -> Classifier:
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
