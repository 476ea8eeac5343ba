"""README and docs/ keep their word: Python runs, files, headings, keys and configs exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documents import DOCS, DOCUMENTS, GUIDE, PAGES, ROOT, headings, links, prose, text

from fpnas import model_zoo
from fpnas.cli import search, train
from fpnas.config import CfgNode, find_config, get_cfg

README = text(ROOT / "README.md")
MANY = 25
DETECTRON2S = ("MODEL.FPNAS", "MODEL.BACKBONE")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_readme_is_short() -> None:
    assert len(README.encode()) <= 8192


def test_named_configs_exist() -> None:
    names = {
        config
        for page in GUIDE
        for config in re.findall(r"--config-file ((?!out/|configs/bccd)\S+\.yaml)", text(page))
    }
    assert len(names) >= 10
    for config in names:
        assert find_config(config).is_file()


def test_named_keys_exist() -> None:
    sections = "|".join([key for key, value in get_cfg().items() if isinstance(value, CfgNode)])
    keys = {
        key
        for page in GUIDE
        for key in re.findall(rf"\b((?:{sections})(?:\.[A-Z0-9_]+)+)\b", text(page))
        if not key.startswith(DETECTRON2S)
    }
    assert len(keys) >= MANY
    for key in keys:
        node = get_cfg()
        for part in key.split("."):
            assert isinstance(node, CfgNode), key
            assert part in node, key
            node = node[part]


@pytest.mark.parametrize("page", DOCUMENTS, ids=name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for file, heading in links(page):
        target = page.parent / file if file else page
        assert target.is_file(), f"{page.name}: {file}"
        if heading:
            assert heading in headings(target), f"{page.name}: {file}#{heading}"


def test_readme_and_pages_are_linked() -> None:
    assert sum(len(links(page)) for page in GUIDE) >= MANY
    linked = {file.removeprefix("docs/") for file, _ in links(ROOT / "README.md")}
    assert {"photos.md", "results.md", "start.md", "deploy.md"} <= linked


def test_every_page_is_in_the_contents() -> None:
    index = text(DOCS / "index.md")
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```", index, re.DOTALL | re.MULTILINE)
    listed = [line for tree in trees for line in tree.splitlines() if line and line[0] != ":"]
    pages = {page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES} - {"index"}
    assert sorted(listed) == sorted(pages)
    assert {f"{page}.md" for page in pages} <= {file for file, _ in links(DOCS / "index.md")}


@pytest.mark.parametrize("page", ["README.md", "docs/photos.md"])
def test_commands_on_photos_are_those_that_each_other_print(page, tmp_path, monkeypatch) -> None:
    """Of the three, the second and the third are what the one before prints."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text(ROOT / page), re.DOTALL | re.MULTILINE)
    block = next(block for block in blocks if block.startswith("fpnas search --model"))
    commands = [line.split() for line in block.replace("\\\n", " ").splitlines()]
    cfg = get_cfg()
    cfg.merge_from_file(find_config("search/photos.yaml"))
    cfg.merge_from_list(commands[0][4:])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "search" / "full").mkdir(parents=True)
    (tmp_path / "out" / "search" / "full" / "model_final.pth").touch()
    assert search._next_commands(cfg) == [commands[1]]
    cfg.OUTPUT_DIR = commands[1][-1]
    assert train._next_command(cfg) == commands[2]


def test_rows_of_the_zoo_are_those_of_its_records() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", README, re.MULTILINE)
    rows = [(network, row) for network, row in rows if network in model_zoo.list_models()]
    assert len(rows) >= 5
    for network, row in rows:
        _, arch, record = model_zoo.info(network)
        size, flops, params, top1, about = row.split(" | ")
        assert int(size) == record.input_size
        assert float(flops) == round(arch.flops(record.input_size) / 1e6, 2)
        assert float(params) == round(arch.params / 1e6, 2)
        measured = [metric.value for metric in record.metrics if not metric.published_by]
        assert measured == [pytest.approx(float(top1), abs=0.005)]
        published = [metric.value for metric in record.metrics if metric.published_by]
        assert [float(value) for value in re.findall(r"published: ([\d.]+)", about)] == published


def test_figures_of_the_readme_stand_in_results() -> None:
    """With the command of each; there rounded to more digits."""
    compared = README.partition("## How it compares")[2].partition("\n## ")[0]
    figures = {match.rstrip(".") for match in re.findall(r"\d[\d.,]*\d", compared)}
    known = re.findall(r"\d[\d.,]*\d", prose(DOCS / "results.md"))
    assert len(figures) >= 10
    for figure in figures:
        digits = len(figure.partition(".")[2])
        values = {f"{float(value.strip('.,').replace(',', '')):.{digits}f}" for value in known}
        assert figure.replace(",", "") in values, figure
