"""The command `soundranger-node`: what a person types, and each error as one sentence."""

import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from soundranger_node import __version__
from soundranger_node.audiofile import FileSource
from soundranger_node.blocks import Block
from soundranger_node.detector import Detector, Impulse
from soundranger_node.errors import InputError, SoundrangerError
from soundranger_node.evidence import read_evidence
from soundranger_node.messages import Detection
from soundranger_node.pipeline import Pipeline
from soundranger_node.recordings import Recording, read_recordings

# What a shell's own commands return for arguments that make no sense.
BAD_INPUT = 2
FAILED = 1
# A file this long is worked on for about a second.
LONG_FILE_S = 300.0
DEFAULT_CONFIG = Path("/etc/soundranger/node.toml")

app = typer.Typer(
    help="The node of soundranger: hears loud impulses and says when each one arrived.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_LOG = logging.getLogger(__name__)
