"""What the zoo has, as text."""

from __future__ import annotations

from zoo_cases import add_in_tree

from fpnas.model_zoo.listing import model_report, models_table


def test_list_and_report_show_record_and_layers(zoo):
    add_in_tree(zoo)
    table = models_table(["tiny_pets", "fbnetv2_f1"])
    assert "56.23" in table
    assert "90.0" in table.splitlines()[2]
    report = model_report("tiny_pets")
    for word in ("three pets", "90 on ten photos (python benchmarks/none.py)", "stage2.0", "MIT"):
        assert word in report
    assert model_report("fbnetv2_f1").startswith("fbnetv2_f1: 128 px")
