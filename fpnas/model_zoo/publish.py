"""Puts a trained network into the zoo: weights in fp16 and a record with all that was counted."""

from __future__ import annotations

import dataclasses

import torch
from safetensors.torch import save
from torch import Tensor

from fpnas.archs import get_arch
from fpnas.errors import CheckpointError
from fpnas.model_zoo.manifest import zoo_folder
from fpnas.model_zoo.record import OWN_LAYOUT, Metric, SearchCost, ZooRecord, check_name
from fpnas.training import load_trained
from fpnas.utils.cache import sha256_of
from fpnas.utils.file_io import atomic_write


@dataclasses.dataclass(frozen=True)
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

    Accuracies hold for the weights as they are stored: :func:`~fpnas.model_zoo.publish_run`
    publishes without metrics, measures, and writes the record again.

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
        **{field.name: getattr(provenance, field.name) for field in dataclasses.fields(provenance)},
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
