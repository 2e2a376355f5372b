"""The models: how rows are assigned, and what is read off a tally."""
