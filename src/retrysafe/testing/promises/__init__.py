"""What every store promises, one test each, by theme; :class:`~retrysafe.testing.contract.StoreContract` has them all."""
