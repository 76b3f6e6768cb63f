"""Weights in and out: Hugging Face folders become runs, and runs become folders, one table a family."""
