"""Search, train, evaluate and export on the embedded images.

Shows that everything works. Takes some minutes on two cores and needs no download. Ends with one
table, which is also written to summary.json. An interrupted quickstart goes on with --resume.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fpnas.cli.flags import add_resume_arguments, check_resume_arguments
from fpnas.config import CfgNode, find_config, get_cfg


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, and whether to go on."""
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("out/quickstart"),
        metavar="DIR",
        help="default: out/quickstart",
    )
    add_resume_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """The four steps and the table."""
    from fpnas.archs import Architecture
    from fpnas.export.run import export_from_config
    from fpnas.search.run import run_search
    from fpnas.training import run_evaluation, run_training
    from fpnas.utils.logger import setup_logger

    check_resume_arguments(args)
    setup_logger()
    resumption = {"resume": args.resume, "allow_changes": args.allow_changes}
    folder: Path = args.output_dir
    clock = Clock(folder / "seconds.json", keep=args.resume)
    search_cfg = _config("quick/search.yaml", OUTPUT_DIR=folder / "search")
    with clock.measure("search"):
        [result] = run_search(search_cfg, **resumption)

    arch_file = folder / "search" / "architecture.yaml"
    trained = {"OUTPUT_DIR": folder / "train", "MODEL.ARCH": arch_file}
    with clock.measure("train"):
        run_training(_config("quick/train.yaml", **trained), **resumption)

    # The last checkpoint: choosing the best one by its test accuracy would flatter it.
    trained["MODEL.WEIGHTS"] = folder / "train" / "model_final.pth"
    metrics = run_evaluation(_config("quick/train.yaml", **trained))
    exported = {**trained, "OUTPUT_DIR": folder / "export"}
    reports = export_from_config(_config("quick/train.yaml", **exported))

    arch = Architecture.load(arch_file)
    summary = {
        "space": search_cfg.SEARCH.SPACE,
        "target_flops": search_cfg.SEARCH.TARGET,
        "flops": arch.flops(search_cfg.DATA.INPUT_SIZE),
        "params": arch.params,
        "samples": result.num_samples,
        "search_seconds": clock.seconds["search"],
        "train_seconds": clock.seconds["train"],
        "test_top1": metrics["top1"],
        "exports": [
            {
                key: report.to_dict()[key]
                for key in ("format", "file", "max_rel_error", "top1_agreement", "ms")
            }
            for report in reports
            if report.file
        ],
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(summary_table(summary))
    print(f"\nThe same: {folder / 'summary.json'}. The search: {folder / 'search/report.html'}.")
    return 0 if all(report.status == "ok" for report in reports) else 1


def summary_table(summary: dict[str, Any]) -> str:
    """The content of summary.json for people."""
    from tabulate import tabulate

    rows = [
        ["space", summary["space"]],
        ["samples drawn", summary["samples"]],
        ["search", f"{summary['search_seconds'] / 60:.1f} min"],
        ["training", f"{summary['train_seconds'] / 60:.1f} min"],
        ["FLOPs", f"{summary['flops'] / 1e6:.2f} M, target {summary['target_flops'] / 1e6:g} M"],
        ["params", f"{summary['params'] / 1e6:.3f} M"],
        ["test accuracy", f"{summary['test_top1']:.2f} %"],
    ]
    for export in summary["exports"]:
        parity = "unverified"
        if export["max_rel_error"] is not None:
            parity = (
                f"largest relative error {export['max_rel_error']:.1e}, "
                f"same top-1 on {export['top1_agreement']:.1f} %"
            )
        rows.append([export["format"], f"{export['ms']:.2f} ms, {parity}"])
    return tabulate(rows, tablefmt="simple", disable_numparse=True)


def _config(name: str, **overrides: Any) -> CfgNode:
    """A shipped config with ``overrides`` (dotted key to value), frozen."""
    cfg = get_cfg()
    cfg.merge_from_file(find_config(name))
    for key, value in overrides.items():
        cfg.merge_from_list([key, str(value)])
    cfg.freeze()
    return cfg


class Clock:
    """Seconds of each step, added up over interruptions in a small file."""

    def __init__(self, path: Path, keep: bool) -> None:
        self.path = path
        self.seconds: dict[str, float] = {}
        if keep and path.is_file():
            self.seconds = json.loads(path.read_text(encoding="utf-8"))

    @contextmanager
    def measure(self, step: str) -> Iterator[None]:
        """Add the time inside the ``with`` block, also when it is left by an interrupt."""
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            self.seconds[step] = round(self.seconds.get(step, 0.0) + elapsed, 1)
            with suppress(OSError):  # the step itself says that the folder is not writable
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.write_text(json.dumps(self.seconds) + "\n", encoding="utf-8")
