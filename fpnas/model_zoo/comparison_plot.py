"""Plot of networks that were trained alike."""

from __future__ import annotations

from collections.abc import Sequence

from fpnas.model_zoo.comparison import Row
from fpnas.report.figures import Points, scatter

_OURS, _RANDOM = "FP-NAS", "random"


def draw_networks(networks: Sequence[Row]) -> str:
    """Accuracy against FLOPs as an ``<svg>``, one point a network.

    Networks whose names begin with ``fp_nas`` are one family, ``random-…`` another; of the rest,
    those with the same name before its first hyphen.
    """
    families: dict[str, list[tuple[float, float, str]]] = {}
    for row in networks:
        point = (row.flops / 1e6, row.top1, row.name)
        families.setdefault(_family(row.name), []).append(point)
    groups = [
        Points(family, tuple(sorted(points)), joined=family != _RANDOM)
        for family, points in families.items()
    ]
    groups.sort(key=lambda group: group.label != _OURS)
    axes = ("multiply-adds, M", "top-1, %, mean over the trainings")
    return scatter("Accuracy against FLOPs", *axes, groups, log_x=True)


def _family(network: str) -> str:
    return _OURS if network.startswith("fp_nas") else network.partition("-")[0]
