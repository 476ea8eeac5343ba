"""ImageSet: labelled images, in memory or read when they are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from fpnas.data.decode import decode_image, file_size
from fpnas.errors import DataError


class ImageSet(ABC):
    """Images of one split with their labels and the names of the classes.

    A data set of one's own derives from this class and implements :meth:`image` (and :meth:`name`,
    if there is a better name than the index), or simply uses :class:`TensorImages`.

    Raises DataError if the labels do not fit the classes.
    """

    #: Whether all images are held in memory with one common size; then :meth:`gather` works.
    in_memory: bool = False

    def __init__(self, labels: Sequence[int] | Tensor, classes: Sequence[str]) -> None:
        self.classes: tuple[str, ...] = tuple(classes)
        self.labels: Tensor = torch.as_tensor(labels, dtype=torch.long)
        if self.labels.dim() != 1:
            raise DataError(f"Labels must be one list, found shape {tuple(self.labels.shape)}.")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise DataError(
                f"Labels must lie in 0 to {len(self.classes) - 1} for {len(self.classes)} classes, "
                f"found {self.labels.min()} to {self.labels.max()}."
            )

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def image(self, index: int) -> Tensor:
        """Image ``index`` as uint8 [3, H, W] RGB. Raises DataError, which names the image."""

    def name(self, index: int) -> str:
        """How messages call image ``index``: a path where there is one."""
        return f"image {index}"

    def trait(self, index: int) -> str:
        """What tells image ``index`` from another of its name, if that is cheaply known."""
        return ""

    @property
    def images(self) -> Tensor | None:
        """All images as uint8 [N, 3, H, W], or None if they are not held in memory."""
        return None

    def gather(self, indices: Tensor) -> Tensor:
        """The images ``indices`` as uint8 [n, 3, H, W]; only for sets held in memory."""
        raise TypeError(f"{type(self).__name__} does not hold its images in memory.")

    def subset(self, indices: Tensor) -> ImageSet:
        """The images ``indices`` [n], in that order, with the same classes. Copies no pixels."""
        return Subset(self, indices, self.labels[indices], self.classes)

    def relabel(self, labels: Tensor, classes: Sequence[str]) -> ImageSet:
        """The same images with other labels [N] and classes."""
        return Subset(self, torch.arange(len(self)), labels, classes)


class TensorImages(ImageSet):
    """Images held in memory with one common size.

    Args:
        images: uint8 [N, 3, H, W] RGB, or greyscale as [N, 1, H, W] or [N, H, W]. Greyscale is
            shown as three equal channels, without copying it.
        labels: N class indices.
        classes: names of the classes.
        names: how messages call the images; their indices by default.
    """

    in_memory = True

    def __init__(
        self,
        images: Tensor,
        labels: Sequence[int] | Tensor,
        classes: Sequence[str],
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(labels, classes)
        if images.dim() == 3:
            images = images.unsqueeze(1)
        if images.dim() != 4 or images.shape[1] not in (1, 3) or images.dtype != torch.uint8:
            raise DataError(
                "Images must be uint8 of shape [N, 3, H, W], [N, 1, H, W] or [N, H, W], found "
                f"{images.dtype} of shape {list(images.shape)}."
            )
        if len(images) != len(self.labels):
            raise DataError(f"There are {len(images)} images but {len(self.labels)} labels.")
        self._pixels = images.expand(-1, 3, -1, -1)
        self._names = names

    @property
    def images(self) -> Tensor:
        return self._pixels

    def image(self, index: int) -> Tensor:
        return self._pixels[index]

    def name(self, index: int) -> str:
        return super().name(index) if self._names is None else self._names[index]

    def gather(self, indices: Tensor) -> Tensor:
        return self._pixels[indices]


class ImageFiles(ImageSet):
    """Image files that are decoded when they are asked for.

    Args:
        paths: one a label.
        labels: class indices.
        classes: names of the classes.
    """

    def __init__(
        self,
        paths: Sequence[str],
        labels: Sequence[int] | Tensor,
        classes: Sequence[str],
    ) -> None:
        super().__init__(labels, classes)
        if len(paths) != len(self.labels):
            raise DataError(f"There are {len(paths)} image files but {len(self.labels)} labels.")
        self._paths = list(paths)

    def image(self, index: int) -> Tensor:
        return decode_image(self._paths[index])

    def name(self, index: int) -> str:
        return self._paths[index]

    def trait(self, index: int) -> str:
        """The size of the file. Raises DataError if it has gone."""
        return str(file_size(self._paths[index]))


class Subset(ImageSet):
    """Some images of another set, possibly under other labels. Shares the pixels with it."""

    def __init__(
        self, parent: ImageSet, indices: Tensor, labels: Tensor, classes: Sequence[str]
    ) -> None:
        super().__init__(labels, classes)
        if isinstance(parent, Subset):
            parent, indices = parent._parent, parent._indices[indices]
        self._parent = parent
        self._indices = indices
        self.in_memory = parent.in_memory

    @property
    def images(self) -> Tensor | None:
        """A copy of the chosen images; :meth:`gather` copies no more than what is asked for."""
        return self._parent.gather(self._indices) if self.in_memory else None

    def image(self, index: int) -> Tensor:
        return self._parent.image(int(self._indices[index]))

    def name(self, index: int) -> str:
        return self._parent.name(int(self._indices[index]))

    def trait(self, index: int) -> str:
        return self._parent.trait(int(self._indices[index]))

    def gather(self, indices: Tensor) -> Tensor:
        return self._parent.gather(self._indices[indices])
