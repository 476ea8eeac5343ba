"""Talking between the processes of a run. Every function also works in a run of one process.

Functions marked *collective* must be called by all processes, in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeVar, overload

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def is_distributed() -> bool:
    """Whether this run has a process group (see :func:`fpnas.engine.launch`)."""
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Number of processes of the run, over all machines."""
    return dist.get_world_size() if is_distributed() else 1


def get_rank() -> int:
    """Number of this process among all, from 0."""
    return dist.get_rank() if is_distributed() else 0


def get_local_rank() -> int:
    """Number of this process among those of its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0")) if is_distributed() else 0


def is_main_process() -> bool:
    """True in the one process that writes files and logs to the console."""
    return get_rank() == 0


def get_device() -> torch.device:
    """The device of this process: its own GPU where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", get_local_rank())
    return torch.device("cpu")


def synchronize() -> None:
    """Wait until all processes are here. Collective."""
    if get_world_size() > 1:
        dist.barrier()


@overload
def all_reduce_mean(values: Tensor) -> Tensor: ...


@overload
def all_reduce_mean(values: Mapping[str, float | Tensor]) -> dict[str, float]: ...


def all_reduce_mean(
    values: Tensor | Mapping[str, float | Tensor],
) -> Tensor | dict[str, float]:
    """The mean over the processes. Collective; all processes get the same result.

    A floating-point tensor gives a new tensor of the same shape, dtype and device. A mapping of
    names to numbers (the same names everywhere) gives a dict of floats, averaged in float64.
    """
    if isinstance(values, Tensor):
        return all_reduce_sum(values) / get_world_size()
    names = sorted(values)
    stacked = torch.tensor([float(values[name]) for name in names], dtype=torch.float64)
    means = dict(zip(names, all_reduce_mean(stacked).tolist(), strict=True))
    return {name: means[name] for name in values}


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The sum over the processes, a new tensor. Collective; all processes get the same result."""
    total = tensor.detach().to(_collective_device(), copy=True)
    if get_world_size() > 1:
        dist.all_reduce(total)
    return total.to(tensor.device)


def any_process(flag: bool) -> bool:
    """Whether ``flag`` is true in at least one process. Collective."""
    if get_world_size() == 1:
        return flag
    votes = torch.tensor(int(flag), device=_collective_device())
    dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return bool(votes.item())


def broadcast_object(value: T) -> T:
    """The main process's ``value``, a picklable object, in every process. Collective."""
    if get_world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=_collective_device())
    return box[0]


def all_gather_object(value: T) -> list[T]:
    """The ``value`` of every process, a picklable object, in order of rank. Collective."""
    if get_world_size() == 1:
        return [value]
    gathered: list[Any] = [None] * get_world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def _collective_device() -> torch.device:
    """NCCL only moves tensors that are on the GPU; gloo takes those on the CPU."""
    if is_distributed() and dist.get_backend() == "nccl":
        return get_device()
    return torch.device("cpu")
