"""The messages that troubleshooting.md explains are messages of fpnas."""

from __future__ import annotations

import ast
import functools
import re

import pytest
from documents import DOCS, ROOT, text

GAP = "…"
#: As they stand in the first column of its tables.
MESSAGES = re.findall(r"^\| `([^`]+)` \|", text(DOCS / "troubleshooting.md"), re.MULTILINE)
# Of logging: %s, %.6g, %d. "%%" is a percent sign.
_FORMAT = re.compile(r"%(?:\.\d+)?[sdgfr]")


@functools.cache
def texts_of_code() -> list[str]:
    """All strings of fpnas; what is filled in is a gap."""
    found = []
    for path in sorted((ROOT / "fpnas").rglob("*.py")):
        for node in ast.walk(ast.parse(text(path))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(_FORMAT.sub(GAP, node.value))
            elif isinstance(node, ast.JoinedStr):
                parts = (v.value if isinstance(v, ast.Constant) else GAP for v in node.values)
                found.append("".join(parts))
    return found


def is_in(message: str, code: str) -> bool:
    """Whether the fixed parts of ``message`` stand in ``code``, in this order."""
    position = 0
    for part in message.split(GAP):
        position = code.find(part, position)
        if position < 0:
            return False
        position += len(part)
    return True


def test_there_are_messages() -> None:
    assert len(MESSAGES) >= 40


@pytest.mark.parametrize("message", MESSAGES)
def test_message_stands_in_the_code(message: str) -> None:
    assert any(is_in(message, code) for code in texts_of_code())


def test_a_message_of_nobody_is_found_out() -> None:
    assert not any(is_in("The moon became … at iteration …", code) for code in texts_of_code())
