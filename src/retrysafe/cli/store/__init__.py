"""``retrysafe store``: does a store keep its promises, and how fast is it, whoever wrote it."""
