"""python -m jaxgpt VERB."""

from jaxgpt.cli import main

main()
