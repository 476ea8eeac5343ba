"""``fpnas benchmark``: exported files timed in their runtimes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from export_nets import SIZE, tiny_net

from fpnas.archs import Architecture
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec
from fpnas.cli import main
from fpnas.errors import UserError
from fpnas.export import EXPORT_FORMATS, export_backbone, export_model
from fpnas.export.timing import format_of, profile_operators, time_file
from fpnas.modeling import SearchedBackbone, SearchedNet


@pytest.fixture(scope="module")
def files(tmp_path_factory, images) -> list[Path]:
    folder = tmp_path_factory.mktemp("timed")
    formats = ["onnx", "onnx-fp16", "torchscript", "pt2"]
    reports = export_model(tiny_net(), folder, formats, SIZE, images, warmup=0, runs=1)
    return [report.file for report in reports]


def test_every_file_gets_a_row_for_each_number_of_threads(files, capsys):
    names = [str(file) for file in files]
    assert main(["benchmark", *names, "--threads", "1", "2", "--runs", "3", "--warmup", "1"]) == 0
    _, _, *rows = capsys.readouterr().out.splitlines()
    found = [tuple(row.split()[i] for i in (0, 1, 3)) for row in rows]
    formats = ["onnx", "onnx-fp16", "torchscript", "pt2"]
    assert found == [
        (file.name, name, threads)
        for file, name in zip(files, formats, strict=True)
        for threads in ("1", "2")
    ]
    medians = [float(row.split()[4]) for row in rows]
    assert min(medians) > 0


def test_backbone_of_several_outputs(tmp_path, images, capsys):
    stages = ((MBConvSpec(8, 2, 3, 2),), (MBConvSpec(12, 2, 3, 2),))
    arch = Architecture("small", SIZE, ConvSpec(8), stages, HeadSpec(16, num_classes=2))
    file = tmp_path / "backbone.onnx"
    export_backbone(SearchedBackbone(SearchedNet(arch), ("stage1", "stage2")), file, images)
    assert main(["benchmark", str(file), "--runs", "2", "--warmup", "0"]) == 0
    assert "backbone.onnx" in capsys.readouterr().out


def test_profile_shares_out_all_of_the_time(files, capsys):
    assert main(["benchmark", str(files[0]), "--runs", "3", "--profile"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " %  " in line]
    assert any("Conv" in line for line in lines)
    assert sum(float(line.split()[0]) for line in lines) == pytest.approx(100, abs=1)


def test_operators_of_other_formats_are_not_known(files, capsys):
    names = [str(files[3]), str(files[0])]
    assert main(["benchmark", *names, "--runs", "1", "--profile"]) == 0
    said = capsys.readouterr().out
    assert f"ONNX files only; '{files[3]}' is pt2." in said
    assert "model.onnx, 1 thread, share of the time:" in said
    with pytest.raises(UserError, match="ONNX files only"):
        profile_operators(files[3])


def test_the_longest_ending_names_the_format(files):
    assert [format_of(file).name for file in files[:2]] == ["onnx", "onnx-fp16"]


def test_formats_of_other_machines_are_not_run(files, monkeypatch):
    elsewhere = replace(EXPORT_FORMATS["pt2"], elsewhere="it runs on others")
    monkeypatch.setitem(EXPORT_FORMATS, "pt2", elsewhere)
    with pytest.raises(UserError, match=r"pt2' cannot be run on this machine: it runs on others\."):
        time_file(files[3])


def test_unusable_files_are_named(files, tmp_path):
    with pytest.raises(UserError, match=r"missing.onnx' does not exist"):
        time_file(tmp_path / "missing.onnx")
    (tmp_path / "model.tflite").write_bytes(b"x")
    with pytest.raises(UserError, match=r"end in .*\.onnx"):
        time_file(tmp_path / "model.tflite")
    (tmp_path / "damaged.onnx").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="damaged.onnx' cannot be read as onnx"):
        time_file(tmp_path / "damaged.onnx")
    foreign = onnx.load(files[0])
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(UserError, match="not written by 'fpnas export'"):
        time_file(tmp_path / "foreign.onnx")


@pytest.mark.parametrize("flags", [["--runs", "0"], ["--threads", "0"], ["--warmup", "-1"]])
def test_senseless_numbers_are_refused(files, capsys, flags):
    assert main(["benchmark", str(files[0]), *flags]) == 2
    assert flags[0] in capsys.readouterr().err
