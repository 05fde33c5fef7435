"""Lets `python -m soundranger_broker` be the command line."""

from soundranger_broker.cli import main

main()
