"""Params and a prompt to words: sampling, generation over a cache, chat."""
