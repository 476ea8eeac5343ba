"""The hint at the rewrites for phones: where they would help, whatever the format."""

from __future__ import annotations

import pytest

from fpnas.cli.export import _would_suit_phones
from fpnas.config import get_cfg
from fpnas.export import ExportReport

REFUSED = {"NNAPI": "no (HardSwish)", "CoreML": "no (HardSwish)"}
IN_8_BITS = {"NNAPI": "yes", "CoreML": "no (DequantizeLinear, QuantizeLinear)"}


@pytest.mark.parametrize(
    ("verdicts", "keys", "is_hint_due"),
    [
        ({"onnx-fp16": REFUSED}, [], True),
        ({"onnx-int8": {**IN_8_BITS, "NNAPI": "maybe"}}, [], True),
        ({"onnx-int8": IN_8_BITS}, [], False),
        ({"onnx": {"NNAPI": "yes"}, "torchscript": {}}, [], False),
        ({"onnx-fp16": REFUSED}, ["EXPORT.REWRITES", "()"], True),
        ({"onnx-fp16": REFUSED}, ["EXPORT.REWRITES", "('phone',)"], False),
        ({"onnx-fp16": REFUSED}, ["EXPORT.DYNAMIC_BATCH", "True"], False),
    ],
)
def test_hint(verdicts, keys, is_hint_due):
    cfg = get_cfg()
    cfg.merge_from_list(keys)
    reports = [ExportReport(name, "ok", accelerators=said) for name, said in verdicts.items()]
    assert _would_suit_phones(cfg, reports) == is_hint_due
