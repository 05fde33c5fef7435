"""The documentation: what it lists is what there is, every page is found, and its access list works as it says."""

import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from soundranger_node.check.broker import probe
from soundranger_node.link import LinkSettings
from soundranger_node.messages import CentreStatus, Detection, Event, NodeStatus
from soundranger_node.topics import NODE_TOPIC_KINDS

if TYPE_CHECKING:
    from tests.conftest import Mosquitto

PROJECT = Path(__file__).parents[2]
PAGES = {page.name: page.read_text() for page in (PROJECT / "docs").glob("*.md")}
NODE = "roof-north"


def listed(page: str, heading: str) -> set[str]:
    """The names in the first column of the tables below a heading, up to the next."""
    section = f"\n{PAGES[page]}".partition(f"\n{heading}\n")[2].partition("\n#")[0]
    first = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return {name for cell in first for name in re.findall(r"`([^`]+)`", cell)}


def fields(message: type[msgspec.Struct]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(message)}


def block(page: str, word: str) -> str:
    """The indented lines of a page that belong together and hold a word."""
    (found,) = [part for part in re.findall(r"(?:^(?:    .*)?\n)+", PAGES[page], re.MULTILINE) if word in part]
    return "\n".join(line.removeprefix("    ") for line in str(found).splitlines())


def test_every_field_of_a_detection_and_of_a_status_is_documented_and_no_other() -> None:
    assert listed("features.md", "# What a detection says") == fields(Detection)
    # Which node it is stands in the topic.
    said = listed("run-a-network.md", "## What a status says")
    assert said == fields(NodeStatus) - {"node"}


def test_every_field_of_what_the_middle_says_is_documented_and_no_other() -> None:
    assert listed("run-a-network.md", "## What the middle says of itself") == fields(CentreStatus)
    # Its name is told beside the table; nothing classifies yet.
    assert listed("read-an-event.md", "# Read an event") == fields(Event) - {"id", "label", "scores"}


def test_every_topic_of_a_node_is_documented() -> None:
    topics = listed("run-a-network.md", "## Topics")
    assert {topic.rpartition("/")[2] for topic in topics if "/node/" in topic} == set(NODE_TOPIC_KINDS)


def test_every_link_leads_somewhere_and_every_page_is_linked() -> None:
    linked = set()
    for name, text in {"README.md": (PROJECT / "README.md").read_text(), **PAGES}.items():
        folder = PROJECT if name == "README.md" else PROJECT / "docs"
        for target in re.findall(r"\]\(([^)]+)\)", text):
            assert (folder / target).is_file(), f"{name} links to {target}"
            linked.add(Path(target).name)
    assert set(PAGES) <= linked


@pytest.mark.slow
def test_the_documented_access_list_lets_a_node_speak_below_its_own_name_only(
    tmp_path: Path, mosquitto: "Mosquitto"
) -> None:
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto is not installed")
    passwords, rules = tmp_path / "passwords", tmp_path / "rules"
    passwords.touch()
    for user in (NODE, "middle"):
        subprocess.run([program, "-b", passwords, user, "secret"], check=True, capture_output=True)
    rules.write_text(block("run-a-network.md", "%u"))
    for file in (passwords, rules):
        file.chmod(0o600)
    mosquitto.stop()
    mosquitto.configure("allow_anonymous false", f"password_file {passwords}", f"acl_file {rules}")
    mosquitto.start()

    def topics(user: str, node: str) -> str:
        login = LinkSettings(host=mosquitto.host, port=mosquitto.port, user=user, password="secret")
        last = probe(login, f"soundranger/1/node/u33db/{node}", time.time())[-1]
        assert last.name == "topics"
        return last.verdict

    assert topics(NODE, NODE) == "ok"
    assert topics(NODE, "roof-south") == "fails"
    assert topics("middle", NODE) == "ok"
