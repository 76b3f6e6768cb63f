"""Params and a prompt to text: sampling, generation over a cache, chat."""
