"""The command `check` as a person runs it: real sound, real brokers, real disks."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.conftest import free_port

from soundranger_node.outbox import Outbox

if TYPE_CHECKING:
    from tests.conftest import Mosquitto, Pulse

pytestmark = pytest.mark.slow

CLI = "from soundranger_node.cli import main; main()"
PLACE = 'node = "roof"\n[place]\nlat = 52.51628\nlon = 13.37771\nalt_m = 74.0\n'
TOPIC = "soundranger/1/node/u33db/roof"
# Quiet noise, as a street at night.
NOISE = (sys.executable, "-c", "import os, sys\nfor _ in range(1000): sys.stdout.buffer.write(os.urandom(9600))")


def check(
    folder: Path, config: str, environment: dict[str, str] | None = None, *prefix: str
) -> tuple[int, dict[str, tuple[str, str]], str]:
    """Return the exit status, the verdict and the sentence of each line by its name, and all that was printed."""
    path = folder / "node.toml"
    path.write_text(config)
    command = [*prefix, sys.executable, "-c", CLI, "check", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)
    # Neither a traceback of ours nor what PortAudio tells its authors.
    assert done.stderr == ""
    results: dict[str, tuple[str, str]] = {}
    name = ""
    for line in done.stdout.splitlines():
        if head := re.match(r"(ok|warning|fails) +(.{14}) (.*)", line):
            name = head[2].strip()
            results[name] = (head[1], head[3])
        elif name and line.startswith(" " * 24):
            results[name] = (results[name][0], f"{results[name][1]} {line.strip()}")
    return done.returncode, results, done.stdout


def mqtt(port: int, extra: str = "") -> str:
    return f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\n{extra}'


def rest(folder: Path) -> str:
    """An outbox of the test's own, and a clock of which nobody needs to be asked."""
    return f'[outbox]\npath = "{folder}/outbox.sqlite"\n[clock]\nsource = "trusted"\n'


def test_where_all_is_well_nothing_fails(tmp_path: Path, pulse: "Pulse", mosquitto: "Mosquitto") -> None:
    player = shutil.which("pacat")
    if player is None:
        pytest.skip("pulseaudio-utils is not installed")
    pulse.start()
    play = [player, "--playback", "--rate=48000", "--channels=2", "--format=s16le", "--volume=20000"]
    with subprocess.Popen(NOISE, stdout=subprocess.PIPE) as noise:
        with subprocess.Popen(play, env=pulse.environment, stdin=noise.stdout) as playing:
            config = PLACE + '[microphone]\ndevice = "pulse"\n' + mqtt(mosquitto.port) + rest(tmp_path)
            status, results, text = check(tmp_path, config, pulse.environment)
            playing.kill()
        noise.kill()
    assert {name for name, (verdict, _) in results.items() if verdict == "fails"} == set(), text
    assert status == 0
    assert results["microphone"][0] == "ok"
    assert results["topics"] == ("ok", f"may publish below {TOPIC}")
    assert not (tmp_path / "outbox.sqlite").exists()
    assert re.fullmatch(r"0 fail, \d+ warnings?, \d+ ok", text.splitlines()[-1])


def test_a_muted_microphone_and_one_that_is_not_there_fail_with_a_remedy(tmp_path: Path, pulse: "Pulse") -> None:
    pulse.start()
    config = PLACE + '[microphone]\ndevice = "{}"\n' + rest(tmp_path)
    status, results, text = check(tmp_path, config.format("pulse"), pulse.environment)
    assert status == 1
    assert results["microphone"][0] == "fails"
    assert "digital silence" in results["microphone"][1]
    assert "\n    alsamixer\n" in text
    _, results, _ = check(tmp_path, config.format("theremin"), pulse.environment)
    assert results["microphone"][0] == "fails"
    assert "No input device matching 'theremin'" in results["microphone"][1]


def test_a_microphone_that_gives_nothing_is_not_waited_for_for_ever(tmp_path: Path, pulse: "Pulse") -> None:
    pulse.start()
    config = PLACE + '[microphone]\ndevice = "pulse"\nchannel = 64\n' + rest(tmp_path)
    _, results, _ = check(tmp_path, config, pulse.environment)
    assert results["microphone"][0] == "fails"
    assert "channel" in results["microphone"][1]


def test_a_broker_that_is_not_there_is_told_from_a_machine_that_is_not(tmp_path: Path, mosquitto: "Mosquitto") -> None:
    mosquitto.stop()
    status, results, _ = check(tmp_path, PLACE + mqtt(mosquitto.port) + rest(tmp_path))
    assert status == 1
    assert "nothing listens on port" in results["network"][1]
    nowhere = PLACE + '[mqtt]\nhost = "nowhere.invalid"\n' + rest(tmp_path)
    assert 'no machine is called "nowhere.invalid"' in check(tmp_path, nowhere)[1]["network"][1]


def test_a_broker_that_knows_the_node_not_refuses_it_and_one_that_allows_less_says_what(
    tmp_path: Path, mosquitto: "Mosquitto"
) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "roof", "secret"], check=True, capture_output=True)
    rules = tmp_path / "rules"
    rules.write_text(f"user roof\ntopic write {TOPIC}/detection\ntopic read {TOPIC}/ack\n")
    for file in (passwords, rules):
        file.chmod(0o600)
    mosquitto.stop()
    mosquitto.configure(f"password_file {passwords}", f"acl_file {rules}")
    mosquitto.start()
    _, results, _ = check(tmp_path, PLACE + mqtt(mosquitto.port) + rest(tmp_path))
    assert results["login"][0] == "fails"
    assert "refuses a node without user and password" in results["login"][1]
    login = 'user = "roof"\npassword = "secret"\n'
    _, results, text = check(tmp_path, PLACE + mqtt(mosquitto.port, login) + rest(tmp_path))
    assert results["login"] == ("ok", "as roof, MQTT 5")
    assert results["topics"][0] == "fails"
    assert f"\n    topic readwrite {TOPIC}/#\n" in text


def certificate(folder: Path, name: str, days: str) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", days, "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName={name}", "-keyout", folder / "key.pem", "-out", folder / "ca.pem"]  # type: ignore[list-item]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("name", "days", "trusted", "verdict", "part"),
    [
        ("IP:127.0.0.1", "90", True, "ok", "the certificate is good for"),
        ("IP:127.0.0.1", "3", True, "warning", "ends in"),
        ("DNS:hub.example", "90", True, "fails", "is not for the name 127.0.0.1"),
        ("IP:127.0.0.1", "90", False, "fails", "not vouched for"),
    ],
)
def test_a_certificate_is_judged_by_its_name_its_end_and_who_vouches_for_it(
    tmp_path: Path, mosquitto: "Mosquitto", name: str, days: str, trusted: bool, verdict: str, part: str
) -> None:
    certificate(tmp_path, name, days)
    mosquitto.stop()
    mosquitto.configure("allow_anonymous true", f"certfile {tmp_path}/ca.pem", f"keyfile {tmp_path}/key.pem")
    mosquitto.start()
    tls = "tls = true\n" + (f'ca = "{tmp_path}/ca.pem"\n' if trusted else "")
    _, results, _ = check(tmp_path, PLACE + mqtt(mosquitto.port, tls) + rest(tmp_path))
    assert results["TLS"][0] == verdict
    assert part in results["TLS"][1]
    assert ("topics" in results) == (verdict != "fails")


def test_tls_against_a_broker_without_it_and_the_other_way_round(tmp_path: Path, mosquitto: "Mosquitto") -> None:
    _, results, _ = check(tmp_path, PLACE + mqtt(mosquitto.port, "tls = true\n") + rest(tmp_path))
    assert results["TLS"][0] == "fails"
    certificate(tmp_path, "IP:127.0.0.1", "90")
    mosquitto.stop()
    mosquitto.configure("allow_anonymous true", f"certfile {tmp_path}/ca.pem", f"keyfile {tmp_path}/key.pem")
    mosquitto.start()
    _, results, _ = check(tmp_path, PLACE + mqtt(mosquitto.port) + rest(tmp_path))
    assert results["login"][0] == "fails"
    assert "does not answer" in results["login"][1]


@pytest.mark.parametrize(
    ("then", "verdict", "part"),
    [
        ("head -c 2m /dev/zero 2>/dev/null >$0/fill", "fails", "on a disk that is full"),
        ("mount -o remount,ro $0", "fails", "is mounted read-only"),
        ("true", "warning", "the outbox may grow to 100"),
    ],
)
def test_a_disk_that_is_full_read_only_or_small_is_told(tmp_path: Path, then: str, verdict: str, part: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("a disk of its own needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size=1m none $0; {then}; exec "$@"', str(disk))
    _, results, _ = check(tmp_path, PLACE + rest(disk), None, *mounted)
    assert results["disk"][0] == verdict
    assert part in results["disk"][1]


def test_a_clock_of_which_chrony_cannot_tell_waits_for_one(tmp_path: Path) -> None:
    config = PLACE + f'[clock]\nsource = "chrony"\nchrony_socket = "{tmp_path}/none.sock"\n'
    status, results, _ = check(tmp_path, config)
    assert status == 1
    assert results["clock"][0] == "fails"
    assert "chrony" in results["clock"][1]


def test_a_place_that_no_gps_surveys_in_fails(tmp_path: Path) -> None:
    config = f'node = "roof"\n[place]\nsource = "gpsd"\n{rest(tmp_path)}gpsd = "127.0.0.1:{free_port()}"\n'
    status, results, _ = check(tmp_path, config)
    assert status == 1
    assert results["GPS"][0] == "fails"
    assert "cannot be reached" in results["GPS"][1]


def test_an_outbox_that_the_node_has_open_is_no_fault(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite")
    _, results, _ = check(tmp_path, PLACE + rest(tmp_path))
    assert results["outbox"] == ("ok", "the node that runs has it open")
    outbox.close()
    _, results, _ = check(tmp_path, PLACE + rest(tmp_path))
    assert results["outbox"] == ("ok", "0 detections wait to be sent")


def test_an_outbox_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "outbox.sqlite").write_text("not a database" * 100)
    _, results, _ = check(tmp_path, PLACE + rest(tmp_path))
    assert results["outbox"][0] == "fails"
    assert "file is not a database" in results["outbox"][1]


def test_without_a_configuration_the_computer_is_still_looked_at(tmp_path: Path) -> None:
    status, results, _ = check(tmp_path, "[place]\nlatitude = 1.0\n")
    assert status == 2
    assert "place.latitude is not a known key" in results["configuration"][1]
    assert {"temperature", "power", "memory", "time zone", "user"} <= results.keys()
    assert "microphone" not in results


def test_a_folder_that_is_closed_to_the_services_user_is_no_hindrance(tmp_path: Path) -> None:
    # As with `sudo -u soundranger soundranger-node check` in a home that only its owner may enter.
    closed = ["sh", "-c", 'cd "$0" && chmod 0 . && exec "$@"', str(tmp_path)]
    without_root = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    command = [*closed, *without_root, sys.executable, "-c", CLI, "check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    tmp_path.chmod(0o700)
    assert done.stderr == ""
    assert "configuration  /etc/soundranger/soundranger-node.toml" in done.stdout
