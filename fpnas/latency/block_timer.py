"""Latency of single blocks and of whole networks in ONNX Runtime."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from fpnas.archs import Architecture
from fpnas.blocks import BlockShape
from fpnas.errors import UserError
from fpnas.export import EXPORT_FORMATS, apply_rewrites, fold_bn, onnx
from fpnas.export.rewrites import AUTO, expand_rewrites
from fpnas.export.source import prepare_source
from fpnas.modeling import SearchedNet
from fpnas.modeling.searched_net import build_block
from fpnas.utils.machine import benchmark, cpu_info

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession

# A busy machine slows a call down for a while. Blocks, and networks, are timed in several rounds
# over all of them, so that a disturbance does not hit all rounds of any of them.
_ROUNDS = 5
_NETWORK_ROUNDS = 15
_RUNS = 40
_ROUND_SECONDS = 0.1


class Timer(Protocol):
    """What a latency table measures with. All times are in milliseconds, for a batch of one."""

    def describe(self) -> dict[str, str]:
        """Where the times come from; two timers of equal descriptions are interchangeable."""

    def overhead(self) -> float:
        """Time of a call that computes nothing; part of the time of every call."""

    def blocks(self, shapes: Sequence[BlockShape]) -> list[float]:
        """Time of a call for each block alone, overhead included."""

    def networks(self, archs: Sequence[Architecture], input_size: int) -> list[float]:
        """Time of a call of each whole network."""


class OnnxTimer:
    """Times float32 graphs, rewritten as an export would by default, in ONNX Runtime on the CPU.

    Args:
        threads: of one call.

    Raises UserError if the packages of the ``export`` extra are missing.
    """

    def __init__(self, threads: int = 1) -> None:
        if type(threads) is not int or threads < 1:
            raise UserError(f"The number of threads is at least 1, found {threads!r}.")
        missing = EXPORT_FORMATS["onnx"].missing_modules()
        if missing:
            raise UserError(
                f"Measuring latency needs {', '.join(missing)}: pip install 'fpnas[export]'."
            )
        self.threads = threads

    def describe(self) -> dict[str, str]:
        return {
            "cpu": cpu_info(),
            "threads": str(self.threads),
            "runtime": f"onnxruntime {metadata.version('onnxruntime')}",
            "rewrites": ", ".join(expand_rewrites((AUTO,))),
        }

    def overhead(self) -> float:
        """Median of a graph that returns its one number."""
        number = torch.zeros(1, 1, 1, 1)
        graph = onnx.trace(nn.Identity(), (number,), ["input"], ["output"])
        return self._time([graph], [number])[0]

    def blocks(self, shapes: Sequence[BlockShape]) -> list[float]:
        """Median over the rounds of each round's median.

        The input and the output stay in ONNX Runtime's own memory, as inside a network.
        """
        with torch.random.fork_rng(devices=[]):  # a search that measures goes on as if it had not
            inputs = [torch.randn(1, s.in_channels, s.in_size, s.in_size) for s in shapes]
            graphs = _export_blocks(shapes, inputs)
        return self._time(graphs, inputs)

    def networks(self, archs: Sequence[Architecture], input_size: int) -> list[float]:
        """As the project's exporter writes them, called with a NumPy array; medians like those of
        blocks.
        """
        with torch.random.fork_rng(devices=[]):
            inputs = [torch.randn(1, a.in_channels, input_size, input_size) for a in archs]
            calls = []
            for arch, x in zip(archs, inputs, strict=True):
                source = prepare_source(SearchedNet(arch), x, {}, 1, dynamic_batch=False)
                session = self._session(onnx.make_graph(source, [onnx.OUTPUT]))
                calls.append((partial(session.run, None), {onnx.INPUT: x.numpy()}))
        return self._medians(calls, _NETWORK_ROUNDS)

    def _session(self, graph: ModelProto) -> InferenceSession:
        return onnx.session(graph.SerializeToString(), onnx.session_options(self.threads))

    def _time(self, graphs: Sequence[ModelProto], inputs: Sequence[Tensor]) -> list[float]:
        """Of calls without any copy."""
        import onnxruntime

        calls = []
        for graph, x in zip(graphs, inputs, strict=True):
            session = self._session(graph)
            binding = session.io_binding()
            value = onnxruntime.OrtValue.ortvalue_from_numpy(x.numpy())
            binding.bind_ortvalue_input(session.get_inputs()[0].name, value)
            binding.bind_output(session.get_outputs()[0].name, "cpu")
            calls.append((session.run_with_iobinding, binding))
        return self._medians(calls, _ROUNDS)

    def _medians(
        self, calls: Sequence[tuple[Callable[[Any], Any], Any]], rounds: int
    ) -> list[float]:
        """For each function with its argument the median over the rounds, ms."""
        times = [
            [
                benchmark(run, argument, 5, _RUNS, self.threads, _ROUND_SECONDS).median_ms
                for run, argument in calls
            ]
            for _ in range(rounds)
        ]
        return [statistics.median(of_call) for of_call in zip(*times, strict=True)]


class _SideBySide(nn.Module):
    """Independent blocks, each with its own input and output."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(block(x) for block, x in zip(self.blocks, inputs, strict=True))


def _export_blocks(shapes: Sequence[BlockShape], inputs: Sequence[Tensor]) -> list[ModelProto]:
    """A graph for each block. One export for all: most of its time does not depend on the size.

    Raises UserError, which names the block, if one of them cannot be exported.
    """
    try:
        return _export_side_by_side(shapes, inputs)
    except Exception as error:  # the exporter raises whatever it likes
        if len(shapes) == 1:
            raise UserError(
                f"Block {shapes[0]} cannot be exported to ONNX, so its latency is unknown: "
                f"{str(error).strip().partition(chr(10))[0][:300]}"
            ) from error
    return [
        graph
        for shape, x in zip(shapes, inputs, strict=True)
        for graph in _export_blocks([shape], [x])
    ]


def _export_side_by_side(
    shapes: Sequence[BlockShape], inputs: Sequence[Tensor]
) -> list[ModelProto]:
    from onnx.utils import Extractor

    blocks = [fold_bn(build_block("", s.spec, s.in_channels)) for s in shapes]
    blocks = [apply_rewrites(block, (AUTO,)) for block in blocks]
    ports = [(f"input{i}", f"output{i}") for i in range(len(blocks))]
    names = [list(column) for column in zip(*ports, strict=True)]
    extractor = Extractor(
        onnx.trace(_SideBySide(blocks).requires_grad_(False), tuple(inputs), *names)
    )
    return [extractor.extract_model([entry], [exit_]) for entry, exit_ in ports]
