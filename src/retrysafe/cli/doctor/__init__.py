"""``retrysafe doctor``: what is wrong with a store or an application, each finding with its fix."""
