"""Starts the processes of a run: one a GPU, or as many as asked for on CPUs."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

# Imported before there is a group: it takes the group then present as a default argument, which
# would keep gloo's threads alive after the group's end and could abort the process at its exit.
import torch.distributed.nn.functional
import torch.multiprocessing as mp

from fpnas.engine.interrupt import Interrupted, stop_signals_to
from fpnas.errors import ConfigError, UserError
from fpnas.utils import comm

logger = logging.getLogger(__name__)

# After one process has failed, the others get this long to end by themselves.
_GRACE_PERIOD = 10.0  # seconds
# A collective that some process never joins fails after this time, instead of hanging for ever.
_TIMEOUT = timedelta(minutes=30)
_USER_ERROR_FILE = "user_error"


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    args: tuple[Any, ...] = (),
) -> Any:
    """Call ``main_func(*args)`` in every process of a run.

    Under ``torchrun`` (RANK and WORLD_SIZE are set) this process is one of the run's, and the other
    arguments are ignored. Otherwise ``num_gpus_per_machine`` processes are started on this machine,
    talking through NCCL on GPUs and gloo on CPUs; a single one is no new process.

    Args:
        main_func: a function of a module, so that new processes can import it.
        num_gpus_per_machine: GPUs, or processes where there is no GPU.
        num_machines, machine_rank: launch is called once on every machine.
        dist_url: where the processes meet. "auto" works on one machine, else tcp://HOST:PORT.

    Returns what ``main_func`` returns, or None if new processes were started.

    Raises ConfigError for impossible arguments, Interrupted if a signal ended the run, UserError
    if one was raised in a started process.
    """
    if {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return _run_under_torchrun(main_func, args)
    _check(num_gpus_per_machine, num_machines, machine_rank, dist_url)
    if num_machines * num_gpus_per_machine == 1:
        return main_func(*args)
    if not torch.cuda.is_available():
        logger.warning("No GPU on this machine: starting %d CPU processes", num_gpus_per_machine)
    with tempfile.TemporaryDirectory() as folder:
        if dist_url == "auto":
            dist_url = (Path(folder) / "rendezvous").as_uri()
        context = mp.start_processes(
            _worker,
            args=(
                main_func,
                args,
                num_machines * num_gpus_per_machine,
                machine_rank * num_gpus_per_machine,
                num_gpus_per_machine,
                dist_url,
                Path(folder) / _USER_ERROR_FILE,
            ),
            nprocs=num_gpus_per_machine,
            join=False,
        )
        _wait(context, Path(folder) / _USER_ERROR_FILE)
    return None


def _check(num_gpus: int, num_machines: int, machine_rank: int, dist_url: str) -> None:
    if num_gpus < 1:
        raise ConfigError(f"--num-gpus must be at least 1, found {num_gpus}.")
    if num_gpus > torch.cuda.device_count() > 0:
        raise ConfigError(
            f"--num-gpus is {num_gpus}, but this machine has {torch.cuda.device_count()}."
        )
    if not 0 <= machine_rank < num_machines:
        raise ConfigError(
            f"--machine-rank must be in [0, --num-machines = {num_machines}), found {machine_rank}."
        )
    if num_machines > 1 and dist_url == "auto":
        raise ConfigError("--dist-url must be tcp://HOST:PORT of machine 0 with several machines.")


def _run_under_torchrun(main_func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    if dist.is_initialized():
        return main_func(*args)
    with _process_group("env://", int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])):
        return main_func(*args)


def _worker(
    local_rank: int,
    main_func: Callable[..., Any],
    args: tuple[Any, ...],
    world_size: int,
    first_rank: int,
    processes_here: int,
    dist_url: str,
    user_error_file: Path,
) -> None:
    """One started process. Leaves a user's error in a file: its traceback would help nobody."""
    os.environ["LOCAL_RANK"] = str(local_rank)
    if not torch.cuda.is_available() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // processes_here))
    try:
        with _process_group(dist_url, first_rank + local_rank, world_size):
            main_func(*args)
    except UserError as error:
        user_error_file.write_text(str(error), encoding="utf-8")
        raise SystemExit(2) from None


@contextlib.contextmanager
def _process_group(url: str, rank: int, world_size: int) -> Iterator[None]:
    """Membership in the run's process group.

    After an unexpected error the group is left to the process's end: closing it would wait for
    communication under way, which may never end.
    """
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(
        backend, init_method=url, rank=rank, world_size=world_size, timeout=_TIMEOUT
    )
    if torch.cuda.is_available():
        torch.cuda.set_device(comm.get_local_rank())
    try:
        yield
    except (SystemExit, UserError):
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def _wait(context: mp.ProcessContext, user_error_file: Path) -> None:
    """Wait for the processes, pass signals on to them, and raise what has ended them."""
    received: list[int] = []

    def pass_on(signum: int, frame: FrameType | None) -> None:
        """The first asks the processes to stop, a second Ctrl-C kills them.

        They are asked with SIGTERM in any case: a terminal sends Ctrl-C to the started processes,
        too, and two of that kind would stop them at once.
        """
        received.append(signum)
        for process in context.processes:
            if process.is_alive():
                if received.count(signal.SIGINT) > 1:
                    process.kill()
                elif len(received) == 1:
                    process.terminate()

    with stop_signals_to(pass_on):
        try:
            while not context.join(grace_period=_GRACE_PERIOD):
                pass
        except (mp.ProcessExitedException, mp.ProcessRaisedException) as error:
            if user_error_file.exists():
                raise UserError(user_error_file.read_text(encoding="utf-8")) from None
            signum = getattr(error, "exit_code", 0) - 128  # of an Interrupted
            if not received and signum not in (signal.SIGINT, signal.SIGTERM):
                raise
            received.append(signum)
    if received:
        name = signal.Signals(received[0]).name
        raise Interrupted(received[0], f"Stopped by {name}.")
