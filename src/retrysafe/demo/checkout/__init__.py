"""The demo's second act: a checkout of steps at services that misbehave, rolled forward or rolled back."""
