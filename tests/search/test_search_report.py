"""The report of a search."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path

import pytest
import torch
from report_checks import check_page
from torch import Tensor

from fpnas.config import get_cfg
from fpnas.errors import UserError
from fpnas.search import (
    Candidate,
    FactorizedDistribution,
    JointDistribution,
    SearchResult,
    search,
)
from fpnas.search.heatmap import group_probabilities, heat_maps, marginals
from fpnas.search.report import write_search_report
from fpnas.spaces import NetworkSpace, SearchSpace, get_space

TARGET = 2.5e6


def run_search(folder: Path, space: SearchSpace, **settings: object) -> SearchResult:
    """A few steps with a made-up likelihood; the files are as a supernet search leaves them."""
    lines = [{"iteration": i, "loss": 2.4, "entropy": 18.02, "time": 0.5} for i in range(5)]

    def evaluate(choices: Tensor) -> Tensor:
        return 0.2 * choices.double().sum(dim=1)

    def record(iteration: int, scalars: dict[str, float]) -> None:
        loss = 2.3 * 0.99**iteration
        line = {"iteration": iteration + 5, "loss": loss, "val_loss": loss + 0.1, "time": 0.5}
        lines.append(line | scalars | {"mode_top1": 80.0 + 0.1 * iteration})

    result = search(space, evaluate, iterations=40, lr=0.1, callback=record, **settings)
    result.save(folder / "search_result.pth")
    (folder / "metrics.json").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return result


@pytest.fixture(scope="module")
def space() -> NetworkSpace:
    return get_space("FP-NAS-Micro")


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, space: NetworkSpace
) -> tuple[Path, SearchResult]:
    folder = tmp_path_factory.mktemp("search")
    result = run_search(folder, space, cost=space.flops, target=TARGET)
    space.architecture(result.choices, "found-one").save(folder / "architecture.yaml")
    cfg = get_cfg()
    cfg.OUTPUT_DIR = "<folder> & more"
    (folder / "config.yaml").write_text(cfg.dump())
    return folder, result


def test_page_is_self_contained_and_has_the_numbers(
    finished: tuple[Path, SearchResult], space: NetworkSpace
) -> None:
    folder, result = finished

    path = write_search_report(folder)

    assert path == folder / "report.html"
    page = path.read_text(encoding="utf-8")
    text = check_page(page)
    arch = space.architecture(result.choices)
    for expected in (
        "Search in FP-NAS-Micro",
        "67,184,640 architectures",
        f"{result.cost / 1e6:.3g} M",
        f"{100 * result.cost / TARGET:.1f} % of the target, 2.5 M",
        f"{arch.params / 1e3:.3g} k",
        f"{result.num_samples:,}",
        "22.5 s",  # 45 steps of 0.5 s
        f"{result.entropy:.2f} nats",
        "83.9 %",
        "found-one",
        "OUTPUT_DIR: <folder> & more",
    ):
        assert expected in text, expected
    for title in ("Entropy of the distribution", "Architectures drawn in a step", "Cost", "Loss"):
        assert title in text
    assert "warm-up ends" in text and "target" in text
    assert page.count('<g class="block"') == len(arch.layers())


def rows_of_candidates(page: str) -> list[str]:
    listing = re.search(r'<table class="listing">.*?</table>', page, re.DOTALL).group()
    return re.findall(r"<tr.*?</tr>", listing)[1:]


def test_every_candidate_has_a_row(tmp_path: Path, finished: tuple[Path, SearchResult]) -> None:
    folder, result = finished
    shutil.copy(folder / "metrics.json", tmp_path)
    shutil.copy(folder / "config.yaml", tmp_path)
    generator = torch.Generator().manual_seed(0)
    cheap, found, dear = (
        Candidate(choices, log_prob, cost)
        for choices, log_prob, cost in zip(
            result.space.sample(3, generator), (-1.0, -2.0, -9.0), (2.4e6, 2.5e6, 3e6), strict=True
        )
    )
    found = dataclasses.replace(found, choices=result.choices)
    dataclasses.replace(result, candidates=(cheap, found, dear)).save(
        tmp_path / "search_result.pth"
    )

    rows = rows_of_candidates(write_search_report(tmp_path).read_text(encoding="utf-8"))

    texts = [re.sub(r"<[^>]+>", "|", row) for row in rows]
    for expected, text in zip(
        [
            ("|1|", "36.8 %", "2.4 M FLOPs", "96.0 %|", "→"),
            ("|2|", "13.5 %", "2.5 M FLOPs", "100.0 %|", "|found|"),
            ("|3|", "1.23e-04", "3 M FLOPs", "120.0 %, over|", "→"),
        ],
        texts,
        strict=True,
    ):
        assert all(part in text for part in expected), text
    assert ["class=marked" in row for row in rows] == [False, True, False]


def test_found_architecture_outside_the_most_probable_ones_is_listed(
    tmp_path: Path, finished: tuple[Path, SearchResult]
) -> None:
    folder, result = finished
    shutil.copy(folder / "metrics.json", tmp_path)
    other = result.choices.clone()
    other[0] = 1 if other[0] == 0 else 0
    dataclasses.replace(
        result,
        candidates=(Candidate(other, -0.5, 2e7),),
        log_prob=-3.0,
        proven=False,
        log_prob_bound=-2.0,
    ).save(tmp_path / "search_result.pth")

    page = write_search_report(tmp_path).read_text(encoding="utf-8")

    rows = rows_of_candidates(page)
    assert len(rows) == 2
    assert "stage1 kernel" in rows[0] and "over" in rows[0]
    assert "class=marked" in rows[1] and "…" in rows[1] and "5.0 %" in rows[1]
    assert "none within it is more probable than 13.5 %" in check_page(page)


def test_search_without_network_and_without_cost(tmp_path: Path) -> None:
    table = SearchSpace.from_variables("toy <1>", [[[3, 5], ["a", "b", "c"]], [[0.5, 1.5]]])
    run_search(tmp_path, table)

    text = check_page(write_search_report(tmp_path).read_text(encoding="utf-8"))

    assert "Search in toy <1>" in text
    assert "There was no target" in text
    assert "Found architecture" not in text and "FLOPs at" not in text


def test_missing_files_are_named(tmp_path: Path, space: NetworkSpace) -> None:
    with pytest.raises(UserError, match="search_result.pth"):
        write_search_report(tmp_path)
    run_search(tmp_path, space)
    (tmp_path / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"metrics\.json"):
        write_search_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_second_report_is_the_same(finished: tuple[Path, SearchResult]) -> None:
    first = write_search_report(finished[0]).read_bytes()

    assert write_search_report(finished[0]).read_bytes() == first


@pytest.mark.parametrize("kind", [JointDistribution, FactorizedDistribution])
def test_marginals_agree_with_samples(kind: type, space: NetworkSpace) -> None:
    generator = torch.Generator().manual_seed(0)
    distribution = kind(space)
    with torch.no_grad():
        distribution.logits.copy_(torch.randn(distribution.logits.shape, generator=generator))

    groups = [marginals(group) for group in group_probabilities(distribution)]

    probabilities = [p for group in groups for p in group]
    choices = distribution.sample(20_000, generator)
    assert len(probabilities) == len(space.variables)
    for column, p in enumerate(probabilities):
        frequencies = torch.bincount(choices[:, column], minlength=len(p)) / len(choices)
        assert p.sum().item() == pytest.approx(1)
        torch.testing.assert_close(frequencies.double(), p, atol=0.02, rtol=0)


def test_heat_maps_show_probabilities_choice_and_entropy() -> None:
    table = SearchSpace.from_variables("toy", [[[3, 5], [16, 24, 32]]])
    distribution = FactorizedDistribution(table)
    with torch.no_grad():
        distribution.logits[0, 0] = math.log(3)

    cells = heat_maps(distribution, torch.tensor([0, 2]))

    assert 'title="variable0 3: 75.0 %"' in cells and 'title="variable0 5: 25.0 %"' in cells
    assert cells.count("33.3 %") == 3
    assert re.findall(r'class="(?:strong )?chosen"[^>]*>([^<]*)<', cells) == ["3", "32"]
    entropy = 0.75 * math.log(4 / 3) + 0.25 * math.log(4) + math.log(3)
    assert f"{entropy:.2f} of {math.log(6):.2f}" in cells
