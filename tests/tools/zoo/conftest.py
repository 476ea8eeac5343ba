"""A zoo of its own for each test that asks for it."""

from zoo_cases import zoo

__all__ = ["zoo"]
