"""The computer itself: temperature, power, memory, time zone, the service, and whether its user may hear."""

import grp
import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from soundranger_node.check.result import Result, fails, ok, warning

SERVICE = "soundranger-node"
SERVICE_USER = "soundranger"
# The firmware of a Pi slows its processor down from 80 degrees Celsius on; ten below that a hot day is still to come.
HOT_C = 80.0
WARM_C = 70.0
# A node needs about 80 MB, and what a Pi is short of it looks for on its memory card.
NEEDED_MB = 80
# How long `systemctl` and the like may take on a busy Pi Zero.
COMMAND_TIMEOUT_S = 10.0

# The bits of get_throttled, as Raspberry Pi's documentation of vcgencmd lists them.
UNDER_VOLTAGE_NOW = 1 << 0
SLOWED_NOW = 1 << 1 | 1 << 2 | 1 << 3
UNDER_VOLTAGE_BEFORE = 1 << 16
SLOWED_BEFORE = 1 << 17 | 1 << 18 | 1 << 19

BETTER_SUPPLY = "use the Pi's own power supply and a short cable, and take hungry USB devices off"
COOLER = "give it shade, a heat sink or air: heat also moves the sound card's clock"
# The worst first.
COMPLAINTS = (
    (UNDER_VOLTAGE_NOW, fails("power", "the voltage is too low now", BETTER_SUPPLY)),
    (SLOWED_NOW, warning("power", "the processor is slowed down now", f"{COOLER}; {BETTER_SUPPLY}")),
    (UNDER_VOLTAGE_BEFORE, warning("power", "the voltage was too low since the last start", BETTER_SUPPLY)),
    (SLOWED_BEFORE, warning("power", "the processor was slowed down since the last start", COOLER)),
)


@dataclass(frozen=True)
class Service:
    """What systemd says of the node's service: whether it is installed, its state, and its own word on what it does."""

    installed: bool
    state: str
    says: str

    @property
    def runs(self) -> bool:
        """Whether it is at work, and so may hold the microphone."""
        return self.state == "active"


@dataclass(frozen=True)
class User:
    """Who runs this command: the groups it is in, and the devices of sound that it may not read."""

    name: str
    groups: Sequence[str]
    closed_devices: Sequence[str]


def judge_temperature(celsius: float | None) -> Result:
    """Judge the hottest reading of the processor; None where nothing measures it."""
    if celsius is None:
        return ok("temperature", "this computer does not tell")
    found = f"the processor has {celsius:.0f} degrees Celsius"
    if celsius >= HOT_C:
        return fails("temperature", f"{found}, and slows down from {HOT_C:.0f} on", COOLER)
    if celsius >= WARM_C:
        return warning("temperature", f"{found}; it slows down from {HOT_C:.0f} on", COOLER)
    return ok("temperature", found)


def judge_throttling(model: str, bits: int | None) -> Result:
    """Judge what get_throttled says of a Pi's supply since its start; `bits` is None where it says nothing."""
    if "Raspberry Pi" not in model:
        return ok("power", f"not a Pi ({model}): it does not tell" if model else "not a Pi: it does not tell")
    if bits is None:
        return warning("power", f"the {model} does not tell", "ask it as root", "sudo vcgencmd get_throttled")
    for mask, complaint in COMPLAINTS:
        if bits & mask:
            return complaint
    return ok("power", f"the {model} had enough since its last start")


def judge_memory(available_mb: float | None, *, service_runs: bool) -> Result:
    """Judge the memory that is left; a node that runs has what it needs already."""
    if available_mb is None:
        return ok("memory", "this computer does not tell")
    found = f"{available_mb:.0f} MB are free"
    if available_mb < NEEDED_MB and not service_runs:
        remedy = "end what else runs here; a Pi OS without desktop (Lite) leaves the most"
        return warning(
            "memory", f"{found}, and a node needs about {NEEDED_MB}", remedy, "ps -eo rss,comm --sort=-rss | head"
        )
    return ok("memory", found)


def judge_time_zone(zone: str, adjtime: str) -> Result:
    """Judge the time zone: `adjtime` is the text of /etc/adjtime, whose third line says what a hardware clock holds."""
    if "LOCAL" in adjtime.split("\n")[2:3]:
        found = "the hardware clock is taken to hold local time, so every start may be hours off until it is corrected"
        return warning("time zone", found, "let it hold UTC", "sudo timedatectl set-local-rtc 0")
    return ok("time zone", f"{zone}; it is for people and logs only, the node works in UTC")


def judge_user(user: User, *, service_user_exists: bool) -> Result:
    """Judge whether who runs this command may hear, and whether what it finds holds for the service too."""
    if user.name == "root" and service_user_exists:
        return warning(
            "user",
            f"root may do what the service's user {SERVICE_USER} may not",
            f"check as {SERVICE_USER}",
            f"sudo -u {SERVICE_USER} {SERVICE} check",
        )
    if user.closed_devices and "audio" not in user.groups:
        found = f"{user.name} is not in the group audio and may not use {user.closed_devices[0]}"
        remedy = "add it, and log in again (or restart the service)"
        return fails("user", found, remedy, f"sudo usermod --append --groups audio {user.name}")
    return ok("user", user.name)


def judge_service(service: Service) -> Result:
    """Judge the state of the systemd service."""
    if not service.installed:
        remedy = "let the installer do it, in a clone of soundranger"
        return warning("service", "it is not installed, so nothing starts the node", remedy, "sudo node/install.sh")
    if service.runs:
        return ok("service", service.says or "it runs")
    if service.state == "inactive":
        command = f"sudo systemctl enable --now {SERVICE}"
        return warning("service", "it is installed and does not run", "start it once all else is well", command)
    command = f"journalctl --unit {SERVICE} --lines 20 --no-pager"
    return fails("service", f"it does not run: its state is {service.state}", "read why in its log", command)


def hottest_c(thermal: Path = Path("/sys/class/thermal")) -> float | None:
    """Return the hottest of the kernel's thermal zones, in degrees Celsius."""
    readings = [_text(zone) for zone in thermal.glob("thermal_zone*/temp")]
    return max((int(text) / 1000 for text in readings if text.lstrip("-").isdecimal()), default=None)


def pi_model(device_tree: Path = Path("/proc/device-tree/model")) -> str:
    """Return what kind of board this is, or nothing where it has no device tree."""
    return _text(device_tree).rstrip("\0")


def throttled_bits(sys: Path = Path("/sys")) -> int | None:
    """Return get_throttled from the kernel, or from vcgencmd, or at least the alarm of its voltage sensor."""
    for file in (sys / "devices/platform").glob("soc*/soc*:firmware/get_throttled"):
        if text := _text(file):
            return int(text, 16)
    answer = _output(["vcgencmd", "get_throttled"])
    if answer.startswith("throttled=0x"):
        return int(answer.removeprefix("throttled="), 16)
    for sensor in (sys / "class/hwmon").glob("hwmon*"):
        if _text(sensor / "name") == "rpi_volt":
            return UNDER_VOLTAGE_NOW if _text(sensor / "in0_lcrit_alarm") == "1" else 0
    return None


def available_mb(meminfo: Path = Path("/proc/meminfo")) -> float | None:
    """Return how much memory a program may still have."""
    for line in _text(meminfo).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024
    return None


def time_zone(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the time zone's name and the text of /etc/adjtime."""
    zone = environment.get("TZ") or _text(Path("/etc/timezone")) or Path("/etc/localtime").resolve().name
    return zone, _text(Path("/etc/adjtime"))


def this_user() -> User:
    """Return who runs this command."""
    groups = [group.gr_name for group in grp.getgrall() if group.gr_gid in {os.getgid(), *os.getgroups()}]
    captures = sorted(Path("/dev/snd").glob("pcm*c"))
    closed = [str(device) for device in captures if not os.access(device, os.R_OK | os.W_OK)]
    return User(_name_of(os.geteuid()), groups, closed)


def service_user_exists() -> bool:
    """Return whether the installer's user is there."""
    try:
        pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return False
    return True


def service() -> Service:
    """Return what systemd says of the node's service."""
    properties = "LoadState,ActiveState,StatusText"
    answer = _output(["systemctl", "show", f"{SERVICE}.service", f"--property={properties}"])
    values = dict(line.partition("=")[::2] for line in answer.splitlines())
    installed = values.get("LoadState") == "loaded"
    return Service(installed, values.get("ActiveState", ""), values.get("StatusText", ""))


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _text(path: Path) -> str:
    """Return what a file of the kernel or the system says, or nothing where there is none or it is not for us."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _output(command: Sequence[str]) -> str:
    """Return what a program prints, or nothing where it is missing or fails."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, no shell
            [program, *command[1:]], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
