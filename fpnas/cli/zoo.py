"""List, describe, import and verify networks.

fpnas zoo list 'fbnetv2_*'
fpnas zoo list --pretrained
fpnas zoo info efficientnet_lite0
fpnas zoo import timm:mnasnet_100 --arch mnasnet_100 --output weights.safetensors
fpnas zoo verify --download
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fpnas.errors import UserError


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
    from fpnas.model_zoo.listing import models_table

    names = list_models(args.pattern, args.pretrained)
    if not names:
        known = ", ".join(list_models(pretrained=args.pretrained)) or "nothing yet"
        what = "published network" if args.pretrained else "architecture or published network"
        raise UserError(f"No {what} matches '{args.pattern}'. There is: {known}.")
    print(models_table(names))
    return 0


def _info(args: argparse.Namespace) -> int:
    from fpnas.model_zoo.listing import model_report

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
