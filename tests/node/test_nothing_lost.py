"""Nothing lost: the short run of bench/nothing_lost.py, with real processes that are really killed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "nothing_lost.py"
DETECTIONS = 1500
KILLS = 3


@pytest.mark.slow
def test_every_detection_arrives_exactly_once_though_node_and_broker_are_killed_and_the_disk_fills_up() -> None:
    if shutil.which("mosquitto") is None and shutil.which("mosquitto", path="/usr/sbin") is None:
        pytest.skip("mosquitto is not installed")
    options = ["--detections", str(DETECTIONS), "--kills", str(KILLS), "--rate", "150"]
    done = subprocess.run([sys.executable, SCRIPT, *options], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = dict(re.findall(r"^(\S.*?)  +(\d+)$", done.stdout, re.MULTILINE))
    assert (int(found["detections put"]), int(found["stored exactly once"])) == (DETECTIONS, DETECTIONS)
    assert (int(found["mosquitto killed"]), int(found["node killed"])) == (KILLS, KILLS)
    assert int(found["most held in memory meanwhile"]) > 100
    for never in ("missing", "stored more than once", "left in the outbox", "given up by the node", "damaged files"):
        assert found[never] == "0"
