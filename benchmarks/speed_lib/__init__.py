"""The measurements behind benchmarks/speed.py, one module a sub-command."""
