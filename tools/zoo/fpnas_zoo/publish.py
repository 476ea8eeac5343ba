"""Puts a trained network into the zoo: weights in fp16 and a record with all that was counted.

Provenance is read from the files of the training; the accuracy is that of the weights as stored.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from fpnas.archs import get_arch
from fpnas.config import CfgNode, get_cfg
from fpnas.errors import CheckpointError
from fpnas.model_zoo import Metric, SearchCost, ZooRecord, get_config
from fpnas.model_zoo.manifest import zoo_folder
from fpnas.model_zoo.record import OWN_LAYOUT, check_name
from fpnas.training import load_trained, run_evaluation
from fpnas.utils.cache import sha256_of
from fpnas.utils.file_io import atomic_write
from fpnas_zoo.searches import searches

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


@dataclass(frozen=True)
class Provenance:
    """What a record says about a training; attributes as those of :class:`ZooRecord`."""

    dataset: str
    recipe: str
    commit: str
    seed: int
    data_hash: str
    licence: str
    source: str
    search: SearchCost | None = None


def publish(
    name: str,
    checkpoint: str,
    architecture: str,
    provenance: Provenance,
    metrics: tuple[Metric, ...] = (),
) -> ZooRecord:
    """Write ``NAME.safetensors`` and ``NAME.yaml`` into the zoo's folder; return the record.

    Accuracies hold for the weights as they are stored: :func:`publish_run` publishes without
    metrics, measures, and writes the record again.

    Args:
        name: in the zoo.
        checkpoint: ``model_final.pth`` of a training; it brings preprocessing and class names.
        architecture: name in ``ARCH_REGISTRY`` of the network in it.
        provenance: of the training.
        metrics: measured on the published weights.

    Raises CheckpointError if the checkpoint is of another network or has values beyond fp16.
    """
    check_name(name)
    trained = load_trained(checkpoint)
    about = trained.description
    arch = get_arch(architecture).with_num_classes(len(about.classes))
    about.check_same_network(arch, checkpoint)
    path = zoo_folder() / f"{name}.safetensors"
    weights = {key: _halved(key, value) for key, value in trained.model.state_dict().items()}
    with atomic_write(path) as file:
        file.write(save(weights))
    record = ZooRecord(
        name=name,
        architecture=architecture,
        metrics=metrics,
        flops=arch.flops(about.preprocessing.input_size),
        params=arch.params,
        preprocessing=about.preprocessing,
        file=path.name,
        size_bytes=path.stat().st_size,
        sha256=sha256_of(path),
        layout=OWN_LAYOUT,
        classes=about.classes,
        **{field.name: getattr(provenance, field.name) for field in fields(provenance)},
    )
    write_record(record)
    return record


def write_record(record: ZooRecord) -> None:
    """Write ``NAME.yaml`` into the zoo's folder."""
    with atomic_write(zoo_folder() / f"{record.name}.yaml") as file:
        file.write(record.to_yaml().encode())


def _halved(name: str, value: Tensor) -> Tensor:
    """Floats as fp16, anything else as it is."""
    if not value.is_floating_point():
        return value
    half = value.half()
    if not torch.isfinite(half).all():
        raise CheckpointError(f"'{name}' has values that fp16 cannot hold; largest {value.max()}.")
    return half.contiguous()
