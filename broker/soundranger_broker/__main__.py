"""Lets `python -m soundranger_broker` be the command line."""

from soundranger_broker.cli import main

# A process that is started by this one imports it too.
if __name__ == "__main__":
    main()
