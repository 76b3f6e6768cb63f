"""Ids to hidden states, and hidden states to a loss. Knows the config and logical axis names, no mesh."""
