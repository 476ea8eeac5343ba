"""The verdict on accelerators of phones is advice: it never costs the file."""

from __future__ import annotations

import logging

from export_nets import SIZE, tiny_net

from fpnas.export import export_model


def test_a_tool_of_another_version_costs_only_its_verdict(tmp_path, images, monkeypatch, caplog):
    from onnxruntime.tools.mobile_helpers import usability_checker

    # As in ONNX Runtime 1.18.
    monkeypatch.setattr(usability_checker, "check_coreml_partitions", lambda model, fixed: None)
    with caplog.at_level(logging.INFO, logger="fpnas"):
        (report,) = export_model(tiny_net(), tmp_path, ["onnx"], SIZE, images, warmup=0, runs=1)
    assert report.status == "ok" and report.file.is_file() and report.accelerators == {}
    assert "No verdict on accelerators of phones: TypeError" in caplog.text
