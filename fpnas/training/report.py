"""The report of a training: curves, final figures and the network that was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fpnas.archs import Architecture
from fpnas.report import figures, html, units
from fpnas.report.drawing import draw_architecture
from fpnas.report.figures import BLUE, ORANGE, TEAL, VIOLET, Line
from fpnas.report.html import Tile
from fpnas.report.run_files import Metrics, folded_files, read_architecture, read_mapping


def write_training_report(output_dir: str | Path) -> Path:
    """Write ``output_dir``/report.html about the training whose files are there; return its path.

    Reads metrics.json and, where they are, result.yaml (final figures), architecture.yaml and
    config.yaml. The page is one file without scripts, readable on light and dark screens.

    Raises UserError if metrics.json is missing or a file is damaged.
    """
    output_dir = Path(output_dir)
    metrics = Metrics.read(output_dir / "metrics.json")
    result = read_mapping(output_dir / "result.yaml")
    config = read_mapping(output_dir / "config.yaml")
    arch = read_architecture(output_dir)

    sections = [html.tiles(_tiles(metrics, result, arch))]
    sections.append(html.section("The training", html.figures(_plots(metrics))))
    if arch is not None:
        input_size = (config.get("DATA") or {}).get("INPUT_SIZE")
        drawing = html.drawing(draw_architecture(arch, input_size))
        sections.append(html.section("Architecture", drawing))
    files = folded_files(output_dir, "result.yaml", "architecture.yaml", "config.yaml")
    if files:
        sections.append(html.section("Files", files))
    name = arch.name if arch is not None else output_dir.name
    data = (config.get("DATA") or {}).get("NAME", "")
    subtitle = f"{metrics.num_iterations:,} steps" + (f" on {data}" if data else "")
    return html.write_page(output_dir / "report.html", f"Training of {name}", subtitle, sections)


def _tiles(metrics: Metrics, result: dict[str, Any], arch: Architecture | None) -> list[Tile]:
    items = []
    top1 = result.get("top1")
    evaluated = metrics.series("test_top1")
    if top1 is None and len(evaluated):
        top1 = evaluated.values[-1]
    if top1 is not None:
        weights = "averaged weights" if result.get("weights") == "ema" else "weights"
        items.append(
            Tile("test top-1", f"{top1:.2f} %", f"{weights} after the last step", top1 / 100)
        )
    if result.get("top5") is not None:
        note = f"test loss {result['loss']:.3f} nats" if result.get("loss") is not None else ""
        items.append(Tile("test top-5", f"{result['top5']:.2f} %", note, result["top5"] / 100))
    if result.get("best_top1") is not None:
        note = f"after {result['best_iteration']:,} steps; chosen on the test images themselves"
        items.append(Tile("best test top-1", f"{result['best_top1']:.2f} %", note))
    if "flops" in result:
        items.append(Tile("FLOPs", units.prefixed(result["flops"], "")))
    params = result.get("params", arch.params if arch is not None else None)
    if params is not None:
        note = "weights of convolutions and linear layers"
        items.append(Tile("params", units.prefixed(params, ""), note))
    if metrics.seconds > 0:
        each = units.duration(metrics.seconds / metrics.num_iterations)
        note = f"{metrics.num_iterations:,} steps, {each} each"
        items.append(Tile("time in steps", units.duration(metrics.seconds), note))
    return items


def _plots(metrics: Metrics) -> list[str]:
    series = metrics.series
    panels = [
        (
            "Loss",
            "nats",
            [
                Line("training", series("loss"), BLUE, "smooth"),
                Line("test", series("test_loss"), ORANGE, "points"),
            ],
        ),
        (
            "Accuracy",
            "%",
            [
                Line("training, top-1", series("train_top1"), BLUE),
                Line("test, top-1", series("test_top1"), ORANGE, "points"),
                Line("test, top-5", series("test_top5"), TEAL, "points"),
            ],
        ),
        ("Learning rate", "", [Line("", series("lr"), BLUE)]),
        ("Norm of the gradient", "", [Line("", series("grad_norm"), VIOLET, "smooth")]),
    ]
    return [
        figures.plot(title, unit, lines)
        for title, unit, lines in panels
        if any(len(line.series) for line in lines)
    ]
