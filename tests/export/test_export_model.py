from __future__ import annotations

import json
import logging
import resource
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_nets import CLASSES, SIZE, smooth_images, tiny_net
from torch import Tensor, nn

from fpnas.errors import ConfigError, UserError
from fpnas.export import EXPORT_FORMATS, ExportFormat, export_model, get_formats, table
from fpnas.export import onnx as onnx_format
from fpnas.export.source import ExportSource

# Formats of less than float32.
LARGEST_ERROR = {"onnx-fp16": 5e-3, "onnx-int8": 0.1}

METADATA = {
    "preprocessing": {"input_size": SIZE, "mean": [0.5, 0.5, 0.5], "crop_ratio": 0.875},
    "class_names": ["a", "b", "c", "d", "é"],
}


def export(net: nn.Module, folder: Path, formats: list[str], images: Tensor, **options):
    return export_model(
        net, folder, formats, SIZE, images, runs=2, warmup=1, calibration=images, **options
    )


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def exported(tmp_path_factory, images) -> SimpleNamespace:
    """All formats, fixed batch, with labels on which the model is right for all but one image."""
    folder = tmp_path_factory.mktemp("exported")
    net = tiny_net()
    net.arch = SimpleNamespace(to_yaml=lambda: "name: tiny\n")
    with torch.no_grad():
        logits = net.eval()(images)
    labels = logits.argmax(1)
    labels[0] = (labels[0] + 1) % CLASSES
    net.train()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*torch.jit.*")
        reports = export(
            net, folder, list(EXPORT_FORMATS), images, labels=labels, metadata=METADATA
        )
    return SimpleNamespace(net=net, folder=folder, reports=reports, logits=logits.numpy())


def test_every_format_is_right_and_complete(exported):
    assert [report.format for report in exported.reports] == list(EXPORT_FORMATS)
    for report in exported.reports:
        assert report.status == "ok", report.message
        assert 0 <= report.max_rel_error < LARGEST_ERROR.get(report.format, 1e-4)
        assert report.top1_agreement == 100.0
        assert report.accuracy == pytest.approx(100 * 6 / 7)
        assert report.size_bytes == report.file.stat().st_size
        assert report.ms_1_thread > 0 and report.ms_2_threads > 0


def test_folder_holds_one_file_a_format_and_the_report(exported):
    names = {f"model{entry.suffix}" for entry in EXPORT_FORMATS.values()}
    assert files_in(exported.folder) == {*names, "export.json"}


def test_model_is_left_as_it_was(exported):
    assert exported.net.training
    assert all(parameter.requires_grad for parameter in exported.net.parameters())
    assert isinstance(exported.net.stem.bn, nn.BatchNorm2d)


@pytest.mark.parametrize("name", list(EXPORT_FORMATS))
def test_metadata_comes_back_from_the_file(exported, name):
    entry = EXPORT_FORMATS[name]
    metadata = entry.read_metadata(exported.folder / f"model{entry.suffix}")
    assert json.loads(metadata["preprocessing"]) == METADATA["preprocessing"]
    assert json.loads(metadata["class_names"]) == METADATA["class_names"]
    assert metadata["architecture"] == "name: tiny\n"
    assert metadata["fpnas_version"]


@pytest.mark.parametrize("name", list(EXPORT_FORMATS))
def test_usage_line_runs_the_file(exported, images, name):
    (report,) = (report for report in exported.reports if report.format == name)
    scope = {"torch": torch, "onnxruntime": onnxruntime, "images": images[:1].numpy()}
    scope["Runtime"] = pytest.importorskip("executorch.runtime").Runtime
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logits = eval(report.usage, scope)
    largest = np.abs(exported.logits).max()
    assert np.abs(logits - exported.logits[:1]).max() < LARGEST_ERROR.get(name, 1e-4) * largest


def test_report_file_has_the_agreed_keys(exported):
    records = json.loads((exported.folder / "export.json").read_text())
    assert [record["format"] for record in records] == list(EXPORT_FORMATS)
    for record in records:
        assert set(record) == {
            *("format", "file", "size_bytes", "max_rel_error", "top1_agreement", "accuracy"),
            *("ms", "ms_2_threads", "status", "message", "usage", "accelerators"),
        }
        assert Path(record["file"]).stat().st_size == record["size_bytes"]


def test_table_has_a_row_for_every_format(exported):
    text = table(exported.reports)
    header, _, *rows = text.splitlines()
    assert "max rel. error" in header and "ms, 2 threads" in header
    rows, notes = rows[: len(EXPORT_FORMATS)], rows[len(EXPORT_FORMATS) :]
    assert all(report.file.name in row for report, row in zip(exported.reports, rows, strict=True))
    # ONNX Runtime hands neither of them a HardSwish.
    assert "onnx on phones: NNAPI maybe (HardSwish), CoreML maybe (HardSwish)" in "\n".join(notes)
    assert f"onnx: {exported.reports[0].usage}" in notes


def test_onnx_graph_is_what_mobile_runtimes_want(exported):
    proto = onnx.load(exported.folder / "model.onnx")
    graph = proto.graph
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 18)]
    assert [value.name for value in graph.input] == ["images"]
    assert [value.name for value in graph.output] == ["logits"]
    shape = [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    assert shape == [1, 3, SIZE, SIZE]
    assert "BatchNormalization" not in {node.op_type for node in graph.node}
    inferred = {value.name for value in (*graph.value_info, *graph.output)}
    assert {name for node in graph.node for name in node.output} <= inferred
    assert all(not tensor.external_data for tensor in graph.initializer)


@pytest.mark.parametrize("name", list(EXPORT_FORMATS))
def test_files_name_no_local_path(exported, name):
    content = (exported.folder / f"model{EXPORT_FORMATS[name].suffix}").read_bytes()
    assert str(Path(__file__).parent).encode() not in content
    assert str(Path(torch.__file__).parent).encode() not in content


def test_dynamic_batch_takes_any_number_of_images(tmp_path, images):
    net = tiny_net()
    reports = export(net, tmp_path, list(EXPORT_FORMATS), images, dynamic_batch=True)
    assert [report.status for report in reports] == ["ok"] * len(reports)
    for report in reports:
        run = EXPORT_FORMATS[report.format].load(report.file, 1)
        assert run(smooth_images(9, 3).numpy()).shape == (9, CLASSES)


def test_export_is_silent(tmp_path, images, capfd):
    (report,) = export(tiny_net(), tmp_path, ["onnx"], images, batch_size=3)
    assert report.status == "ok"
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_formats_of_onnx_share_one_graph(tmp_path, images, monkeypatch, caplog):
    calls = []
    make = onnx_format.make_graph
    monkeypatch.setattr(
        onnx_format, "make_graph", lambda source, outputs: calls.append(1) or make(source, outputs)
    )
    with caplog.at_level(logging.WARNING):
        reports = export(tiny_net(), tmp_path, ["onnx", "onnx-fp16", "ort"], images)
    assert [report.status for report in reports] == ["ok"] * 3
    assert len(calls) == 1
    assert "training mode" not in caplog.text
    half = onnx.load(tmp_path / "model.fp16.onnx").graph
    types = {tensor.data_type for tensor in half.initializer if len(tensor.dims) == 4}
    assert types == {onnx.TensorProto.FLOAT16}
    assert half.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


# Damaged files ------------------------------------------------------------------------------------


def perturb_one_weight(proto: onnx.ModelProto) -> None:
    """Add 1 % of the largest weight to one weight of the classifier."""
    tensor = next(t for t in proto.graph.initializer if tuple(t.dims)[-1:] == (8,))
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[3] += 0.01 * np.abs(values).max()
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def swap_red_and_blue(proto: onnx.ModelProto) -> None:
    stem = next(t for t in proto.graph.initializer if len(t.dims) == 4 and t.dims[1] == 3)
    values = onnx.numpy_helper.to_array(stem)[:, ::-1].copy()
    stem.CopyFrom(onnx.numpy_helper.from_array(values, stem.name))


@pytest.mark.parametrize("damage", [perturb_one_weight, swap_red_and_blue])
def test_damaged_graph_is_rejected_and_leaves_no_file(tmp_path, images, monkeypatch, damage):
    def export_damaged(source: ExportSource, path: Path) -> None:
        onnx_format.export(source, path)
        proto = onnx.load(path)
        damage(proto)
        onnx.save(proto, path)

    damaged = replace(EXPORT_FORMATS["onnx"], export=export_damaged)
    monkeypatch.setitem(EXPORT_FORMATS, "onnx", damaged)
    (report,) = export(tiny_net(), tmp_path, ["onnx"], images)
    assert report.status == "failed" and "max relative error" in report.message
    assert report.file is None and files_in(tmp_path) == {"export.json"}


# Failures -----------------------------------------------------------------------------------------


def broken_format(**changes) -> ExportFormat:
    def export_half(source: ExportSource, path: Path) -> None:
        path.write_bytes(b"half")
        path.with_suffix(".data").write_bytes(b"another")
        raise RuntimeError("first line\nsecond line")

    return replace(EXPORT_FORMATS["torchscript"], name="broken", export=export_half, **changes)


def test_failing_format_fails_alone_and_leaves_no_file(tmp_path, images, monkeypatch):
    monkeypatch.setitem(EXPORT_FORMATS, "broken", broken_format())
    broken, good = export(tiny_net(), tmp_path, ["broken", "torchscript"], images)
    assert (broken.status, broken.message) == ("failed", "RuntimeError: first line")
    assert good.status == "ok"
    assert files_in(tmp_path) == {"model.torchscript.pt", "export.json"}
    assert "broken: RuntimeError: first line" in table([broken, good])


def test_failure_keeps_the_file_of_an_earlier_export(tmp_path, images, monkeypatch):
    earlier = tmp_path / "model.torchscript.pt"
    earlier.write_bytes(b"earlier")
    monkeypatch.setitem(EXPORT_FORMATS, "broken", broken_format())
    export(tiny_net(), tmp_path, ["broken"], images)
    assert earlier.read_bytes() == b"earlier"


def test_folders_and_formats_of_other_machines_are_written_too(tmp_path, images, monkeypatch):
    def export_folder(source: ExportSource, path: Path) -> None:
        (path / "data").mkdir(parents=True)
        (path / "data" / "weights").write_bytes(b"12345")

    packaged = replace(
        broken_format(elsewhere="runs on another machine"), suffix=".package", load=None
    )
    monkeypatch.setitem(EXPORT_FORMATS, "broken", replace(packaged, export=export_folder))
    for _ in range(2):  # the second replaces the first
        (report,) = export(tiny_net(), tmp_path, ["broken"], images)
        assert (report.status, report.message) == ("unverified", "runs on another machine")
        assert report.file == tmp_path / "model.package" and report.size_bytes == 5
        assert files_in(tmp_path) == {"model.package", "export.json"}
    monkeypatch.setitem(EXPORT_FORMATS, "broken", packaged)
    (report,) = export(tiny_net(), tmp_path, ["broken"], images)
    assert report.status == "failed" and (tmp_path / "model.package" / "data" / "weights").exists()


def test_missing_extra_names_the_install_command(tmp_path, images, monkeypatch):
    absent = replace(EXPORT_FORMATS["onnx"], modules=("onnx", "no_such_module"))
    monkeypatch.setitem(EXPORT_FORMATS, "onnx", absent)
    (report,) = export(tiny_net(), tmp_path, ["onnx"], images)
    assert report.status == "not installed"
    assert "no_such_module" in report.message and "pip install 'fpnas[export]'" in report.message


@pytest.mark.parametrize("name", list(EXPORT_FORMATS))
def test_full_disk_leaves_no_file(tmp_path, images, name):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # writing more than 4 kB fails
    try:
        (report,) = export(tiny_net(), tmp_path, [name], images)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert report.status == "failed" and report.message
    assert files_in(tmp_path) == {"export.json"}


def test_constant_network_is_written_but_not_verified(tmp_path, images):
    net = tiny_net()
    nn.init.zeros_(net.classifier.weight)
    (report,) = export(net, tmp_path, ["torchscript"], images)
    assert report.status == "unverified" and report.file.exists()
    assert report.max_rel_error is None and report.top1_agreement is None


def test_unknown_format_is_refused_before_any_work(tmp_path, images):
    with pytest.raises(ConfigError, match=r"'onx'.*Did you mean 'onnx'.*torchscript"):
        export(tiny_net(), tmp_path / "out", ["torchscript", "onx"], images)
    assert not (tmp_path / "out").exists()


def test_no_format_is_refused_and_repeated_ones_count_once():
    with pytest.raises(ConfigError, match="Valid: onnx"):
        get_formats([])
    assert [entry.name for entry in get_formats(["pt2", "onnx", "pt2"])] == ["pt2", "onnx"]
    assert [entry.name for entry in get_formats("pt2")] == ["pt2"]


def test_folder_that_cannot_be_written(tmp_path, images):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write to the export folder"):
        export(tiny_net(), tmp_path / "file" / "out", ["torchscript"], images)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(4, 3, SIZE, SIZE + 1), "found torch.float32"),
        (torch.zeros(4, 3, SIZE, SIZE, dtype=torch.uint8), "found torch.uint8"),
        (torch.zeros(1, 3, SIZE, SIZE), "to compare outputs"),
        (torch.full((2, 3, SIZE, SIZE), float("nan")), "NaN"),
    ],
)
def test_images_that_cannot_be_used(tmp_path, bad, message):
    with pytest.raises(UserError, match=message):
        export(tiny_net(), tmp_path, ["torchscript"], bad)


def test_labels_of_other_length(tmp_path, images):
    labels = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(UserError, match="7 images but labels"):
        export(tiny_net(), tmp_path, ["torchscript"], images, labels=labels)


def test_input_size_that_the_network_cannot_take(tmp_path, images):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, CLASSES))
    with pytest.raises(UserError, match="cannot take images of 32x32 px"):
        export(flat, tmp_path, ["torchscript"], images)


def test_damaged_weights(tmp_path, images):
    net = tiny_net()
    nn.init.constant_(net.classifier.bias, float("nan"))
    with pytest.raises(UserError, match="not finite"):
        export(net, tmp_path, ["torchscript"], images)


def test_name_with_folders_is_refused(tmp_path, images):
    with pytest.raises(UserError, match="without folders"):
        export(tiny_net(), tmp_path, ["torchscript"], images, name="../model")
