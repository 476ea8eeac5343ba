"""MODEL_ZOO.md is up to date; the paper's figures stand beside ours, labelled as the paper's."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from zoo_cases import add_in_tree

import tables
from fpnas.archs import ARCH_REGISTRY
from fpnas.config import list_configs
from fpnas.errors import UserError
from fpnas.model_zoo import Metric, SearchCost, info
from fpnas.model_zoo.manifest import zoo_folder
from fpnas_zoo.markdown import DRAWINGS, FILE, drawings, model_zoo_text, write_model_zoo
from fpnas_zoo.paper import count_parameters, figure_1, paper_tables, table_8
from fpnas_zoo.searches import searches


def test_model_zoo_md_is_up_to_date():
    """If this fails: python tools/zoo/tables.py --write"""
    assert (zoo_folder() / FILE).read_text(encoding="utf-8") == model_zoo_text()
    files = (zoo_folder() / DRAWINGS).iterdir()
    assert {path.name: path.read_text(encoding="utf-8") for path in files} == drawings()


def test_every_searched_architecture_is_drawn_and_linked():
    found = {one.arch for search in searches() for one in search.found}
    assert {f"{name}.svg" for name in found} == set(drawings())
    text = model_zoo_text()
    assert all(f"[`{name}`]({DRAWINGS}/{name}.svg)" in text for name in found)
    (row,) = [line for line in text.splitlines() if "[`fp_nas_c10_m`]" in line]
    assert " always " in row and " equal " not in row


def test_found_networks_stand_beside_the_papers():
    lines = model_zoo_text().splitlines()
    (row,) = [line for line in lines if line.startswith("| FP-NAS-S1 ")]
    assert "68.6" in row and "`fp_nas_s1`" in row and " 59.0 " in row


def test_trained_network_is_listed_with_the_cost_of_its_search(zoo):
    add_in_tree(
        zoo,
        recipe="quick/train.yaml",
        seed=4,
        search=SearchCost(12345, 6.5e15, 2.5),
        metrics=(Metric("top1", 91.24, "10,000 images", command="fpnas eval --model x"),),
    )
    text = write_model_zoo().read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith("| `tiny_pets`")]
    for cell in ("91.24", "12,345", "6.5e+15", "2.5", "quick/train.yaml", "4", "three pets"):
        assert f" {cell} " in row
    assert "`fpnas eval --model x`" in text
    assert "ImageNet weights of others" not in text


def test_papers_networks_are_labelled():
    text = model_zoo_text()
    assert "not trained on ImageNet here" in text
    assert text.count("| FP-NAS-") == 11
    assert {model.config for model in paper_tables().fp_nas} <= set(list_configs())


def test_every_row_of_table_8_that_is_ours_is_counted_and_explained():
    text = table_8()
    for row in paper_tables().table_8:
        (line,) = [line for line in text.splitlines() if line.startswith(f"{row.model} ")]
        assert f"{row.flops:g}" in line
        if row.arch is not None:
            assert row.arch in ARCH_REGISTRY
            assert f"{row.build_arch().flops() / 1e6:.1f}" in line
    assert "not known" not in text
    assert "none of these networks was trained on ImageNet here" in text


@pytest.mark.parametrize(
    ("name", "millions"), [("efficientnet_b0", 5.289), ("semnasnet_100", 3.887)]
)
def test_all_parameters_are_timms(name, millions):
    """The figures that timm prints for its models of these names."""
    assert count_parameters(info(name).arch) / 1e6 == pytest.approx(millions, abs=1e-3)


def test_figure_1_shows_the_printed_accuracies():
    root = ElementTree.fromstring(figure_1())
    words = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"FP-NAS", "EfficientNet", "FP-NAS-L2", "multiply-adds, M"} <= words
    assert any("as published by the paper" in (word or "") for word in words)


def test_command(tmp_path, capsys):
    tables.main([])
    assert capsys.readouterr().out.startswith("# Model zoo")
    figure = tmp_path / "figure.svg"
    tables.main(["--paper", "--figure", str(figure)])
    assert "EfficientNet-B2" in capsys.readouterr().out
    assert figure.read_text(encoding="utf-8").startswith("<svg")
    with pytest.raises(UserError, match=f"Cannot write '{figure / 'below.svg'}': Not a directory."):
        tables.main(["--figure", str(figure / "below.svg")])
