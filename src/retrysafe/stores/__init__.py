"""Stores: where checkpoints live. ``base.py`` is the contract, ``memory.py`` its executable specification."""
