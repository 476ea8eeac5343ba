"""List, describe, import and verify networks.

fpnas zoo list 'fbnetv2_*'
fpnas zoo list --pretrained
fpnas zoo info efficientnet_lite0
fpnas zoo import timm:mnasnet_100 --arch mnasnet_100 --output weights.safetensors
fpnas zoo verify --download
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fpnas.errors import UserError

if TYPE_CHECKING:
    from fpnas.model_zoo import Metric, ModelInfo, ZooRecord


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command an action."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _add_list(actions)
    info = actions.add_parser("info", help="record and layers of one network, as tables")
    info.add_argument("name", help="a name of 'fpnas zoo list'")
    info.set_defaults(action=_info)
    _add_import(actions)
    _add_verify(actions)


def _add_list(actions: argparse._SubParsersAction) -> None:
    listing = actions.add_parser("list", help="names, input sizes and costs, as a table")
    listing.add_argument("pattern", nargs="?", default="*", help="shell pattern (default: *)")
    listing.add_argument(
        "--pretrained", action="store_true", help="only networks with published weights"
    )
    listing.set_defaults(action=_list)


def _add_import(actions: argparse._SubParsersAction) -> None:
    importing = actions.add_parser(
        "import",
        help="weights of another project, renamed to ours",
        description="Weights of another project, renamed to ours. What does not fit is listed, "
        "and then nothing is written.",
    )
    importing.add_argument(
        "source",
        help="timm:NAME (downloaded by timm), timm:FILE, mobile-vision:FILE (FBNetV2) or "
        "efficientnet-lite:FILE",
    )
    importing.add_argument(
        "--arch", required=True, metavar="NAME|FILE", help="architecture of the weights"
    )
    importing.add_argument(
        "--output", required=True, type=Path, metavar="FILE", help="a .safetensors file"
    )
    importing.set_defaults(action=_import)


def _add_verify(actions: argparse._SubParsersAction) -> None:
    verifying = actions.add_parser(
        "verify", help="hold every record against its architecture and file"
    )
    verifying.add_argument("names", nargs="*", metavar="NAME", help="default: all records")
    verifying.add_argument(
        "--download", action="store_true", help="also fetch files that are not on this machine"
    )
    verifying.set_defaults(action=_verify)


def run(args: argparse.Namespace) -> int:
    """Run the action."""
    return args.action(args)


def _list(args: argparse.Namespace) -> int:
    from fpnas.model_zoo import list_models

    names = list_models(args.pattern, args.pretrained)
    if not names:
        known = ", ".join(list_models(pretrained=args.pretrained)) or "nothing yet"
        what = "published network" if args.pretrained else "architecture or published network"
        raise UserError(f"No {what} matches '{args.pattern}'. There is: {known}.")
    print(models_table(names))
    return 0


def _info(args: argparse.Namespace) -> int:
    print(model_report(args.name))
    return 0


def _import(args: argparse.Namespace) -> int:
    from fpnas.archs import get_arch
    from fpnas.model_zoo.importing import import_to_file

    count = import_to_file(args.source, get_arch(args.arch), args.output)
    print(f"Wrote {args.output}: {count} tensors of '{args.arch}'.")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from tabulate import tabulate

    from fpnas.model_zoo.verify import FAILED, verify

    checks = verify(args.names, args.download)
    print(tabulate([check[:3] for check in checks], ["name", "check", "result"]))
    for check in checks:
        if check.message:
            print(f"{check.name}: {check.message}")
    return 1 if any(check.status == FAILED for check in checks) else 0


def models_table(names: Sequence[str]) -> str:
    """One row a name: input size, classes, costs, and what is known of its weights."""
    from tabulate import tabulate

    from fpnas.model_zoo import info

    rows = []
    for name in names:
        found = info(name)
        record = found.record
        size = found.arch.input_size if record is None else record.input_size
        costs = [found.arch.flops(size) / 1e6, found.arch.params / 1e6]
        rows.append([name, size, found.arch.num_classes, *costs, *_weights_columns(record)])
    headers = ["name", "input, px", "classes", "FLOPs, M", "params, M", "weights, MB", "top-1, %"]
    return tabulate(rows, headers, floatfmt=("", "", "", ".2f", ".2f", ".1f", ".1f"))


def _weights_columns(record: ZooRecord | None) -> list[float | None]:
    if record is None:
        return [None, None]
    top1 = record.metric("top1")
    return [record.size_bytes / 1e6, top1 and top1.value]


def model_report(name: str) -> str:
    """The record of a published network, if it is one, and the layers of its architecture."""
    from fpnas.model_zoo import info
    from fpnas.report.layer_table import architecture_report

    found = info(name)
    size = None if found.record is None else found.record.input_size
    layers = architecture_report(found.arch, size)
    return layers if found.record is None else f"{_record_text(found)}\n\n{layers}"


def _record_text(found: ModelInfo) -> str:
    from tabulate import tabulate

    from fpnas.model_zoo.weights import available_offline

    record = found.record
    state = "on this machine" if available_offline(record) else "to be downloaded when needed"
    pre = record.preprocessing
    rows = [
        ("trained on", record.dataset),
        *((f"{metric.name}, %", _metric_text(metric)) for metric in record.metrics),
        ("classes", _classes_text(record)),
        ("preprocessing", f"shorter side to {pre.resize_to} px ({pre.interpolation}), centre crop"),
        ("mean, std", f"{list(pre.mean)}, {list(pre.std)} of pixels in 0 to 1"),
        ("weights", f"{record.file}, {record.size_bytes / 1e6:.1f} MB, {state}"),
        ("sha256", record.sha256),
        ("recipe", record.recipe or "none of ours"),
        ("commit, seed, data", _provenance(record)),
        ("licence", record.licence),
        ("source", record.source),
    ]
    return f"{record.name}\n\n{tabulate(rows, tablefmt='plain', disable_numparse=True)}"


def _metric_text(metric: Metric) -> str:
    origin = f"published by {metric.published_by}" if metric.published_by else metric.command
    return f"{metric.value:g} on {metric.data} ({origin})"


def _classes_text(record: ZooRecord) -> str:
    names = record.class_names
    return f"{len(names)}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"


def _provenance(record: ZooRecord) -> str:
    values = (record.commit, record.seed, record.data_hash)
    return ", ".join("-" if value is None else str(value) for value in values)
