"""The node: what runs on a Pi, hears loud impulses and says when each one arrived."""

from importlib.metadata import version

__version__ = version("soundranger")
