"""Adapters to other libraries and to their formats."""
