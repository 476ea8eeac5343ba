"""The paper's Table 8 and Figure 1, with the costs of the same networks counted here."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tabulate import tabulate

from fpnas.archs import ARCH_REGISTRY, Architecture, get_arch
from fpnas.modeling import SearchedNet
from fpnas.report.figures import Points, scatter
from fpnas_zoo.checkout import TABLES, read_table


@dataclass(frozen=True)
class PaperRow:
    """A row of Table 8. FLOPs and params in millions, search cost in GPU days, as printed.

    Attributes:
        model, family: its name, and the line of Figure 1 that it belongs to.
        arch: the same network in ARCH_REGISTRY; None if its definition is not published.
        top1, top1_distilled: percent on ImageNet, as the paper prints them.
        why: reason of a difference between printed and counted costs.
    """

    model: str
    family: str
    cost: str
    flops: float
    top1: float
    params: float | None = None
    top1_distilled: float | None = None
    arch: str | None = None
    why: str | None = None

    def build_arch(self) -> Architecture | None:
        """Our architecture of this row, if there is one."""
        return get_arch(self.arch) if self.arch in ARCH_REGISTRY else None


@dataclass(frozen=True)
class PaperModel:
    """One of the paper's own models, and the config that searches for one like it."""

    model: str
    input: int
    flops: float
    top1: float
    config: str
    params: float | None = None


@dataclass(frozen=True)
class PaperTables:
    """Contents of ``paper.yaml``."""

    table_8: tuple[PaperRow, ...]
    fp_nas: tuple[PaperModel, ...]


def paper_tables() -> PaperTables:
    """The printed figures."""
    return read_table(PaperTables, TABLES / "paper.yaml")


def table_8() -> str:
    """Table 8: costs counted here beside the printed ones, and what explains differences."""
    rows, reasons = [], []
    for row in paper_tables().table_8:
        arch = row.build_arch()
        size = flops = params = None
        if arch is not None:
            size, flops, params = arch.input_size, arch.flops() / 1e6, arch.params / 1e6
            reasons += _reasons(row, arch)
        accuracy = f"{row.top1:.1f}"
        if row.top1_distilled is not None:
            accuracy += f" ({row.top1_distilled:.1f} distilled)"
        costs = [flops, row.flops, _percent(flops, row.flops)]
        costs += [params, row.params, _percent(params, row.params)]
        rows.append([row.model, size, *costs, accuracy, row.cost])
    headers = ["model", "input, px", "FLOPs, M", "the paper's", "%"]
    headers += ["params, M", "the paper's", "%", "the paper's top-1, %", "its GPU days"]
    formats = ("", "", ".1f", "g", "+.1f", ".2f", "g", "+.1f", "", "")
    text = tabulate(rows, headers, floatfmt=formats, disable_numparse=[8, 9])
    return "\n\n".join([text, _CONVENTIONS, *reasons])


_CONVENTIONS = (
    "FLOPs and params without 'the paper's' were counted here: multiply-adds of convolutions and "
    "linear layers, and their weights; '%' is the difference to the printed figure. Rows without "
    "them are networks whose definition is not published or not among ours. Accuracies and search "
    "costs are the paper's; none of these networks was trained on ImageNet here."
)


def _percent(counted: float | None, printed: float | None) -> float | None:
    return None if counted is None or printed is None else 100 * (counted / printed - 1)


def _reasons(row: PaperRow, arch: Architecture) -> list[str]:
    """A paragraph if a cost differs by more than the rounding of the printed figure."""
    differing = []
    flops, params = arch.flops() / 1e6, arch.params / 1e6
    if _differs(flops, row.flops):
        differing.append(f"{flops:.1f} M FLOPs here, {row.flops:g} M printed")
    if row.params is not None and _differs(params, row.params):
        everything = count_parameters(arch) / 1e6
        differing.append(
            f"{params:.2f} M params here ({everything:.2f} M with BatchNorm and biases), "
            f"{row.params:g} M printed"
        )
    if not differing:
        return []
    return [f"{row.model}: {'; '.join(differing)}. Why: {row.why or 'not known'}."]


def _differs(counted: float, printed: float) -> bool:
    decimals = len(f"{printed:g}".partition(".")[2])
    return abs(counted - printed) > 0.5 * 10**-decimals + 1e-9


def count_parameters(arch: Architecture) -> int:
    """All trainable parameters, BatchNorm and biases included."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in SearchedNet(arch).parameters())


def figure_1() -> str:
    """Figure 1 as SVG: accuracies as the paper prints them against FLOPs.

    FLOPs are those counted here where the architecture is one of ours, else the printed ones.
    """
    families: dict[str, list[tuple[float, float, str]]] = {}
    for row in paper_tables().table_8:
        arch = row.build_arch()
        flops = row.flops if arch is None else arch.flops() / 1e6
        families.setdefault(row.family, []).append((flops, row.top1, row.model))
    groups = [Points(family, tuple(sorted(points))) for family, points in families.items()]
    return scatter(
        "Accuracy against FLOPs (after Figure 1 of the paper)",
        "multiply-adds, M",
        "top-1 on ImageNet, %, as published by the paper",
        sorted(groups, key=lambda group: group.label != "FP-NAS"),
        log_x=True,
    )
