"""Numbers with units, as people read them."""

from __future__ import annotations

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def prefixed(value: float, unit: str) -> str:
    """Three or four digits and a prefix: ``3.21 M FLOPs``, ``48 k params``, ``12 ms``."""
    for factor, prefix in _PREFIXES:
        # From 999.5 of a unit on, rounding would print 1000 of it.
        if abs(value) >= 0.9995 * factor:
            return f"{_digits(value / factor)} {prefix}{' ' if len(unit) > 2 else ''}{unit}".strip()
    return f"{_digits(value)} {unit}".strip()


def scale_of(largest: float) -> tuple[float, str]:
    """Factor and prefix that bring values of up to ``largest`` into a readable range."""
    for factor, prefix in _PREFIXES:
        if abs(largest) >= factor:
            return factor, prefix
    return 1.0, ""


def percent(share: float) -> str:
    """A share in [0, 1]: ``12.3 %``, ``<0.1 %``."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    return f"{100 * share:.1f} %"


def probability(value: float) -> str:
    """A probability; tiny ones in scientific notation."""
    return f"{value:.2e}" if value < 0.001 else percent(value)


def duration(seconds: float) -> str:
    """``48 s``, ``5.3 min`` or ``2.1 h``."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def count(value: float) -> str:
    """A count: with thousands separators while short, then ``2.7e24``."""
    return f"{value:,}" if value < 1_000_000_000 else f"{float(value):.2g}".replace("e+", "e")


def plain(value: object) -> str:
    """A value of a search variable: ``3``, ``0.75``, ``swish``."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _digits(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 999.5 else f"{value:.3g}"
