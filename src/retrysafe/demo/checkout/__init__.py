"""The demo's second act: a checkout of steps at a bank and a warehouse that misbehave, rolled forward or rolled back."""
