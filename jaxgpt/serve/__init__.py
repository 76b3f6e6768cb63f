"""The OpenAI-compatible API and the web page: `python -m jaxgpt serve RUN`."""
