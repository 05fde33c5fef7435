"""Deciding in a process of its own: the same as in this one, and no more when it is gone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.conftest import free_port

from soundranger_broker.deciding import Decider, Deciding, News
from soundranger_broker.elsewhere import Elsewhere
from soundranger_broker.locator import Locator
from soundranger_node.messages import DETECTION

if TYPE_CHECKING:
    from tests.broker.conftest import Town

pytestmark = pytest.mark.slow

SECOND_NS = 1_000_000_000
PATIENCE_S = 60.0


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    decider = Elsewhere()
    yield decider
    decider.stop()


def news_of(town: "Town", decider: Deciding) -> list[News]:
    rng, locator = np.random.default_rng(3), Locator(2 * SECOND_NS, decider=decider)
    heard = [one for at_s in (5.0, 25.0) for one in town.hear(*town.somewhere(rng), at_s, rng)]
    news = list[News]()
    for one in [*heard, *town.chatter(rng, 40.0, 5.0)]:
        locator.detection(DETECTION.encode(one), one.time_ns, one.node)
        news += locator.advance(one.time_ns)
    return news + locator.advance(heard[-1].time_ns + 100 * SECOND_NS)


def test_what_is_decided_elsewhere_is_what_is_decided_here(town: "Town", elsewhere: Elsewhere) -> None:
    here = Decider()
    told = news_of(town, here)
    assert len(told) > 4
    assert news_of(town, elsewhere) == told
    assert elsewhere.state == here.state


def test_a_process_that_is_killed_is_missed_at_the_next_question(elsewhere: Elsewhere) -> None:
    elsewhere.decide([], 10 * SECOND_NS)
    elsewhere._process.kill()
    elsewhere._process.join()
    with pytest.raises((EOFError, OSError)):
        elsewhere.decide([], 20 * SECOND_NS)


def children(parent: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def deciding(parent: int) -> int:
    """Return the process that decides: of those that were started, the one that uses the numerics."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        for child in children(parent):
            if "numba" in Path(f"/proc/{child}/maps").read_text():
                return child
        time.sleep(0.1)
    raise AssertionError("there is none")


@pytest.fixture
def centre(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    ports = ["--mqtt-port", str(free_port()), "--port", str(free_port())]
    options = ["--mqtt", "embedded", *ports, "--database", str(tmp_path / "centre.db")]
    process = subprocess.Popen(
        [sys.executable, "-m", "soundranger_broker", "run", *options], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert any("memory: " in line for line in process.stderr)
    yield process
    process.kill()
    process.wait()
    process.stderr.close()


def test_a_centre_whose_decider_is_gone_ends_and_says_so(centre: "subprocess.Popen[str]") -> None:
    os.kill(deciding(centre.pid), signal.SIGKILL)
    _, said = centre.communicate(timeout=PATIENCE_S)
    assert centre.returncode == 1
    assert "the process that locates is gone" in said
    assert "Traceback" not in said


def test_a_decider_ends_with_its_centre(centre: "subprocess.Popen[str]") -> None:
    decider = deciding(centre.pid)
    centre.kill()
    centre.wait()
    end_s = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{decider}").exists():
        assert time.monotonic() < end_s
        time.sleep(0.1)
