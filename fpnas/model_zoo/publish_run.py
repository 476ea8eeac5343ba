"""Puts a finished training into the zoo: provenance from its files, accuracy measured."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from fpnas.archs import get_arch
from fpnas.config import CfgNode, get_cfg
from fpnas.errors import CheckpointError
from fpnas.model_zoo.publish import Provenance, publish, write_record
from fpnas.model_zoo.record import Metric, SearchCost, ZooRecord
from fpnas.model_zoo.searched import searches
from fpnas.model_zoo.zoo import get_config
from fpnas.training import run_evaluation
from fpnas.utils.cache import sha256_of

_WEIGHTS = "weights are the average that the training keeps (EMA)"


@dataclass(frozen=True)
class Training:
    """What the files of a training do not tell.

    Attributes:
        recipe: its configuration, as ``--config-file`` takes it.
        dataset: the training images, in words.
        test_data: the test images, in words.
        data_argument: what stands for ``DATA.ROOT`` in the command that measures the accuracy.
        commit: of fpnas, with which it ran.
        licence: of the weights.
    """

    recipe: str
    dataset: str
    test_data: str
    data_argument: str
    commit: str
    licence: str = "Apache-2.0"


def publish_run(folder: Path, name: str, architecture: str, training: Training) -> ZooRecord:
    """Write weights and record of the training in ``folder``, with the accuracy of the stored ones.

    Args:
        folder: OUTPUT_DIR of the training, with config.yaml and model_final.pth; its DATA.ROOT is
            where it was.
        name: in the zoo.
        architecture: name in ARCH_REGISTRY.
        training: what else the record says.

    Raises CheckpointError if the folder lacks a file.
    """
    for file in ("config.yaml", "model_final.pth"):
        if not (folder / file).is_file():
            raise CheckpointError(f"'{folder}' holds no finished training: there is no {file}.")
    cfg = get_cfg()
    cfg.merge_from_file(str(folder / "config.yaml"))
    search = _search_of(get_arch(architecture).name)
    provenance = Provenance(
        dataset=training.dataset,
        recipe=training.recipe,
        commit=training.commit,
        seed=cfg.SEED,
        data_hash=data_hash(cfg),
        licence=training.licence,
        source=_source(cfg, search),
        search=search,
    )
    unmeasured = publish(name, str(folder / "model_final.pth"), architecture, provenance)
    record = replace(unmeasured, metrics=(_measured(name, cfg, training),))
    write_record(record)
    return record


def data_hash(cfg: CfgNode) -> str | None:
    """Of the names and contents of all files below DATA.ROOT; None for data that fpnas ships."""
    if not cfg.DATA.ROOT:
        return None
    root, digest = Path(cfg.DATA.ROOT), hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(root).as_posix()} {sha256_of(path)}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _measured(name: str, trained: CfgNode, training: Training) -> Metric:
    """Accuracy of the published weights on the test images of the training's data."""
    cfg = get_config(name)
    cfg.DATA.ROOT = trained.DATA.ROOT
    cfg.freeze()
    command = f"fpnas eval --model {name}"
    if training.data_argument:
        command += f" DATA.ROOT {training.data_argument}"
    top1 = round(run_evaluation(cfg)["top1"], 2)
    return Metric("top1", top1, training.test_data, command=command)


def _search_of(arch: str) -> SearchCost | None:
    """The cost of the search that found the architecture, if it was searched here."""
    for search in searches():
        if arch in [found.arch for found in search.found]:
            return search.cost
    return None


def _source(cfg: CfgNode, search: SearchCost | None) -> str:
    begin = "trained with fpnas" if search is None else "searched and trained with fpnas"
    if cfg.SOLVER.DISTILL.ARCH:
        begin += f", distilled from {get_arch(cfg.SOLVER.DISTILL.ARCH).name}"
    average = f": {_WEIGHTS}" if cfg.SOLVER.EMA_DECAY else ""
    return f"{begin}{average}, stored in fp16"
