"""Tools for testing stores, adapters and applications. Public; nothing in the package imports it."""

from retrysafe.testing.clock import ManualClock
from retrysafe.testing.faults import Fault, FaultyStore, delay, fail, hold, kill
from retrysafe.testing.play import Trace, play

__all__ = ["Fault", "FaultyStore", "ManualClock", "Trace", "delay", "fail", "hold", "kill", "play"]
