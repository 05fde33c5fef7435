"""The installer and the systemd service, for real: in a system of its own, with systemd as its first process."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Mosquitto

CLONE = Path(__file__).parents[2]
INSTALLER = CLONE / "node" / "install.sh"
UNIT = CLONE / "node" / "systemd" / "soundranger-node.service"
CONFIG = "/etc/soundranger/soundranger-node.toml"
COMMAND = "/usr/local/bin/soundranger-node"
# What a node needs and what it must not: the kernel's clock, the clock itself, the system's files, the people's, and
# a callback that libffi writes, as PortAudio's is.
TRY = """
import ctypes, os, pwd, time, cffi
print(pwd.getpwuid(os.geteuid()).pw_name)
print("read" if ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(256)) >= 0 else "refused")
def trial(what):
    try:
        what()
    except Exception as error:
        print(type(error).__name__)
    else:
        print("done")
trial(lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()))
trial(lambda: open("/opt/soundranger/written", "w"))
trial(lambda: os.listdir("/root"))
print(cffi.FFI().callback("char *(int)", lambda _: cffi.FFI.NULL) and "called")
"""
# Where the clone is for the system of its own; it is not to be written to.
CLONED_INSTALLER = "/srv/soundranger/node/install.sh"
# The keys of newer systemds, which older ones say that they ignore.
NEWER_KEYS = ("RestartSteps", "RestartMaxDelaySec")
# What `systemd-analyze security` gives from 0 (locked up) to 10; a service without any hardening has 9.6.
MOST_EXPOSED = 2.5
START_S = 30.0
PULSE_DROP_IN = "[Service]\nEnvironment=PULSE_SERVER=unix:/run/room.sock"

# The machine's files below a layer of its own, which vanishes with it. None of the machine's services start a second
# time in there, and its chronyd neither steers the one clock that both have nor answers on their one network.
BOOT = """
set -e
mount --make-rprivate /
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs none run
mount --rbind /dev dev
mkdir -p srv/soundranger etc/chrony/conf.d
rm -rf etc/systemd/system/*.wants
echo 'DAEMON_OPTS="-x"' >etc/default/chrony
printf 'port 0\\ncmdport 0\\n' >etc/chrony/conf.d/apart.conf
mount --bind -o ro "$2" srv/soundranger
exec chroot . env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system \
    --unit=multi-user.target --log-target=null
"""
# It ends with the tests, even where they are killed.
WITH_US = ("setpriv", "--pdeathsig", "KILL")
UNSHARE = ("unshare", "--fork", "--kill-child", "--pid", "--mount", "--cgroup", "--uts", "--ipc")


class Machine:
    """A system whose files, processes and services are its own; its network is that of the tests."""

    def __init__(self, folder: Path) -> None:
        self._boot = subprocess.Popen(
            [*WITH_US, *UNSHARE, "bash", "-c", BOOT, "boot", str(folder), str(CLONE)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait_until_up(self) -> None:
        end_s = time.monotonic() + START_S
        # Degraded: some other service of this machine does not work in namespaces.
        while (said := self._try("systemctl", "is-system-running").strip()) not in {"running", "degraded"}:
            assert self._boot.poll() is None
            assert time.monotonic() < end_s, said
            time.sleep(0.2)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program inside, as root."""
        enter = ["nsenter", f"--target={self._first_process()}", "--all", "--root", "--wd"]
        kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **kept}
        return subprocess.run(
            [*enter, *map(str, command)], env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    def says(self, *command: str | Path) -> str:
        """Run a program that is to succeed; return what it prints."""
        done = self.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        self.says("sh", "-c", f"mkdir -p $(dirname {path}) && cat > {path} <<'END'\n{text}\nEND")

    def wait_for(self, expected: str, *command: str) -> None:
        end_s = time.monotonic() + START_S
        while expected not in (said := self._try(*command)):
            assert time.monotonic() < end_s, said
            time.sleep(0.2)

    def close(self) -> None:
        self._boot.kill()
        self._boot.wait()

    def _first_process(self) -> str:
        children = Path(f"/proc/{self._boot.pid}/task/{self._boot.pid}/children").read_text().split()
        return children[0] if children else str(self._boot.pid)

    def _try(self, *command: str) -> str:
        return self.run(*command).stdout


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if os.geteuid() != 0 or not Path("/lib/systemd/systemd").exists():
        pytest.skip("a system of its own needs root, and systemd to be installed")
    folder = tmp_path_factory.mktemp("machine")
    if subprocess.run([*UNSHARE, "mount", "-t", "cgroup2", "cgroup2", folder], check=False).returncode != 0:
        pytest.skip("namespaces are not allowed here")
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "paho-mqtt"]
    if subprocess.run(download, capture_output=True, check=False).returncode != 0:
        pytest.skip("no package index can be reached")
    system = Machine(folder)
    try:
        system.wait_until_up()
        yield system
    finally:
        system.close()


@pytest.fixture(scope="module")
def installed(machine: Machine) -> Machine:
    """The machine after the installer ran for the first time."""
    said = machine.says(CLONED_INSTALLER)
    assert f"sudo nano {CONFIG}" in said
    return machine


def state(machine: Machine, key: str) -> str:
    return machine.says("systemctl", "show", "soundranger-node", f"--property={key}", "--value")


@pytest.mark.slow
def test_a_first_installation_waits_for_the_configuration(installed: Machine) -> None:
    assert state(installed, "ActiveState") == "inactive"
    assert state(installed, "UnitFileState") == "enabled"
    assert installed.says("systemctl", "is-active", "chrony") == "active"
    assert installed.says("stat", "--format=%A %U %G", CONFIG) == "-rw-r----- root soundranger"
    assert installed.says(COMMAND, "--version")
    assert "audio" in installed.says("id", "--name", "--groups", "soundranger").split()
    done = installed.run("runuser", "-u", "soundranger", "--", COMMAND, "check", "--config", CONFIG)
    assert done.returncode == 1
    assert "is the place of the example" in done.stdout


def sandbox() -> list[str]:
    """The options that make systemd-run treat a program as the unit treats the node, once it is started."""
    service = UNIT.read_text().partition("[Service]")[2].partition("[Install]")[0]
    settings = re.findall(r"^([A-Za-z]+=.*)$", service, re.MULTILINE)
    about_starting = ("Type", "Notify", "Exec", "Restart", "Watchdog", "Timeout", "StateDirectory")
    return [f"--property={one}" for one in settings if not one.startswith(about_starting)]


@pytest.mark.slow
def test_in_the_sandbox_the_clock_can_be_read_and_not_set_and_nothing_be_written(installed: Machine) -> None:
    said = installed.says(
        "systemd-run", "--wait", "--pipe", "--quiet", *sandbox(), "/opt/soundranger/bin/python", "-c", TRY
    )
    assert said.split() == ["soundranger", "read", "PermissionError", "OSError", "PermissionError", "called"]


@pytest.mark.slow
def test_the_service_runs_in_its_sandbox_and_a_second_installation_keeps_its_configuration(
    installed: Machine, mosquitto: "Mosquitto"
) -> None:
    pulse = shutil.which("pulseaudio")
    if pulse is None:
        pytest.skip("pulseaudio is not installed")
    installed.write(
        "/run/room.pa",
        "load-module module-native-protocol-unix socket=/run/room.sock auth-anonymous=1\n"
        "load-module module-null-sink sink_name=room rate=48000 channels=2\nset-default-source room.monitor",
    )
    options = ["-n", "-F", "/run/room.pa", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
    installed.says("systemd-run", "--unit=room", "--setenv=HOME=/run", pulse, *options)
    drop_in = "/etc/systemd/system/soundranger-node.service.d/room.conf"
    installed.write(drop_in, PULSE_DROP_IN)
    installed.write(
        CONFIG,
        f'node = "roof"\n[place]\nlat = 52.51628\nlon = 13.37771\nalt_m = 74.0\n'
        f'[microphone]\ndevice = "pulse"\n[mqtt]\nhost = "{mosquitto.host}"\nport = {mosquitto.port}',
    )
    before = installed.says("cat", CONFIG)

    said = installed.says(CLONED_INSTALLER)
    assert "It runs." in said
    assert installed.says("cat", CONFIG) == before
    # Type=notify: systemd calls it active only once it has said that it is ready.
    assert state(installed, "ActiveState") == "active"
    installed.wait_for("roof: ", "systemctl", "show", "soundranger-node", "--property=StatusText")
    installed.wait_for("connected to mqtt://", "journalctl", "--unit=soundranger-node", "--no-pager")
    assert float(state(installed, "WatchdogTimestampMonotonic")) > 0

    installed.write(drop_in, f"{PULSE_DROP_IN}\nWatchdogSec=4\nRestartSec=2")
    installed.says("systemctl", "daemon-reload")
    installed.says("systemctl", "restart", "soundranger-node")
    installed.says("systemctl", "kill", "--signal=SIGSTOP", "room")
    installed.wait_for("watchdog", "systemctl", "show", "soundranger-node", "--property=Result")
    installed.says("systemctl", "kill", "--signal=SIGCONT", "room")
    installed.wait_for("active", "systemctl", "show", "soundranger-node", "--property=ActiveState", "--value")

    restarts = int(state(installed, "NRestarts"))
    installed.says("kill", f"-{int(signal.SIGKILL)}", state(installed, "MainPID"))
    installed.wait_for(f"={restarts + 1}", "systemctl", "show", "soundranger-node", "--property=NRestarts")
    installed.says("systemctl", "restart", "soundranger-node")
    start_s = time.monotonic()
    installed.says("systemctl", "stop", "soundranger-node")
    assert time.monotonic() - start_s < 10
    log = installed.says("journalctl", "--unit=soundranger-node", "--no-pager", "--lines=20")
    assert state(installed, "Result") == "success", log


@pytest.mark.slow
def test_what_the_documentation_says_about_removing_it_leaves_nothing(installed: Machine) -> None:
    removing = (CLONE / "docs" / "install-a-node.md").read_text().partition("\n## Remove it\n")[2].partition("\n#")[0]
    commands = re.findall(r"^    sudo (.*)$", removing, re.MULTILINE)
    assert len(commands) > 3
    for command in commands:
        installed.says("sh", "-c", command)
    assert state(installed, "LoadState") == "not-found"
    assert installed.says("find", "/etc", "/opt", "/usr/local", "/var/lib", "-name", "soundranger*") == ""
    assert installed.run("getent", "passwd", "soundranger").returncode != 0


def test_the_unit_holds_nothing_that_systemd_does_not_know(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd is not installed")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/soundranger/bin/soundranger-node", "/bin/true"))
    done = subprocess.run([program, "verify", unit], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert [line for line in complaints if not any(key in line for key in NEWER_KEYS)] == []


def test_the_unit_is_locked_up_as_far_as_sound_and_clock_allow() -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd is not installed")
    rate = [program, "security", "--offline=true", f"--threshold={MOST_EXPOSED * 10:.0f}", str(UNIT)]
    done = subprocess.run(rate, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_installer_has_nothing_that_shellcheck_dislikes() -> None:
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([program, INSTALLER], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_a_dry_run_says_the_steps_and_does_none() -> None:
    if not shutil.which("apt-get"):
        pytest.skip("this is no Debian")
    there = [Path("/opt/soundranger"), Path(CONFIG).parent, Path("/etc/systemd/system") / UNIT.name]
    before = [path.exists() for path in there]
    done = subprocess.run([INSTALLER, "--dry-run"], capture_output=True, text=True, check=True)
    assert "pip install" in done.stdout
    assert [path.exists() for path in there] == before


def test_what_the_installer_cannot_do_is_one_sentence(tmp_path: Path) -> None:
    unknown = subprocess.run([INSTALLER, "--prefix"], capture_output=True, text=True, check=False)
    assert (unknown.returncode, unknown.stderr) == (2, "install.sh: --prefix is no option; there is only --dry-run\n")
    (tmp_path / "node").mkdir()
    alone = shutil.copy(INSTALLER, tmp_path / "node")
    done = subprocess.run([alone, "--dry-run"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"install.sh: {tmp_path} is no clone of soundranger; ")
    assert done.stderr.count("\n") == 1
