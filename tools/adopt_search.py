"""Register what a search found: named architectures, and the search in searched.yaml.

    python tools/adopt_search.py out/spp search/CIFAR10-S1++-to-S4++.yaml \\
        --data "CIFAR-10 as JPEG files, 48 px" fp_nas_s1pp=FP-NAS-S1++ fp_nas_s2pp=FP-NAS-S2++

One name for each target of the search, in their order; after '=' the paper's network with that
target, if it has one. The commit in the record is that of the checkout. Afterwards, the tables:
``fpnas zoo table --write``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import yaml

from fpnas.archs import Architecture
from fpnas.config import CfgNode, get_cfg
from fpnas.errors import UserError
from fpnas.model_zoo.search_cost import search_cost

PACKAGE = Path(__file__).resolve().parents[1] / "fpnas"


def adopt(folder: Path, config: str, data: str, names: list[str], commit: str) -> None:
    """Write the architectures of the search in ``folder`` and append it to searched.yaml.

    Raises UserError unless there is one name for each target, and none of them is taken.
    """
    cfg = get_cfg()
    cfg.merge_from_file(str(folder / "config.yaml"))
    targets = list(cfg.SEARCH.TARGETS) or [cfg.SEARCH.TARGET]
    if len(names) != len(targets):
        raise UserError(f"{len(names)} names for {len(targets)} targets: {targets}.")
    files = [PACKAGE / "archs" / "named" / f"{name.partition('=')[0]}.yaml" for name in names]
    for file in files:
        if file.exists():
            raise UserError(f"'{file}' exists. Remove it and its search in searched.yaml first.")
    found = []
    for file, target, name in zip(files, targets, names, strict=True):
        result = folder / f"target-{target / 1e6:g}M" if cfg.SEARCH.TARGETS else folder
        _write_architecture(result, file, config, cfg)
        paper = name.partition("=")[2]
        entry = {"arch": file.stem, "target": target, "val_loss": _val_loss(result)}
        found.append(entry | ({"paper": paper} if paper else {}))
    search = {"config": config, "data": data, "commit": commit, "seed": cfg.SEED}
    search |= {"cost": dataclasses.asdict(search_cost(folder)), "found": found}
    with (PACKAGE / "model_zoo" / "searched.yaml").open("a", encoding="utf-8") as file:
        file.write(yaml.safe_dump([search], sort_keys=False))


def _write_architecture(result: Path, file: Path, config: str, cfg: CfgNode) -> None:
    arch = dataclasses.replace(Architecture.load(result / "architecture.yaml"), name=file.stem)
    if cfg.SEARCH.COST_NUM_CLASSES:
        arch = arch.with_num_classes(cfg.SEARCH.COST_NUM_CLASSES)
    text = f"# Found by fpnas search --config-file {config}.\n{arch.to_yaml()}"
    file.write_text(text, encoding="utf-8")


def _val_loss(result: Path) -> float:
    """Cross-entropy of the most probable architecture with the supernet's weights, at the end."""
    records = [json.loads(line) for line in (result / "metrics.json").read_text().splitlines()]
    return round([record["mode_loss"] for record in records if "mode_loss" in record][-1], 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="OUTPUT_DIR of a finished search")
    parser.add_argument("config", help="its configuration, as --config-file takes it")
    parser.add_argument("names", nargs="+", metavar="NAME[=PAPER]", help="one for each target")
    parser.add_argument("--data", required=True, help="the images, in words")
    args = parser.parse_args()
    git = ["git", "-C", str(PACKAGE), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    try:
        adopt(args.folder, args.config, args.data, args.names, commit)
    except UserError as error:
        sys.exit(f"{Path(__file__).name}: {error}")


if __name__ == "__main__":
    main()
