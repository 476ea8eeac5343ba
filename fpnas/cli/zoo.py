"""List the registered architectures, or describe one.

fpnas zoo list 'fbnetv2_*'
fpnas zoo info fbnetv2_f1
"""

from __future__ import annotations

import argparse

from fpnas.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``list [PATTERN]`` and ``info NAME``."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="names, input sizes and costs, as a table")
    listing.add_argument("pattern", nargs="?", default="*", help="shell pattern (default: *)")
    listing.set_defaults(action=_list)
    info = actions.add_parser("info", help="the layers of one architecture, as a table")
    info.add_argument("name", help="a registered name")
    info.set_defaults(action=_info)


def run(args: argparse.Namespace) -> int:
    """Run the action."""
    return args.action(args)


def _list(args: argparse.Namespace) -> int:
    from fpnas.analysis import architectures_table
    from fpnas.archs import get_arch
    from fpnas.model_zoo import list_models

    names = list_models(args.pattern)
    if not names:
        raise UserError(
            f"No architecture matches '{args.pattern}'. Registered: {', '.join(list_models())}."
        )
    print(architectures_table([get_arch(name) for name in names]))
    return 0


def _info(args: argparse.Namespace) -> int:
    from fpnas.analysis import architecture_report
    from fpnas.archs import get_arch

    print(architecture_report(get_arch(args.name)))
    return 0
