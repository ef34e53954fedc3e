"""Bindings: how retrysafe writes on the application's own connection. One module a driver, imported by nobody else."""
