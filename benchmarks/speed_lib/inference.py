"""Exported networks in ONNX Runtime against networks of timm, in microseconds per MFLOP."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from fpnas.export import onnx
from fpnas.export.source import prepare_source
from fpnas.modeling import SearchedNet
from fpnas.spaces import get_space
from speed_lib.architectures import nearest
from speed_lib.peers import peer
from speed_lib.rounds import Clock, interleave, quartiles

# The measured network is compared with the peer of the same building blocks.
RIVALS = {"relu": "mnasnet_100", "swish_se": "efficientnet_b0"}


@dataclass(frozen=True)
class Setting:
    """What is compared.

    Attributes:
        space: name in SPACE_REGISTRY, whose random architectures stand for ours.
        architectures: of each kind; the one of median time per FLOP counts.
        relu_mflops, swish_se_mflops: that they come closest to.
        peers: names of timm.
        input_size: px.
        rounds: interleaved.
        calls: of one image each, in a round.
        threads: of one call.
        seed: of the architectures and the weights.
    """

    space: str = "FP-NAS-L0"
    architectures: int = 5
    relu_mflops: float = 290.0
    swish_se_mflops: float = 390.0
    peers: tuple[str, ...] = (
        "mnasnet_100",
        "mobilenetv3_large_100",
        "efficientnet_b0",
        "efficientnet_lite0",
    )
    input_size: int = 224
    rounds: int = 15
    calls: int = 10
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True)
class _Network:
    run: Callable[[], object]
    mflops: float


def measure(setting: Setting) -> dict[str, float]:
    """All figures of ``setting``. ``KIND`` is relu or swish_se.

    ``NAME_ms_*``: time of an image; ``NAME_us_per_mflop``: its median over the multiply-adds;
    ``KIND_inference_ratio_*``: our time per FLOP over that of the rival in the same round.
    CPU time for one thread, wall time for more.
    """
    now = time.process_time if setting.threads == 1 else time.perf_counter
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(setting.seed)
        networks = _networks(setting, Path(folder))
    runs = {name: _repeated(net.run, setting.calls) for name, net in networks.items()}
    clock = Clock("onnxruntime", now, setting.threads)
    times = interleave(runs, setting.rounds, clock, warmup=2)
    cost = {  # microseconds per MFLOP in every round
        name: [1e6 * seconds / setting.calls / networks[name].mflops for seconds in times[name]]
        for name in networks
    }
    figures: dict[str, float] = {}
    for name, net in networks.items():
        figures |= quartiles(f"{name}_ms", [1e-3 * net.mflops * value for value in cost[name]])
        figures[f"{name}_mflops"] = net.mflops
        figures[f"{name}_us_per_mflop"] = median(cost[name])
    for kind, rival in RIVALS.items():
        if rival not in cost:
            continue
        own = [name for name in networks if name.startswith(f"ours_{kind}_")]
        middle = sorted(own, key=lambda name: median(cost[name]))[len(own) // 2]
        per_round = [a / b for a, b in zip(cost[middle], cost[rival], strict=True)]
        figures |= quartiles(f"{kind}_inference_ratio", per_round)
        figures[f"{kind}_inference_ratio_best"] = min(
            median(cost[name]) / median(cost[rival]) for name in own
        )
    return figures


def _networks(setting: Setting, folder: Path) -> dict[str, _Network]:
    space = get_space(setting.space).at(input_size=setting.input_size)
    kinds = (
        ("relu", "relu", 0, setting.relu_mflops),
        ("swish_se", "swish", 1, setting.swish_se_mflops),
    )
    networks = {}
    for kind, act, splits, mflops in kinds:
        archs = nearest(space, act, splits, mflops, setting.architectures, setting.seed)
        for i, arch in enumerate(archs):
            network = SearchedNet(arch).eval()
            source = prepare_source(network, _image(setting), {}, 1, dynamic_batch=False)
            path = folder / f"{kind}{i}.onnx"
            onnx.export(source, path)
            networks[f"ours_{kind}_{i}"] = _Network(
                _runner(path, onnx.INPUT, setting), 1e-6 * arch.flops()
            )
    for name in setting.peers:
        path = folder / f"{name}.onnx"
        network = peer(name).eval()
        _export_as_users_do(network, path, setting)
        networks[name] = _Network(_runner(path, "x", setting), _mflops(network, setting))
    return networks


def _export_as_users_do(network: nn.Module, path: Path, setting: Setting) -> None:
    torch.onnx.export(
        network,
        (_image(setting),),
        str(path),
        dynamo=True,
        external_data=False,
        input_names=["x"],
        verbose=False,
    )


def _runner(path: Path, name: str, setting: Setting) -> Callable[[], object]:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(path), onnx.session_options(setting.threads), providers=["CPUExecutionProvider"]
    )
    feed = {name: _image(setting).numpy()}
    return lambda: session.run(None, feed)


def _image(setting: Setting) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 3, setting.input_size, setting.input_size, generator=generator)


def _mflops(network: nn.Module, setting: Setting) -> float:
    """Multiply-adds of convolutions and linear layers, as ours are counted."""
    analysis = FlopCountAnalysis(network, _image(setting))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_operator = analysis.by_operator()
    return 1e-6 * (by_operator["conv"] + by_operator["linear"] + by_operator["addmm"])


def _repeated(run: Callable[[], object], calls: int) -> Callable[[], None]:
    def repeated() -> None:
        for _ in range(calls):
            run()

    return repeated
