"""Tools for testing stores, adapters and applications. Public; nothing in the package imports it."""

from retrysafe.testing.play import Trace, play

__all__ = ["Trace", "play"]
