"""Run the command line: python -m protogen."""

from .cli import main

main()
