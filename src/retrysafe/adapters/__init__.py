"""Surfaces: each translates in and out, and decides nothing."""
