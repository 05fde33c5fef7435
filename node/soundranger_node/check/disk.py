"""The disk: whether detections can wait on it."""

import os
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path

from soundranger_node.check.result import Result, fails, ok, warning

# What is tried: more than a block, so that a full disk shows, and nothing that wears out a memory card.
TRIAL_BYTES = 64 * 1024
BYTES_PER_MB = 1e6
# A node that runs keeps its outbox to itself for as long as it runs: no use in waiting for it.
LOCKED_S = 0.1
IN_USE = "database is locked"


@dataclass(frozen=True)
class Disk:
    """A folder: why it cannot be written ("" where it can), the free space, and whether it is mounted read-only."""

    folder: Path
    problem: str
    free_mb: float
    read_only: bool


def judge_disk(disk: Disk, wanted_mb: float, user: str) -> Result:
    """Judge the folder of the outbox, which may grow to `wanted_mb`."""
    folder = disk.folder
    if disk.read_only:
        remedy = "look for the reason among the kernel's messages; a memory card that wears out does this: replace it"
        return fails("disk", f"{folder} is mounted read-only", remedy, "sudo dmesg --level=err,warn | tail")
    if disk.problem and disk.free_mb * BYTES_PER_MB < TRIAL_BYTES:
        return fails(
            "disk",
            f"{folder} is on a disk that is full",
            "make room",
            "sudo apt clean; sudo journalctl --vacuum-size=50M",
        )
    if disk.problem:
        command = f"sudo install --directory --mode 750 --owner {user} {folder}"
        return fails("disk", f"{user} cannot write to {folder} ({disk.problem})", "give it that folder", command)
    found = f"{disk.free_mb:,.0f} MB are free in {folder}"
    if disk.free_mb < wanted_mb:
        remedy = f"make room, or set [outbox] max_mb to less than {wanted_mb:g}"
        return warning("disk", f"{found}, and the outbox may grow to {wanted_mb:g}", remedy)
    return ok("disk", found)


def judge_outbox(path: Path, waiting: int | None, problem: str) -> Result:
    """Judge the outbox itself: how many detections wait in it (None: there is no file yet), or why it is unusable."""
    if problem == IN_USE:
        return ok("outbox", "the node that runs has it open")
    if problem:
        remedy = "stop the node and put the file aside; a new one is made, and what waits in the old one is not sent"
        command = f"sudo systemctl stop soundranger-node; sudo mv {path} {path}.bad"
        return fails("outbox", f"{path} cannot be used ({problem})", remedy, command)
    if waiting is None:
        return ok("outbox", "nothing waits yet")
    return ok("outbox", f"{waiting} detections wait to be sent")


def probe(folder: Path) -> Disk:
    """Try to write into a folder, or into the nearest above it that is there."""
    there = next(parent for parent in (folder, *folder.parents) if os.path.exists(parent))  # noqa: PTH110 - never raises
    space = os.statvfs(there)
    return Disk(
        folder, _write(there), space.f_bavail * space.f_frsize / BYTES_PER_MB, bool(space.f_flag & os.ST_RDONLY)
    )


def waiting_in(path: Path) -> tuple[int | None, str]:
    """Return the number of detections in an outbox, None where there is none, and why it cannot be read."""
    if not os.path.exists(path):  # noqa: PTH110 - never raises
        return None, ""
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=LOCKED_S)
        try:
            return int(connection.execute("SELECT COUNT(*) FROM detection").fetchone()[0]), ""
        finally:
            connection.close()
    except sqlite3.Error as error:
        return None, str(error)


def _write(folder: Path) -> str:
    """Return why a file cannot be written into a folder; nothing remains of it."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or str(error)
    return ""
