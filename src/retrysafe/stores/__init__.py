"""Stores: where checkpoints live. ``base.py`` is the contract, ``memory`` its executable specification."""
