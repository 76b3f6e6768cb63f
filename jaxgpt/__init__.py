"""A small GPT in JAX, from raw text to a model that talks."""

__version__ = "0.1.0"
