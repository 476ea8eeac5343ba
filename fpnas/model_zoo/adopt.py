"""Makes what a search found part of fpnas: named architectures, and the search in searched.yaml."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from fpnas.archs import Architecture
from fpnas.config import CfgNode, get_cfg
from fpnas.errors import UserError
from fpnas.model_zoo.search_cost import search_cost
from fpnas.report.units import short_target

PACKAGE = Path(__file__).resolve().parents[1]


def adopt(
    folder: Path,
    config: str,
    data: str,
    names: Sequence[str],
    commit: str,
    package: Path = PACKAGE,
) -> None:
    """Write the architectures of the search in ``folder`` and append it to searched.yaml.

    Args:
        folder: OUTPUT_DIR of a finished search.
        config: its configuration, as ``--config-file`` takes it.
        data: the images, in words.
        names: one for each target, in their order; after '=' the paper's network with that target.
        commit: of fpnas, with which it ran.
        package: sources of fpnas; ``archs/named`` and ``model_zoo/searched.yaml`` are written.

    Raises a UserError, before anything is written, unless there is one name for each target, none
    of them is taken, and the search is one whose cost :func:`search_cost` knows.
    """
    cfg = get_cfg()
    cfg.merge_from_file(str(folder / "config.yaml"))
    targets = list(cfg.SEARCH.TARGETS) or [cfg.SEARCH.TARGET]
    if len(names) != len(targets):
        raise UserError(f"{len(names)} names for {len(targets)} targets: {targets}.")
    named = package / "archs" / "named"
    files = [named / f"{name.partition('=')[0]}.yaml" for name in names]
    for file in files:
        if file.exists():
            raise UserError(f"'{file}' exists. Remove it and its search in searched.yaml first.")
    found, texts = [], []
    for file, target, name in zip(files, targets, names, strict=True):
        # As the search names the folders of several budgets.
        short = short_target(cfg.SEARCH.COST, target)
        result = folder if len(targets) == 1 else folder / f"target-{short}"
        texts.append(_architecture(result, file.stem, config, cfg))
        paper = name.partition("=")[2]
        entry = {"arch": file.stem, "target": target, "val_loss": _val_loss(result)}
        found.append(entry | ({"paper": paper} if paper else {}))
    search = {"config": config, "data": data, "commit": commit, "seed": cfg.SEED}
    search |= {"cost": dataclasses.asdict(search_cost(folder)), "found": found}
    for file, text in zip(files, texts, strict=True):
        file.write_text(text, encoding="utf-8")
    with (package / "model_zoo" / "searched.yaml").open("a", encoding="utf-8") as file:
        file.write(yaml.safe_dump([search], sort_keys=False))


def _architecture(result: Path, name: str, config: str, cfg: CfgNode) -> str:
    arch = dataclasses.replace(Architecture.load(result / "architecture.yaml"), name=name)
    if cfg.SEARCH.COST_NUM_CLASSES:
        arch = arch.with_num_classes(cfg.SEARCH.COST_NUM_CLASSES)
    return f"# Found by fpnas search --config-file {config}.\n{arch.to_yaml()}"


def _val_loss(result: Path) -> float:
    """Cross-entropy of the most probable architecture with the supernet's weights, at the end."""
    records = [json.loads(line) for line in (result / "metrics.json").read_text().splitlines()]
    return round([record["mode_loss"] for record in records if "mode_loss" in record][-1], 4)
