"""The architectures that were searched here are what their searches allowed."""

from __future__ import annotations

import pytest

from fpnas.config import find_config, get_cfg, list_configs
from fpnas_zoo.markdown import model_zoo_text
from fpnas_zoo.paper import paper_tables
from fpnas_zoo.searches import Found, Search, searches

FOUND = [
    pytest.param(search, found, id=found.arch) for search in searches() for found in search.found
]


@pytest.mark.parametrize(("search", "found"), FOUND)
def test_costs_95_to_100_percent_of_a_target_of_its_search(search: Search, found: Found) -> None:
    assert search.config in list_configs()
    cfg = get_cfg()
    cfg.merge_from_file(find_config(search.config))
    targets = list(cfg.SEARCH.TARGETS) or [cfg.SEARCH.TARGET]
    sizes = cfg.SEARCH.COST_INPUT_SIZES or [cfg.SEARCH.COST_INPUT_SIZE] * len(targets)
    arch = found.build_arch()
    assert arch.name == found.arch
    size = dict(zip(targets, sizes, strict=True))[found.target]
    assert arch.input_size == (size or cfg.DATA.INPUT_SIZE)
    assert 0.95 * found.target <= arch.flops() <= found.target


def test_table_has_a_row_for_each() -> None:
    rows = [line for line in model_zoo_text().splitlines() if line.startswith("| [`fp_nas_")]
    names = [row.split("`")[1] for row in rows]
    for search in searches():
        for found in search.found:
            assert found.arch in names
    papers = {model.model for model in paper_tables().fp_nas}
    assert {found.paper for search in searches() for found in search.found} <= papers | {None}
