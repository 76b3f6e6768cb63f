"""What each verb of python -m jaxgpt does: a few lines over the rooms below."""
