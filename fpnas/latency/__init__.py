"""Latency of networks on this machine: measured block by block, then looked up."""

from fpnas.latency.block_timer import BlockShape, OnnxTimer, Timer
from fpnas.latency.space import SpaceLatency
from fpnas.latency.table import LatencyTable

__all__ = ["BlockShape", "LatencyTable", "OnnxTimer", "SpaceLatency", "Timer"]
