"""What a distribution has learned: the probability of every value of every variable."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from fpnas.report.html import escape
from fpnas.report.units import percent, plain
from fpnas.search.distribution import ArchitectureDistribution, FactorizedDistribution

_WHITE_TEXT_FROM = 0.55  # probability at which a cell is dark enough


def group_probabilities(distribution: ArchitectureDistribution) -> list[Tensor]:
    """For each group P(combination), float64 of a dimension for each variable of the group."""
    if isinstance(distribution, FactorizedDistribution):
        distribution = distribution.to_joint()
    log_probs = distribution.factor_log_probs().detach()
    return [
        row[: group.num_combinations].exp().reshape([v.cardinality for v in group.variables])
        for row, group in zip(log_probs, distribution.space.groups, strict=True)
    ]


def marginals(probabilities: Tensor) -> list[Tensor]:
    """P(value) of each variable of a group, from the probabilities of its combinations."""
    return [
        probabilities.movedim(dim, 0).reshape(size, -1).sum(dim=1)
        for dim, size in enumerate(probabilities.shape)
    ]


def heat_maps(distribution: ArchitectureDistribution, choices: Tensor) -> str:
    """A table with a row for each group and a strip of cells for each variable, as HTML.

    A cell is the darker the more probable its value. The values of ``choices[V]`` are framed.
    """
    space = distribution.space
    names = list(dict.fromkeys(variable.name for variable in space.variables))
    head = "".join(f"<th>{escape(name)}</th>" for name in ["group", *names, "entropy, nats"])
    rows = []
    for group, columns, joint in zip(
        space.groups, space.group_columns, group_probabilities(distribution), strict=True
    ):
        strips = {
            variable.name: _strip(variable.name, variable.values, probabilities, chosen)
            for variable, probabilities, chosen in zip(
                group.variables, marginals(joint), choices[list(columns)].tolist(), strict=True
            )
        }
        cells = "".join(f"<td>{strips.get(name, '')}</td>" for name in names)
        entropy = float(-(joint * joint.clamp_min(1e-300).log()).sum())
        nats = f"{max(entropy, 0):.2f} of {math.log(group.num_combinations):.2f}"
        label = f'<td class="group">{escape(group.name)}</td>'
        rows.append(f'<tr>{label}{cells}<td class="nats">{nats}</td></tr>')
    scale = '<div class="scale">probability 0 <i></i> 1, framed: the found architecture</div>'
    return (
        f'<div class="scroll"><table class="heat"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{scale}"
    )


def _strip(name: str, values: tuple[Any, ...], probabilities: Tensor, chosen: int) -> str:
    cells = []
    for i, (value, p) in enumerate(zip(values, probabilities.tolist(), strict=True)):
        classes = ["strong"] * (p >= _WHITE_TEXT_FROM) + ["chosen"] * (i == chosen)
        css = f' class="{" ".join(classes)}"' if classes else ""
        tooltip = escape(f"{name} {value}: {percent(p)}")
        cells.append(
            f'<span{css} style="--p:{p:.3f}" title="{tooltip}">{escape(plain(value))}</span>'
        )
    return f'<div class="cells">{"".join(cells)}</div>'
