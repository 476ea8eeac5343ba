"""From the files of a study to its table, its JSON file and its plot."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tabulate import tabulate

from fpnas.errors import UserError
from fpnas.report.figures import BLUE, ORANGE, RED
from rank_lib.statistics import correlate, gain, highest_tau, seed_deviation

Record = Mapping[str, Any]

_LEAST = 5  # architectures; a tau of fewer says nothing
_BN = ("batch", "recalibrated")
_SCORES = ("accuracy", "loss")
_SETS = {"budget": BLUE, "wide": ORANGE}


@dataclasses.dataclass(frozen=True)
class Rating:
    """A way to score the candidates without training them.

    Attributes:
        source: "flops", "params", or setting and seed of a supernet such as "base-0".
        bn: "batch" or "recalibrated"; "" for costs.
        score: "accuracy", "loss" (negated) or "cost".
        images: validation images behind a score; 0 for costs.
        values: name of a candidate -> score, larger is better.
    """

    source: str
    bn: str
    score: str
    images: int
    values: Mapping[str, float]


class Results:
    """All that a study's folder holds so far.

    Attributes:
        trainings: every stand-alone training, each a record of "name", "set", "seed", "accuracy"...
        supernets: "setting-seed" -> figures of its training, for those that have rated candidates.
        ratings: by every source.

    Raises UserError if fewer than 5 candidates were trained.
    """

    def __init__(self, folder: Path, images: Sequence[int], batch_size: int) -> None:
        files = sorted((folder / "standalone").glob("*/result.json"))
        self.trainings: list[Record] = [json.loads(file.read_text()) for file in files]
        by_name: dict[str, list[Record]] = defaultdict(list)
        for training in self.trainings:
            by_name[training["name"]].append(training)
        if len(by_name) < _LEAST:
            raise UserError(
                f"{folder} holds {len(by_name)} trained architectures; a report needs at least "
                f"{_LEAST} (rank_correlation.py standalone)."
            )
        # An architecture that was repeated counts by its first seed: all have the same noise.
        self.first = {n: min(t, key=lambda t: t["seed"]) for n, t in sorted(by_name.items())}
        self.repeats = [[t["accuracy"] for t in group] for group in by_name.values()]
        self.supernets: dict[str, Record] = {}
        self.ratings = [
            Rating(cost, "", "cost", 0, {name: t[cost] for name, t in self.first.items()})
            for cost in ("flops", "params")
        ]
        for file in sorted((folder / "supernet").glob("*/training.json")):
            rated = {
                path.stem: json.loads(path.read_text())
                for path in sorted((file.parent / "ratings").glob("*.json"))
            }
            if rated:
                self.supernets[file.parent.name] = json.loads(file.read_text())
                self.ratings += _ratings(file.parent.name, rated, images, batch_size)

    def names(self, of_set: str) -> list[str]:
        """Trained candidates of "budget", of "wide", "all" of these two, or of "found"."""
        sets = tuple(_SETS) if of_set == "all" else (of_set,)
        return [n for n, t in self.first.items() if t["set"] in sets]

    def accuracies(self, names: Sequence[str]) -> list[float]:
        """Stand-alone test accuracies, percent."""
        return [self.first[name]["accuracy"] for name in names]


def _ratings(
    source: str, rated: Mapping[str, Record], images: Sequence[int], batch_size: int
) -> Iterator[Rating]:
    for bn in _BN:
        for score in _SCORES:
            sign = -1 if score == "loss" else 1
            available = min(len(record[bn][score]) for record in rated.values())
            batches = {min(available, -(-count // batch_size)) for count in images}
            for count in sorted(batches | {available}):
                values = {
                    name: sign * statistics.mean(record[bn][score][:count])
                    for name, record in rated.items()
                }
                yield Rating(source, bn, score, count * batch_size, values)


def spread(results: Results) -> dict[str, dict[str, float]]:
    """Stand-alone accuracy of each set: how far apart are they, and how much of that is noise?"""
    noise = seed_deviation(results.repeats)
    table = {}
    for of_set in (*_SETS, "all"):
        accuracies = results.accuracies(results.names(of_set))
        if len(accuracies) >= _LEAST:
            table[of_set] = {
                "architectures": len(accuracies),
                "mean": statistics.mean(accuracies),
                "deviation": statistics.stdev(accuracies),
                "lowest": min(accuracies),
                "highest": max(accuracies),
                "seed_deviation": noise,
                "highest_tau": highest_tau(accuracies, noise),
            }
    return table


def against_random(results: Results) -> list[dict[str, Any]]:
    """What was found, beside the random networks within budget: stand-alone test accuracies."""
    rivals = results.accuracies(results.names("budget"))
    rows = []
    for name in results.names("found"):
        training = results.first[name]
        row = {"network": name, "flops": training["flops"], "accuracy": training["accuracy"]}
        if len(rivals) > 1:
            above = training["accuracy"] - statistics.mean(rivals)
            row["beats"] = f"{sum(r < training['accuracy'] for r in rivals)} of {len(rivals)}"
            row["deviations above the mean"] = above / statistics.stdev(rivals)
        rows.append(row)
    return rows


def correlations(results: Results) -> list[dict[str, Any]]:
    """A record for each rating and each set with enough candidates that are trained and rated."""
    records = []
    for rating in results.ratings:
        for of_set in ("budget", "all"):
            names = [name for name in results.names(of_set) if name in rating.values]
            if len(names) < _LEAST:
                continue
            scores = [rating.values[name] for name in names]
            correlation = correlate(scores, results.accuracies(names))
            described = {
                "source": rating.source,
                "bn": rating.bn,
                "score": rating.score,
                "images": rating.images,
                "set": of_set,
                "mean_score": statistics.mean(scores),
            }
            records.append({**described, **dataclasses.asdict(correlation)})
    return records


def gains(results: Results) -> list[dict[str, Any]]:
    """How much better than the setting "base" others rank, by all images, in tau."""
    latest = {(r.source, r.bn, r.score): r for r in results.ratings}  # the most images come last
    records = []
    for (source, bn, score), rating in latest.items():
        base = latest.get((f"base-{source.rpartition('-')[2]}", bn, score))
        if base is None or base is rating:
            continue
        record: dict[str, Any] = {"source": source, "bn": bn, "score": score}
        for of_set in ("budget", "all"):
            names = [n for n in results.names(of_set) if n in rating.values and n in base.values]
            if len(names) >= _LEAST:
                pair = [[r.values[name] for name in names] for r in (rating, base)]
                record[of_set] = gain(*pair, results.accuracies(names))
        records.append(record)
    return records


def tables(records: Sequence[Record], gains: Sequence[Record]) -> list[str]:
    """What is printed: all ratings, gains over "base", the supernets' losses by fewer images."""
    most = {r["source"]: r["images"] for r in records}  # they come last
    by_all = [r for r in records if r["images"] == most[r["source"]]]
    by_loss = [r for r in records if (r["bn"], r["score"]) == ("recalibrated", "loss")]
    gain_rows = [
        [r["source"], r["bn"], r["score"], *(_with_error(r.get(s)) for s in ("budget", "all"))]
        for r in gains
    ]
    gain_headers = ["tau less that of base", "BN", "score", "budget", "all"]
    return [
        tabulate(_rows(by_all), headers=_HEADERS),
        tabulate(gain_rows, headers=gain_headers),
        tabulate(_rows(by_loss), headers=_HEADERS),
    ]


def _with_error(value: tuple[float, float] | None) -> str:
    return "" if value is None else f"{value[0]:.2f} ± {value[1]:.2f}"


def _rows(records: Sequence[Record]) -> list[list[Any]]:
    """In budget and over all, beside each other."""
    merged: dict[tuple[Any, ...], dict[str, Record]] = defaultdict(dict)
    for record in records:
        key = tuple(record[k] for k in ("source", "bn", "score", "images"))
        merged[key][record["set"]] = record
    return [
        [*key, *(cell for of_set in ("budget", "all") for cell in _cells(sets.get(of_set)))]
        for key, sets in merged.items()
    ]


_HEADERS = ["source", "BN", "score", "images"] + [
    f"{name}, {of_set}" for of_set in ("budget", "all") for name in ("tau", "95 %", "rho")
]


def _cells(record: Record | None) -> list[str]:
    if record is None:
        return ["", "", ""]
    return [
        _with_error((record["tau"], record["error"])),
        f"{record['low']:.2f} to {record['high']:.2f}",
        f"{record['rho']:.2f}",
    ]


def plot(results: Results, records: Sequence[Record], path: Path) -> None:
    """Stand-alone accuracy against each supernet's, recalibrated, as an SVG file."""
    shown = {
        rating.source: rating
        for rating in results.ratings
        if rating.bn == "recalibrated" and rating.score == "accuracy"
    }  # the last of a source has the most images
    panels = list(shown.values()) or [r for r in results.ratings if r.source == "flops"]
    columns = min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.6 * columns, 3.3 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flat
    for ax, rating in zip(axes, panels, strict=False):
        for of_set, color in (*_SETS.items(), ("found", RED)):
            names = [name for name in results.names(of_set) if name in rating.values]
            if names:
                values = [rating.values[name] for name in names]
                ax.scatter(results.accuracies(names), values, s=18, color=color, label=of_set)
        taus = [
            f"{record['set']} {record['tau']:.2f} ± {record['error']:.2f}"
            for record in records
            if all(record[k] == getattr(rating, k) for k in ("source", "bn", "score", "images"))
        ]
        ax.set_title(f"{rating.source}\nτ: {', '.join(taus)}", fontsize=9, loc="left")
        ax.set_xlabel("stand-alone accuracy, %", fontsize=9)
        ax.set_ylabel("accuracy in the supernet, %" if rating.bn else rating.source, fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in list(axes)[len(panels) :]:
        ax.remove()
    figure.axes[0].legend(fontsize=8, frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None})
