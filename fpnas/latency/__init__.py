"""Latency of networks on this machine: measured block by block, then looked up."""

from fpnas.latency.block_timer import OnnxTimer, Timer
from fpnas.latency.table import LatencyTable, SpaceLatency

__all__ = ["LatencyTable", "OnnxTimer", "SpaceLatency", "Timer"]
