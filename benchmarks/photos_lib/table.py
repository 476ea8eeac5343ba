"""From the files of an output folder to the table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate
from units import write_json

from photos_lib.study import CHOOSE, FINAL


def report(folder: Path, names: Sequence[str]) -> None:
    """Print what is finished in the output folder, and write it to results.json.

    ``names``: of the rows, in the order in which they are to stand.
    """
    places = {
        (path.parent.name, int(path.name))
        for stage in (CHOOSE, FINAL)
        for path in folder.glob(f"{stage}/*/*")
    }
    order = sorted(places, key=lambda place: (-place[1], names.index(place[0])))
    records = [_record(folder, row, percent) for row, percent in order]
    write_json(folder / "results.json", records)
    print(tabulate([_shown(record) for record in records], headers="keys", floatfmt=".4g"))


def _record(folder: Path, row: str, percent: int) -> dict[str, Any]:
    """All figures of a row; those that are not there yet are None."""
    chosen, final = (
        _read(folder / s / row / str(percent), "*/result.json") for s in (CHOOSE, FINAL)
    )
    starts = [_read(folder / s / row / str(percent), "start.json") for s in (CHOOSE, FINAL)]
    chosen_start, final_start = (found[0] if found else {} for found in starts)
    top1 = [one["top1"] for one in final]
    best = max(chosen, key=lambda one: (one["top1"], -one["loss"]), default={})
    any_result = (final or chosen or [{}])[0]
    return {
        "row": row,
        "percent": percent,
        "flops": any_result.get("flops"),
        "params": any_result.get("params"),
        "top1": statistics.fmean(top1) if top1 else None,
        "spread": statistics.stdev(top1) if len(top1) > 1 else None,
        "top1_of_seeds": top1,
        "start_top1": final_start.get("top1"),
        "lr": (final or [best])[0].get("lr"),
        "held_out_top1": best.get("top1"),
        "held_out_top1_of_lrs": {f"{one['lr']:g}": one["top1"] for one in chosen},
        "cpu_seconds_to_start": chosen_start.get("cpu_seconds"),
        "cpu_seconds": statistics.fmean(one["cpu_seconds"] for one in final) if final else None,
        "message": chosen_start.get("message") or final_start.get("message") or "",
    }


def _shown(record: dict[str, Any]) -> dict[str, Any]:
    """The record as a row for people."""

    def per(key: str, unit: float) -> float | None:
        return None if record[key] is None else record[key] / unit

    return {
        "row": record["row"],
        "% FLOPs": record["percent"],
        "MFLOPs": per("flops", 1e6),
        "top-1, %": record["top1"],
        "±": record["spread"],
        "seeds": len(record["top1_of_seeds"]),
        "untrained": record["start_top1"],
        "LR": record["lr"],
        "held out": record["held_out_top1"],
        "CPU min to start": per("cpu_seconds_to_start", 60),
        "CPU min": per("cpu_seconds", 60),
        "message": record["message"][:60],
    }


def _read(place: Path, pattern: str) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(place.glob(pattern))]
