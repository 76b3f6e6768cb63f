"""Words: text to ids and back, conversations, corpora. Imports no JAX."""
