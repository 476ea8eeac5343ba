"""The table of export formats. The command line, the checks and the documentation all read it."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from fpnas.errors import ConfigError, check_known
from fpnas.export import executorch, onnx, onnx_int8, pt2, torchscript, trusted
from fpnas.export.parity import Tolerance
from fpnas.export.source import ExportSource, Runner


@dataclass(frozen=True)
class ExportFormat:
    """One format. A new one is a module with these functions, and its row in the table.

    ``suffix``: of the file name, with its dot. The longest suffix that a name ends in is meant.
    ``export(source, path)`` writes one self-contained file (or folder) at ``path`` or raises; it
    may return a remark for the report.
    ``load(path, threads)`` returns a function from images to logits, NumPy arrays.
    ``may_run_code``: loading does; a file from elsewhere is loaded with ``trust=True`` only.
    ``read_metadata(path)`` returns the metadata in the file.
    ``usage``: a line of Python that runs ``{file}`` on ``images``.
    ``accelerators(path)``: what accelerators of phones think of the file; None: unknown.
    ``is_calibrated``: it needs images that set the ranges of activations,
    ``source.quantization.images()``.
    ``elsewhere``: why its files do not run on this machine, which then only writes them ("Core ML
    runs on macOS"); empty: they do.
    ``modules``: what must be importable; ``extra``: the extra of fpnas that installs it.
    ``tolerance``: how far outputs may deviate from the PyTorch model's.
    """

    name: str
    description: str
    suffix: str
    export: Callable[[ExportSource, Path], str | None]
    load: Callable[..., Runner]
    read_metadata: Callable[[Path], dict[str, str]]
    usage: str
    modules: tuple[str, ...] = ()
    extra: str = ""
    accelerators: Callable[[Path], dict[str, str]] | None = None
    is_calibrated: bool = False
    may_run_code: bool = False
    elsewhere: str = ""
    tolerance: Tolerance = field(default_factory=Tolerance)

    def missing_modules(self) -> list[str]:
        """Needed modules that are not installed."""
        return [name for name in self.modules if importlib.util.find_spec(name) is None]


_ONNX = ExportFormat(
    name="onnx",
    description=f"ONNX, opset {onnx.OPSET}, float32; for ONNX Runtime and most toolchains",
    suffix=".onnx",
    export=onnx.export,
    load=onnx.load,
    read_metadata=onnx.read_metadata,
    usage='onnxruntime.InferenceSession("{file}").run(["logits"], {{"images": images}})[0]',
    modules=("onnx", "onnxscript", "onnxruntime"),
    extra="export",
    accelerators=onnx.accelerators,
)
_HALF = Tolerance(max_rel_error=0.05, min_top1_agreement=98.0)
# Single logits move by a quantisation step or two; what counts is the best class.
_INT8 = Tolerance(max_rel_error=math.inf, min_top1_agreement=80.0)

# A format that shares its runtime with another one is a ``replace`` of its row.
EXPORT_FORMATS: dict[str, ExportFormat] = {
    entry.name: entry
    for entry in (
        _ONNX,
        replace(
            _ONNX,
            name="onnx-fp16",
            description="ONNX in float16 between float32 images and logits: half the size",
            suffix=".fp16.onnx",
            export=onnx.export_fp16,
            tolerance=_HALF,
        ),
        replace(
            _ONNX,
            name="onnx-int8",
            description="ONNX in 8 bits, calibrated on images (QDQ, per channel): a quarter",
            suffix=".int8.onnx",
            export=onnx_int8.export,
            is_calibrated=True,
            tolerance=_INT8,
        ),
        replace(
            _ONNX,
            name="ort",
            description="ONNX Runtime's own format, for ONNX Runtime Mobile",
            suffix=".ort",
            export=onnx.export_ort,
            accelerators=None,
        ),
        ExportFormat(
            name="torchscript",
            description="TorchScript, traced and frozen; legacy, for LibTorch and PyTorch Mobile",
            suffix=".torchscript.pt",
            export=torchscript.export,
            load=torchscript.load,
            read_metadata=trusted.read_metadata,
            may_run_code=True,
            usage='torch.jit.load("{file}")(torch.from_numpy(images)).numpy()',
        ),
        ExportFormat(
            name="pt2",
            description="program of torch.export, the successor of TorchScript",
            suffix=".pt2",
            export=pt2.export,
            load=pt2.load,
            read_metadata=trusted.read_metadata,
            may_run_code=True,
            usage='torch.export.load("{file}").module()(torch.from_numpy(images)).numpy()',
        ),
        ExportFormat(
            name="executorch",
            description="ExecuTorch with XNNPACK, PyTorch's runtime for phones",
            suffix=".pte",
            export=executorch.export,
            load=executorch.load,
            read_metadata=executorch.read_metadata,
            usage=(
                'Runtime.get().load_program("{file}").load_method("forward")'
                ".execute([torch.from_numpy(images)])[0].numpy()"
            ),
            modules=("executorch",),
            extra="executorch",
        ),
    )
}


def get_formats(names: Iterable[str]) -> list[ExportFormat]:
    """The formats called ``names`` (or the one, of a string), each once, in that order.

    Raises ConfigError, which lists the valid names, on an unknown name and on an empty list.
    """
    names = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    if not names:
        raise ConfigError(f"No export format given. Valid: {', '.join(EXPORT_FORMATS)}.")
    for name in names:
        check_known(name, EXPORT_FORMATS, f"Unknown export format '{name}'", ConfigError)
    return [EXPORT_FORMATS[name] for name in names]
