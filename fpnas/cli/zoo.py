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
    from fpnas.model_zoo import Metric, ZooRecord


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command an action."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="names, input sizes and costs, as a table")
    listing.add_argument("pattern", nargs="?", default="*", help="shell pattern (default: *)")
    listing.add_argument(
        "--pretrained", action="store_true", help="only networks with published weights"
    )
    listing.set_defaults(action=_list)

    info = actions.add_parser("info", help="record and layers of one network, as tables")
    info.add_argument("name", help="a name of 'fpnas zoo list'")
    info.set_defaults(action=_info)

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
        _, arch, record = info(name)
        size, weights = arch.input_size, [None, None]
        if record is not None:
            size, top1 = record.input_size, record.metric("top1")
            weights = [record.size_bytes / 1e6, top1 and top1.value]
        costs = [arch.flops(size) / 1e6, arch.params / 1e6]
        rows.append([name, size, arch.num_classes, *costs, *weights])
    headers = ["name", "input, px", "classes", "FLOPs, M", "params, M", "weights, MB", "top-1, %"]
    return tabulate(rows, headers, floatfmt=("", "", "", ".2f", ".2f", ".1f", ".1f"))


def model_report(name: str) -> str:
    """The record of a published network, if it is one, and the layers of its architecture."""
    from fpnas.model_zoo import info
    from fpnas.report.legend import architecture_report

    _, arch, record = info(name)
    if record is None:
        return architecture_report(arch)
    return f"{_record_text(record)}\n\n{architecture_report(arch, record.input_size)}"


def _record_text(record: ZooRecord) -> str:
    from tabulate import tabulate

    from fpnas.model_zoo.weights import available_offline

    state = "on this machine" if available_offline(record) else "to be downloaded when needed"
    pre, names = record.preprocessing, record.class_names
    training = (record.commit, record.seed, record.data_hash)
    rows = [
        ("trained on", record.dataset),
        *((f"{metric.name}, %", _metric_text(metric)) for metric in record.metrics),
        ("classes", f"{len(names)}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"),
        ("preprocessing", f"shorter side to {pre.resize_to} px ({pre.interpolation}), centre crop"),
        ("mean, std", f"{list(pre.mean)}, {list(pre.std)} of pixels in 0 to 1"),
        ("weights", f"{record.file}, {record.size_bytes / 1e6:.1f} MB, {state}"),
        ("sha256", record.sha256),
        ("recipe", record.recipe or "none of ours"),
        ("commit, seed, data", ", ".join("-" if x is None else str(x) for x in training)),
        ("licence", record.licence),
        ("source", record.source),
    ]
    return f"{record.name}\n\n{tabulate(rows, tablefmt='plain', disable_numparse=True)}"


def _metric_text(metric: Metric) -> str:
    origin = f"published by {metric.published_by}" if metric.published_by else metric.command
    return f"{metric.value:g} on {metric.data} ({origin})"
