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


class _Source(NamedTuple):
    """What the views of a name are taken of."""

    tensor: Tensor
    pointer: int  # to its memory, which ``tensor.data = other`` exchanges
    attribute: str  # of the store


class _View(NamedTuple):
    """A part of a tensor, and the part of its gradient that accumulates there; None of a buffer."""

    tensor: Tensor
    grad: Tensor | None


class WeightStore(nn.Module):
    """Named tensors from which networks borrow.

    ``view(name, shape)`` is a part of a tensor (see :func:`part`), bound once: a leaf that shares
    the store's memory and whose gradient is accumulated in the same part of one persistent
    buffer. A network made of views therefore trains the store at exactly the cost of a network of
    its own: no slicing in its graph, no full-size gradients.

    Only what was touched needs to be cleared and stepped; everything else keeps its value and its
    optimizer state. The ``.grad`` of a touched weight is its whole buffer, that of all others None.
    So any optimizer of torch can step the store, clip its gradients and clear them, in either way;
    :class:`~fpnas.solver.SharedSGD` moreover leaves the untouched parts of a weight alone.

    Attributes:
        version: changes when the views of before no longer share memory with the weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.version = 0
        self._names: dict[str, str] = {}  # name -> attribute
        self._sources: dict[str, _Source] = {}
        self._views: dict[tuple[str, Shape], _View] = {}
        self._grads: dict[str, Tensor] = {}
        self._touched: dict[str, Shape] = {}
        self.register_load_state_dict_post_hook(_follow_assigned)

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
        self._sources[name] = _Source(value, value.data_ptr(), attribute)

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

    def check(self, names: Iterable[str]) -> None:
        """Raise RuntimeError if views of one of these would not be views of the present tensor.

        Somebody replaced it: for a while, as ``torch.func.functional_call`` does, or for good.
        """
        name = self._replaced(names)
        if name is not None:
            raise RuntimeError(
                f"'{name}' was replaced by another tensor, which the networks of a supernet would "
                "not use. Change weights in place (copy_) or by load_state_dict. "
                "torch.func.functional_call, parametrizations, DataParallel and FSDP replace "
                "weights, too: use them on the network that extract(choices) returns."
            )

    def view(self, name: str, shape: Shape) -> Tensor:
        """The part of that shape: a Parameter for parameters, a plain tensor for buffers.

        Raises ValueError if the store does not hold it.
        """
        return self._view(name, shape).tensor

    def touch(self, slices: Iterable[tuple[str, Shape]]) -> None:
        """Note that these parts are used in a forward pass that will be differentiated."""
        sources, views, grads, touched = self._sources, self._views, self._grads, self._touched
        for slice_ in slices:
            name, shape = slice_
            view = views.get(slice_) or self._view(name, shape)
            grad = sources[name].tensor.grad
            is_open = grad is not None and grad is grads[name] and view.tensor.grad is view.grad
            if not is_open and not self._open(name, view):
                continue
            known = touched.setdefault(name, shape)
            if known is not shape and known != shape:
                touched[name] = tuple(map(max, known, shape))

    def touched(self) -> list[TouchedWeight]:
        """What :meth:`touch` has collected, in order of first touch."""
        for name in list(self._touched):
            self._settle(name)
        views = ((n, shape, self._view(n, shape)) for n, shape in self._touched.items())
        return [TouchedWeight(n, shape, v.tensor.detach(), v.grad) for n, shape, v in views]

    def clear_gradients(self) -> None:
        """Zero the touched gradients and forget what was touched."""
        grads = [weight.grad for weight in self.touched()]
        if grads:
            torch._foreach_zero_(grads)
        for name in self._touched:
            self._sources[name].tensor.grad = None
        self._touched.clear()

    def _view(self, name: str, shape: Shape) -> _View:
        known = self._views.get((name, shape))
        if known is not None:
            return known
        if not self.holds(name, shape):
            raise ValueError(f"The store holds no {tuple(shape)} of '{name}'.")
        self.check([name])
        full = self.full(name)
        view = _View(part(full.detach(), shape), None)
        if isinstance(full, nn.Parameter):
            view = _View(nn.Parameter(view.tensor), part(self._grad(name), shape))
            view.tensor.grad = view.grad
        self._views[name, shape] = view
        return view

    def _open(self, name: str, view: _View) -> bool:
        """Make the buffer the ``.grad`` of a weight, and a part of it that of a view.

        Returns whether it is to be learned: ``requires_grad`` is the weight's.
        """
        weight = self._sources[name].tensor
        view.tensor.requires_grad_(weight.requires_grad)
        if not weight.requires_grad:
            return False
        self._settle(name)
        weight.grad = self._grad(name)
        if view.tensor.grad is not view.grad:  # an optimizer of a bound network cleared it
            view.grad.zero_() if view.tensor.grad is None else view.grad.copy_(view.tensor.grad)
            view.tensor.grad = view.grad
        return True

    def _settle(self, name: str) -> None:
        """Follow what others did to the ``.grad`` of a weight.

        ``zero_grad()`` of an optimizer takes it away; an average over processes may replace it.
        """
        grad, buffer = self._sources[name].tensor.grad, self._grad(name)
        if grad is None and name in self._touched:
            part(buffer, self._touched.pop(name)).zero_()
        elif grad is not None and grad is not buffer:
            buffer.copy_(grad)
            self._sources[name].tensor.grad = buffer
            self._touched[name] = tuple(buffer.shape)

    def _grad(self, name: str) -> Tensor:
        """The gradient of a whole weight, zero where none was touched."""
        if name not in self._grads:
            with torch.inference_mode(False):  # a training may follow, and write into it
                self._grads[name] = torch.zeros_like(self.full(name).detach())
        return self._grads[name]

    def __getstate__(self) -> dict[str, Any]:
        # A copy of a view would not share memory with the copy of its weight.
        return {**self.__dict__, "_sources": {}, "_views": {}, "_grads": {}, "_touched": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._start_anew()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self._drop_gradients()
        result = super()._apply(fn, recurse)
        self._start_anew()  # moving to another device or memory format leaves old views behind
        return result

    def _replaced(self, names: Iterable[str]) -> str | None:
        """The first of ``names`` whose tensor is not, or lies not, where its views were taken."""
        parameters, buffers = self._parameters, self._buffers
        for name in names:
            tensor, pointer, attribute = self._sources[name]
            held = parameters.get(attribute) is tensor or buffers.get(attribute) is tensor
            if not held or tensor.data_ptr() != pointer:
                return name
        return None

    def _drop_gradients(self) -> None:
        for name in self._touched:
            self._sources[name].tensor.grad = None
        self._grads.clear()
        self._touched.clear()

    def _start_anew(self) -> None:
        self._views.clear()
        for name, attribute in self._names.items():
            full = self.full(name)
            self._sources[name] = _Source(full, full.data_ptr(), attribute)
        self.version += 1


def _follow_assigned(store: WeightStore, keys: NamedTuple) -> None:
    """After ``load_state_dict``, which with ``assign=True`` puts other tensors into their place."""
    if store._replaced(store._sources) is not None:
        store._drop_gradients()
        store._start_anew()


def part(tensor: Tensor, shape: Shape) -> Tensor:
    """The view of ``tensor`` that a smaller weight of that shape uses.

    The first channels of both sides, and the centre of a convolution's kernel: a 3x3 kernel then
    sees in a 5x5 one what it would see alone.
    """
    offset = tensor.storage_offset()
    for full, size, stride in zip(tensor.shape[2:], shape[2:], tensor.stride()[2:], strict=True):
        offset += (full - size) // 2 * stride
    return tensor.as_strided(shape, tensor.stride(), offset)
