"""The report of a search: what was found, how the search went, what the distribution knows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fpnas.archs import Architecture
from fpnas.report import figures, html, units
from fpnas.report.drawing import draw_architecture
from fpnas.report.figures import BLUE, ORANGE, TEAL, Level, Line, Mark
from fpnas.report.html import Tile
from fpnas.report.run_files import Metrics, folded_files, read_architecture, read_mapping
from fpnas.search.heatmap import heat_maps
from fpnas.search.methods import SEARCH_METHODS
from fpnas.search.result import Candidate, SearchResult
from fpnas.search.supernet_trainer import SupernetTrainer

_UNITS = {"flops": "FLOPs", "params": "params", "latency": "ms"}


def write_search_report(output_dir: str | Path) -> Path:
    """Write ``output_dir``/report.html about the search whose files are there, and return its path.

    Reads metrics.json and search_result.pth and, where they are, architecture.yaml and config.yaml
    (which says what the cost counts). The page is one file without scripts, readable on light and
    dark screens.

    Raises UserError if a file is missing or damaged.
    """
    run = _Run.read(Path(output_dir))
    result = run.result
    subtitle = (
        f"{run.method.capitalize()} search over "
        f"{units.count(result.space.num_architectures)} architectures, "
        f"{len(result.space.groups)} groups, {len(result.space.variables)} variables"
    )
    sections = [html.notice(result.note)] if result.note else []
    sections.append(html.tiles(_tiles(run)))
    if run.arch is not None:
        sections.append(
            html.section("Found architecture", html.drawing(draw_architecture(run.arch)))
        )
    sections += [
        html.section("The search", html.figures(_plots(run))),
        html.section(
            "What the distribution knows",
            heat_maps(result.distribution, result.choices),
            note="Probability of every value of every search variable at the end of the search.",
        ),
        html.section("Most probable architectures", _candidates(run), note=_proof(result)),
    ]
    if result.finalists:
        sections.append(
            html.section(
                "Finalists",
                _finalists(run),
                note="Trained on their own; loss on the validation half after each round.",
            )
        )
    files = folded_files(run.output_dir, "architecture.yaml", "config.yaml")
    if files:
        sections.append(html.section("Files", files))
    return html.write_page(
        run.output_dir / "report.html", f"Search in {result.space.name}", subtitle, sections
    )


@dataclass(frozen=True)
class _Run:
    """The files of a search."""

    output_dir: Path
    result: SearchResult
    metrics: Metrics
    arch: Architecture | None
    unit: str  # of the cost
    method: str

    @classmethod
    def read(cls, output_dir: Path) -> _Run:
        search = read_mapping(output_dir / "config.yaml").get("SEARCH") or {}
        return cls(
            output_dir,
            SearchResult.load(output_dir / "search_result.pth"),
            Metrics.read(output_dir / "metrics.json"),
            read_architecture(output_dir),
            _UNITS.get(search.get("COST"), ""),
            search.get("METHOD", "probabilistic"),
        )

    @property
    def has_target(self) -> bool:
        return math.isfinite(self.result.target)

    def cost(self, value: float) -> str:
        return units.prefixed(value, self.unit)


def _tiles(run: _Run) -> list[Tile]:
    result, metrics = run.result, run.metrics
    items = []
    if result.cost > 0:
        share = result.cost / result.target
        note = f"{units.percent(share)} of the target, {units.prefixed(result.target, '')}"
        tile = Tile(run.unit or "cost", units.prefixed(result.cost, ""), "no target")
        items.append(tile._replace(note=note, share=share) if run.has_target else tile)
    if run.arch is not None:
        items.append(_other_cost(run.arch, run.unit))
    rated = SEARCH_METHODS.get(run.method, SupernetTrainer).rated
    steps = len(result.history.get("entropy", ()))
    items.append(
        Tile("samples drawn", f"{result.num_samples:,}", f"{rated} rated in {steps:,} steps")
    )
    if metrics.seconds > 0:
        items.append(
            Tile(
                "time in steps",
                units.duration(metrics.seconds),
                f"{metrics.num_iterations:,} steps, "
                f"{units.duration(metrics.seconds / metrics.num_iterations)} each",
            )
        )
    uniform = result.uniform_entropy
    items.append(
        Tile(
            "entropy at the end",
            f"{result.entropy:.2f} nats",
            f"{uniform:.2f} nats at the start (uniform)",
            result.entropy / uniform if uniform else None,
        )
    )
    accuracy = metrics.series("mode_top1")
    if len(accuracy):
        items.append(
            Tile(
                "top-1, supernet's weights",
                f"{accuracy.values[-1]:.1f} %",
                "most probable architecture, validation half",
            )
        )
    return items


def _other_cost(arch: Architecture, unit: str) -> Tile:
    """Params where the cost is FLOPs, FLOPs where it is params."""
    params, flops = units.prefixed(arch.params, ""), units.prefixed(arch.flops(), "")
    if unit == "params":
        return Tile("FLOPs", flops, f"at {arch.input_size} × {arch.input_size} px")
    return Tile("params", params, "weights of convolutions and linear layers")


def _plots(run: _Run) -> list[str]:
    series, marks = run.metrics.series, _marks(run.metrics)
    target = run.result.target
    largest = target if run.has_target else max([run.result.cost, *series("mode_cost").values])
    factor, prefix = units.scale_of(largest)
    costs = [
        Line("of the samples", series("expected_cost").scaled(factor), BLUE, "smooth"),
        Line("of the mode", series("mode_cost").scaled(factor), ORANGE, "steps"),
    ]
    levels = [Level("target", target / factor)] if run.has_target else []
    uniform = run.result.uniform_entropy
    plots = [
        figures.plot(
            "Entropy of the distribution",
            "nats",
            [Line("entropy", series("entropy"), BLUE)],
            levels=[Level("uniform", uniform)],
            marks=marks,
            from_zero=True,
        ),
        figures.plot(
            "Architectures drawn in a step",
            "samples K",
            [Line("", series("num_samples"), TEAL, "steps")],
            marks=marks,
            from_zero=True,
        ),
    ]
    if largest > 0:
        unit = f"{prefix} {run.unit}".strip() or "cost"
        plots.append(figures.plot("Cost", unit, costs, levels=levels, marks=marks, from_zero=True))
    losses = [
        Line("training half", series("loss"), BLUE, "smooth"),
        Line("validation half", series("val_loss"), ORANGE, "smooth"),
        Line("mode, validation half", series("mode_loss"), TEAL, "points"),
    ]
    accuracies = [
        Line("top-1", series("mode_top1"), BLUE, "points"),
        Line("top-5", series("mode_top5"), TEAL, "points"),
    ]
    for title, unit, lines in (
        ("Loss of the samples", "cross entropy, nats", losses),
        ("Accuracy of the mode, supernet's weights", "%", accuracies),
    ):
        if any(len(line.series) for line in lines):
            plots.append(figures.plot(title, unit, lines, marks=marks))
    if len(series("lr")):
        lr = [Line("", series("lr"), BLUE)]
        plots.append(figures.plot("Learning rate of the weights", "", lr, from_zero=True))
    return plots


def _marks(metrics: Metrics) -> list[Mark]:
    """The end of the warm-up: the first step that rated its samples on validation images."""
    rated = metrics.series("val_loss").iterations
    return [Mark("warm-up ends", int(rated[0]))] if len(rated) and rated[0] > 0 else []


def _candidates(run: _Run) -> str:
    """The most probable architectures, and the found one if it is none of them."""
    result = run.result
    found = result.choices.tolist()
    candidates = list(result.candidates)
    ranks = [str(i) for i in range(1, len(candidates) + 1)]
    if found not in [c.choices.tolist() for c in candidates]:
        candidates.append(Candidate(result.choices, result.log_prob, result.cost))
        ranks.append("…")
    marked = [c.choices.tolist() for c in candidates].index(found)
    rows = []
    for i, (rank, candidate) in enumerate(zip(ranks, candidates, strict=True)):
        row = [rank, units.probability(math.exp(candidate.log_prob))]
        if result.cost > 0:
            row.append(run.cost(candidate.cost))
        if run.has_target:
            share = units.percent(candidate.cost / result.target)
            row.append(share if candidate.cost <= result.target else f"{share}, over")
        row.append("found" if i == marked else _differences(result, candidate.choices))
        rows.append(row)
    headers = ["rank", "probability"]
    headers += ["cost"] if result.cost > 0 else []
    headers += ["of the target"] if run.has_target else []
    return html.table([*headers, "differences from the found one"], rows, marked)


def _finalists(run: _Run) -> str:
    """Every finalist with its losses; the found one is marked."""
    result = run.result
    most = max(len(finalist.losses) for finalist in result.finalists)
    rows = []
    for number, finalist in enumerate(result.finalists):
        losses = [f"{loss:.4f}" for loss in finalist.losses]
        rows.append(
            [
                str(number),
                run.cost(finalist.cost),
                *losses,
                *[""] * (most - len(losses)),
                _differences(result, finalist.choices) or "found",
            ]
        )
    found = [torch.equal(finalist.choices, result.choices) for finalist in result.finalists]
    headers = ["", "cost", *(f"round {number + 1}" for number in range(most))]
    return html.table([*headers, "differences from the found one"], rows, found.index(True))


def _differences(result: SearchResult, choices: Tensor) -> str:
    found, other = result.space.decode(result.choices), result.space.decode(choices)
    return ", ".join(
        f"{group.name} {name} {units.plain(value)} → {units.plain(theirs[name])}"
        for group, ours, theirs in zip(result.space.groups, found, other, strict=True)
        for name, value in ours.items()
        if theirs[name] != value
    )


def _proof(result: SearchResult) -> str:
    if not math.isfinite(result.target):
        return "There was no target; the most probable architecture was taken."
    if result.proven:
        return "The found architecture is the most probable one within the budget (proven)."
    own, bound = (units.probability(math.exp(p)) for p in (result.log_prob, result.log_prob_bound))
    return (
        f"The found architecture is within the budget, with probability {own}; "
        f"none within it is more probable than {bound}."
    )
