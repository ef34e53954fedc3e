"""What every store promises, one test each; :class:`~retrysafe.testing.contract.StoreContract` has them all."""
