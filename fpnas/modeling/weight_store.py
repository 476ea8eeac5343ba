"""Full-size weights that hand out parts of themselves."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]

# torch remarks, once, that a gradient in a strided buffer is accumulated a little more slowly.
# That buffer is the point of the store, and the loss is below what slicing in the graph costs.
warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout contract")


class TouchedWeight(NamedTuple):
    """The part of a weight that gradients have reached since they were last cleared.

    ``weight`` and ``grad`` are views of that part; changing them changes the store.
    """

    name: str  # of the weight in the store
    shape: Shape  # the smallest part that covers every slice in use
    weight: Tensor
    grad: Tensor


class WeightStore(nn.Module):
    """Named tensors from which networks borrow.

    ``view(name, shape)`` is a part of a tensor (see :func:`part`), bound once: a leaf that shares
    the store's memory and whose gradient is accumulated in the same part of one persistent
    buffer. A network made of views therefore trains the store at exactly the cost of a network of
    its own: no slicing in its graph, no full-size gradients.

    Only what was touched needs to be cleared and stepped; everything else keeps its value and its
    optimizer state. Parameters of the store never get a ``.grad`` of their own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[str, str] = {}  # name -> attribute
        self._views: dict[tuple[str, Shape], Tensor] = {}
        self._grads: dict[str, Tensor] = {}
        self._touched: dict[str, Shape] = {}

    def add(self, name: str, value: Tensor) -> None:
        """Keep ``value`` (a Parameter, or a buffer without gradient) under ``name``.

        Unless ``name`` holds it already; a smaller tensor of that name makes room for it.
        """
        if self.holds(name, tuple(value.shape)):
            return
        attribute = name.replace(".", "/")
        if isinstance(value, nn.Parameter):
            self.register_parameter(attribute, value)
        else:
            self.register_buffer(attribute, value)
        self._names[name] = attribute

    def holds(self, name: str, shape: Shape) -> bool:
        """Whether there is such a tensor and a part of that shape fits into it."""
        if name not in self._names:
            return False
        full = self.full(name).shape
        return len(full) == len(shape) and all(map(operator.le, shape, full))

    def named_weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every trainable weight in full, with the name that :meth:`touched` gives it."""
        for name in self._names:
            weight = self.full(name)
            if isinstance(weight, nn.Parameter):
                yield name, weight

    def full(self, name: str) -> Tensor:
        """The whole tensor."""
        return getattr(self, self._names[name])

    def view(self, name: str, shape: Shape) -> Tensor:
        """The part of that shape: a Parameter for parameters, a plain tensor for buffers.

        Raises ValueError if the store does not hold it.
        """
        if (name, shape) not in self._views:
            if not self.holds(name, shape):
                raise ValueError(f"The store holds no {tuple(shape)} of '{name}'.")
            full = self.full(name)
            view = part(full.detach(), shape)
            if isinstance(full, nn.Parameter):
                view = nn.Parameter(view)
                view.grad = part(self._grad(name), shape)
            self._views[name, shape] = view
        return self._views[name, shape]

    def touch(self, slices: Iterable[tuple[str, Shape]]) -> None:
        """Note that these parts are used in a forward pass that will be differentiated."""
        for name, shape in slices:
            known = self._touched.get(name)
            if known != shape:
                self._touched[name] = shape if known is None else tuple(map(max, known, shape))

    def touched(self) -> list[TouchedWeight]:
        """What :meth:`touch` has collected, in order of first touch."""
        views = ((name, shape, self.view(name, shape)) for name, shape in self._touched.items())
        return [TouchedWeight(name, shape, view.detach(), view.grad) for name, shape, view in views]

    def clear_gradients(self) -> None:
        """Zero the touched gradients and forget what was touched."""
        grads = [weight.grad for weight in self.touched()]
        if grads:
            torch._foreach_zero_(grads)
        self._touched.clear()

    def _grad(self, name: str) -> Tensor:
        if name not in self._grads:
            with torch.inference_mode(False):  # a training may follow, and write into it
                self._grads[name] = torch.zeros_like(self.full(name).detach())
        return self._grads[name]

    def __getstate__(self) -> dict[str, Any]:
        # A copy of a view would not share memory with the copy of its weight.
        return {**self.__dict__, "_views": {}, "_grads": {}, "_touched": {}}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # Moving to another device or memory format leaves old views behind.
        result = super()._apply(fn, recurse)
        self._views.clear()
        self._grads.clear()
        self._touched.clear()
        return result


def part(tensor: Tensor, shape: Shape) -> Tensor:
    """The view of ``tensor`` that a smaller weight of that shape uses.

    The first channels of both sides, and the centre of a convolution's kernel: a 3x3 kernel then
    sees in a 5x5 one what it would see alone.
    """
    offset = tensor.storage_offset()
    for full, size, stride in zip(tensor.shape[2:], shape[2:], tensor.stride()[2:], strict=True):
        offset += (full - size) // 2 * stride
    return tensor.as_strided(shape, tensor.stride(), offset)
