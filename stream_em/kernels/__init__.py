"""The arithmetic of one batch: `plain` defines what is right, `compiled` does it quickly."""
