"""Batches to a trained run: mesh, optimizer, step, loop, checkpoints, the run folder."""
