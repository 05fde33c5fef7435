"""A centre that is killed: the short run of bench/killed_centre.py, with real processes that are really killed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "killed_centre.py"
KILLS = 2


@pytest.mark.slow
def test_nothing_that_was_acked_is_missing_and_no_bang_is_told_twice_though_all_is_killed() -> None:
    if shutil.which("mosquitto") is None and shutil.which("mosquitto", path="/usr/sbin") is None:
        pytest.skip("mosquitto is not installed")
    done = subprocess.run(
        [sys.executable, SCRIPT, "--kills", str(KILLS)], check=False, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = dict(re.findall(r"^(\S.*?)  +(\d+)$", done.stdout, re.MULTILINE))
    assert int(found["killed"]) == KILLS
    assert int(found["detections acked"]) == int(found["detections sent"]) > 500
    assert int(found["events"]) > 10
