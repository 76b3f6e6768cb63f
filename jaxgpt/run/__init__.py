"""The run folder: what it holds, its checkpoints and records, resuming from it, loading from it."""
