"""Ids to batches: encode once to disk, pack, and index by (seed, step). Imports no JAX."""
