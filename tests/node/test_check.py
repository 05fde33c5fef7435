"""The judgements of `soundranger-node check`, on values; every one that is not ok says what to do."""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from soundranger_node.check import broker, disk, machine, microphone, settings
from soundranger_node.check.broker import Conversation
from soundranger_node.check.clock import judge_clock, judge_gps
from soundranger_node.check.disk import Disk
from soundranger_node.check.machine import Service, User
from soundranger_node.check.microphone import Heard
from soundranger_node.check.result import NAME_WIDTH, VERDICT_WIDTH, WIDTH, Result, as_text, fails, ok, tally, warning
from soundranger_node.config import Place
from soundranger_node.gain import Processing
from soundranger_node.messages import ClockTier
from soundranger_node.soundcard import InputDevice
from soundranger_node.timekeeping.absent import Absent
from soundranger_node.timekeeping.gpsd import GpsReport
from soundranger_node.timekeeping.quality import ClockQuality
from soundranger_node.timekeeping.survey import SurveyedPlace

CONFIG = Path("/etc/soundranger/soundranger-node.toml")
STATE = Path("/var/lib/soundranger")
PI = "Raspberry Pi Zero 2 W Rev 1.0"
RUNS = Service(installed=True, state="active", says="")
STOPPED = Service(installed=True, state="inactive", says="")
TOPIC = "soundranger/1/node/u281z/roof"
V5 = MQTTProtocolVersion.MQTTv5
V311 = MQTTProtocolVersion.MQTTv311


def code(kind: int, name: str) -> ReasonCode:
    return ReasonCode(kind, name)


WELCOME = code(PacketTypes.CONNACK, "Success")
AGC = Processing("Auto Gain Control", ("amixer", "-c", "1", "cset", "numid=3", "off"))
FOR_EVER = Processing("Limiter", None)
STRANGER = code(PacketTypes.CONNACK, "Not authorized")
HEARS = code(PacketTypes.SUBACK, "Granted QoS 1")
TAKEN = code(PacketTypes.PUBACK, "Success")
DENIED = code(PacketTypes.PUBACK, "Not authorized")


SURVEYED = SurveyedPlace(lat=52.5, lon=13.4, alt_m=74.0, position_sigma_m=1.5, spread_m=2.0, minutes=360, frozen=True)


def gps(*, devices: int = 1, mode: int = 3) -> GpsReport:
    return GpsReport("3.22", devices, mode, satellites_used=9, late_s=0.1, fix_age_s=0.5, pulse=None)


def untrusted(verify_code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError("no")
    error.verify_code, error.verify_message = verify_code, "self-signed certificate"
    return error


def heard(level: float, *, share: float = 1.0, clipped: int = 0) -> Heard:
    samples = (level * np.random.default_rng(1).standard_normal(round(96_000 * share))).astype(np.float32)
    samples[:clipped] = 1.0
    return Heard(samples, 96_000)


def quality(
    *, good: bool = True, tier: ClockTier = "ntp", sigma_s: float = 1e-3, source: str = "chrony"
) -> ClockQuality:
    return ClockQuality(tier=tier, good=good, sigma_s=sigma_s, bound_s=None, source=source, why="says so")


TABLE: list[tuple[Result, str, str]] = [
    (machine.judge_temperature(None), "ok", "does not tell"),
    (machine.judge_temperature(54.2), "ok", "54 degrees"),
    (machine.judge_temperature(70.0), "warning", "70 degrees"),
    (machine.judge_temperature(80.0), "fails", "slows down"),
    (machine.judge_throttling("", None), "ok", "not a Pi"),
    (machine.judge_throttling("Radxa ZERO 3", None), "ok", "not a Pi (Radxa ZERO 3)"),
    (machine.judge_throttling(PI, None), "warning", "does not tell"),
    (machine.judge_throttling(PI, 0), "ok", "had enough"),
    (machine.judge_throttling(PI, 0x50005), "fails", "too low now"),
    (machine.judge_throttling(PI, 0x80008), "warning", "slowed down now"),
    (machine.judge_throttling(PI, 0x50000), "warning", "voltage was too low"),
    (machine.judge_throttling(PI, 0x80000), "warning", "was slowed down"),
    (machine.judge_memory(None, service_runs=False), "ok", "does not tell"),
    (machine.judge_memory(300.0, service_runs=False), "ok", "300 MB"),
    (machine.judge_memory(79.0, service_runs=False), "warning", "needs about 80"),
    (machine.judge_memory(40.0, service_runs=True), "ok", "40 MB"),
    (machine.judge_time_zone("Europe/Berlin", "0.0 0 0\n0\nUTC\n"), "ok", "Europe/Berlin"),
    (machine.judge_time_zone("Etc/UTC", ""), "ok", "works in UTC"),
    (machine.judge_time_zone("Etc/UTC", "0.0 0 0\n0\nLOCAL\n"), "warning", "hours off"),
    (machine.judge_user(User("pi", ["pi", "audio"], []), service_user_exists=True), "ok", "pi"),
    (machine.judge_user(User("pi", ["pi"], []), service_user_exists=True), "ok", "pi"),
    (machine.judge_user(User("pi", ["pi"], ["/dev/snd/pcmC0D0c"]), service_user_exists=True), "fails", "group audio"),
    (machine.judge_user(User("root", ["root"], []), service_user_exists=True), "warning", "root may do"),
    (machine.judge_user(User("root", ["root"], []), service_user_exists=False), "ok", "root"),
    (machine.judge_service(Service(installed=False, state="", says="")), "warning", "not installed"),
    (machine.judge_service(RUNS), "ok", "it runs"),
    (machine.judge_service(Service(installed=True, state="active", says="roof: quiet")), "ok", "roof: quiet"),
    (machine.judge_service(STOPPED), "warning", "does not run"),
    (machine.judge_service(Service(installed=True, state="failed", says="")), "fails", "state is failed"),
    (disk.judge_disk(Disk(Path("/var/lib/soundranger"), "", 9e3, read_only=False), 100.0, "pi"), "ok", "9,000 MB"),
    (
        disk.judge_disk(Disk(Path("/var/lib/soundranger"), "", 50.0, read_only=False), 100.0, "pi"),
        "warning",
        "may grow",
    ),
    (disk.judge_disk(Disk(Path("/x"), "No space left", 0.0, read_only=False), 100.0, "pi"), "fails", "full"),
    (
        disk.judge_disk(Disk(Path("/x"), "Permission denied", 9.0, read_only=False), 1.0, "pi"),
        "fails",
        "pi cannot write",
    ),
    (disk.judge_disk(Disk(Path("/x"), "Read-only", 9.0, read_only=True), 1.0, "pi"), "fails", "mounted read-only"),
    (disk.judge_outbox(Path("/x/outbox.sqlite"), None, ""), "ok", "nothing waits"),
    (disk.judge_outbox(Path("/x/outbox.sqlite"), 3, ""), "ok", "3 detections"),
    (disk.judge_outbox(Path("/x/outbox.sqlite"), None, "file is not a database"), "fails", "not a database"),
    (settings.judge_name("roof-north", CONFIG), "ok", "roof-north"),
    (settings.judge_name("raspberrypi", CONFIG), "warning", "no two nodes"),
    (settings.judge_place(Place(source="gpsd"), CONFIG), "ok", "surveyed"),
    (settings.judge_place(Place(lat=52.51628, lon=13.37771, alt_m=74.0), CONFIG), "ok", "above the ellipsoid"),
    (settings.judge_place(Place(lat=0.0, lon=0.0, alt_m=0.0), CONFIG), "fails", "in the sea"),
    (settings.judge_place(Place(lat=48.13743, lon=11.57549, alt_m=567.0), CONFIG), "fails", "the example"),
    (settings.judge_place(Place(lat=52.51628, lon=13.37771, alt_m=7_400.0), CONFIG), "fails", "no height"),
    (settings.judge_place(Place(lat=52.51628, lon=13.37771, alt_m=-2_000.0), CONFIG), "fails", "no height"),
    (settings.judge_place(Place(lat=52.5, lon=13.377, alt_m=74.0), CONFIG), "warning", "100 m or worse"),
    (
        settings.judge_place(Place(lat=52.51628, lon=13.37771, alt_m=74.0, position_sigma_m=200.0), CONFIG),
        "warning",
        "200 m only",
    ),
    (microphone.judge_devices([]), "fails", "no microphone"),
    (microphone.judge_devices([InputDevice(1, "USB", 1, 48_000.0)]), "ok", "1: USB"),
    (microphone.judge_unopened("USB", "Error opening InputStream: Device unavailable", RUNS), "warning", "in use, as"),
    (microphone.judge_unopened("USB", "Error opening InputStream: Device unavailable", STOPPED), "fails", "another"),
    (microphone.judge_unopened("USB", "Error opening InputStream: Invalid sample rate", RUNS), "fails", "sample rate"),
    (microphone.judge_unopened("USB", "Invalid number of channels", STOPPED), "fails", "this channel"),
    (microphone.judge_unopened("USB", "No input device matching 'USB'", STOPPED), "fails", "No input device"),
    (microphone.judge_sound("USB", heard(1e-3)), "ok", "-60 dBFS"),
    (microphone.judge_sound("USB", Heard(np.zeros(0, np.float32), 96_000)), "fails", "no sound at all"),
    (microphone.judge_sound("USB", heard(0.0)), "fails", "digital silence"),
    (microphone.judge_sound("USB", Heard(np.full(96_000, 0.25, np.float32), 96_000)), "fails", "digital silence"),
    (microphone.judge_sound("USB", heard(1e-3, share=0.5)), "fails", "only 50%"),
    (microphone.judge_sound("USB", heard(1e-5)), "warning", "next to nothing"),
    (microphone.judge_sound("USB", heard(0.2)), "warning", "little room"),
    (microphone.judge_sound("USB", heard(1e-3, clipped=10)), "warning", "10 samples clipped"),
    (microphone.judge_sound("USB", heard(1e-3, clipped=1)), "ok", "dBFS"),
    (microphone.judge_processing([], "off"), "ok", "nothing"),
    (microphone.judge_processing([AGC], "off"), "warning", "Auto Gain Control changes the sound"),
    (microphone.judge_processing([AGC], "refuse"), "fails", "refuses"),
    (microphone.judge_processing([AGC], "accept"), "ok", "takes it as it is"),
    (microphone.judge_processing([AGC, FOR_EVER], "off"), "fails", "Auto Gain Control, Limiter"),
    (judge_clock(quality()), "ok", "tier ntp, by chrony: says so"),
    (judge_clock(quality(good=False)), "fails", "says so"),
    (judge_clock(quality(good=False, source="nobody")), "fails", "by nobody"),
    (judge_clock(quality(tier="free", sigma_s=0.05)), "warning", "tier free"),
    (judge_clock(quality(tier="free", source="configuration")), "ok", "off by 1 ms"),
    (judge_clock(quality(sigma_s=0.03)), "warning", "30 ms are 10 m of sound"),
    (judge_gps(Absent("gpsd cannot be reached"), None), "fails", "in: gpsd cannot be reached"),
    (judge_gps(gps(devices=0), None), "fails", "no GPS to read"),
    (judge_gps(gps(mode=2), None), "warning", "no fix with a height"),
    (judge_gps(gps(), None), "ok", "a fix by 9 satellites"),
    (judge_gps(Absent("gpsd cannot be reached"), SURVEYED), "ok", "to 1.5 m"),
    (broker.judge_unreachable("hub", 1883, socket.gaierror(-2, "unknown")), "fails", 'no machine is called "hub"'),
    (broker.judge_unreachable("hub", 1883, ConnectionRefusedError(111, "refused")), "fails", "nothing listens"),
    (broker.judge_unreachable("hub", 1883, TimeoutError("timed out")), "fails", "timed out"),
    (broker.judge_handshake("hub", 8883, untrusted(9)), "fails", "not valid yet"),
    (broker.judge_handshake("hub", 8883, untrusted(10)), "fails", "has expired"),
    (broker.judge_handshake("hub", 8883, untrusted(62)), "fails", "not for the name hub"),
    (broker.judge_handshake("hub", 8883, untrusted(18)), "fails", "vouched for"),
    (broker.judge_handshake("hub", 8883, ConnectionResetError(104, "reset by peer")), "fails", "reset by peer"),
    (broker.judge_certificate("TLSv1.3", 90.0), "ok", "TLSv1.3"),
    (broker.judge_certificate("TLSv1.3", 3.0), "warning", "3 days"),
]


@pytest.mark.parametrize(("result", "verdict", "part"), TABLE, ids=[f"{one[0].name}-{one[2]}" for one in TABLE])
def test_each_finding_has_its_verdict_and_its_remedy(result: Result, verdict: str, part: str) -> None:
    assert result.verdict == verdict
    assert part in result.found
    assert bool(result.remedy) == (verdict != "ok")


@pytest.mark.parametrize("result", [one[0] for one in TABLE], ids=lambda one: f"{one.name}-{one.verdict}")
def test_every_result_fits_a_terminal_of_80_columns(result: Result) -> None:
    lines = as_text(result).splitlines()
    text = lines[:-1] if result.command else lines
    assert max(map(len, text)) <= WIDTH
    assert len(result.name) < NAME_WIDTH
    assert not result.command or lines[-1] == f"    {result.command}"


@pytest.mark.parametrize(
    ("said", "verdicts", "part"),
    [
        (Conversation(V5), ["fails"], "does not answer (no word in time)"),
        (Conversation(V5, trouble="it hung up"), ["fails"], "does not answer (it hung up)"),
        (
            Conversation(V5, code(PacketTypes.CONNACK, "Not authorized")),
            ["fails"],
            "refuses user roof (Not authorized)",
        ),
        (Conversation(V5, WELCOME, HEARS, TAKEN), ["ok", "ok"], f"may publish below {TOPIC}"),
        (Conversation(V311, WELCOME, HEARS, TAKEN), ["ok", "ok"], "3.1.1 does not tell"),
        (Conversation(V5, WELCOME, HEARS, DENIED), ["ok", "fails"], "does not take"),
        (Conversation(V5, WELCOME, HEARS), ["ok", "fails"], "no answer"),
        (Conversation(V5, WELCOME, DENIED, TAKEN), ["ok", "fails"], "does not let this node hear"),
    ],
)
def test_what_a_broker_says_is_judged_to_the_first_step_that_fails(
    said: Conversation, verdicts: list[str], part: str
) -> None:
    results = broker.judge_conversation(said, "roof", TOPIC)
    assert [result.verdict for result in results] == verdicts
    assert part in results[-1].found
    assert bool(results[-1].remedy) == (verdicts[-1] != "ok")


def test_a_result_reads_as_a_line_of_a_table_and_its_command_stands_alone() -> None:
    text = as_text(fails("disk", "is full " * 9, "make room", "sudo apt clean"))
    assert text.splitlines() == [
        "fails    disk           is full is full is full is full is full is full is full",
        "                        is full is full",
        "                        -> make room",
        "    sudo apt clean",
    ]


def test_the_tally_counts_the_worst_first() -> None:
    good, poor, bad = ok("a", "b"), warning("a", "b", "c"), fails("a", "b", "c")
    assert tally([good, bad, good, poor]) == "1 fails, 1 warning, 2 ok"
    assert tally([bad, bad, poor, poor]) == "2 fail, 2 warnings, 0 ok"


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40))
def test_one_long_word_is_never_torn(word: str) -> None:
    assert word in as_text(ok("name", f"before {word} after")).split()


def test_every_verdict_has_room() -> None:
    assert max(map(len, ("ok", "warning", "fails"))) < VERDICT_WIDTH


def test_the_hottest_zone_counts_and_what_is_no_number_does_not(tmp_path: Path) -> None:
    for number, text in enumerate(["48312\n", "51000\n", "broken", ""]):
        (tmp_path / f"thermal_zone{number}").mkdir()
        (tmp_path / f"thermal_zone{number}" / "temp").write_text(text)
    assert machine.hottest_c(tmp_path) == 51.0
    assert machine.hottest_c(tmp_path / "none") is None


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def firmware(name: str) -> Callable[[Path], None]:
    return lambda sys: write(sys / "devices/platform" / name / f"{name}:firmware" / "get_throttled", "50005\n")


def sensor(alarm: str) -> Callable[[Path], None]:
    def make(sys: Path) -> None:
        write(sys / "class/hwmon/hwmon0/name", "cpu_thermal\n")
        write(sys / "class/hwmon/hwmon1/name", "rpi_volt\n")
        write(sys / "class/hwmon/hwmon1/in0_lcrit_alarm", alarm)

    return make


@pytest.mark.parametrize(
    ("make", "bits"),
    [
        (firmware("soc"), 0x50005),
        (firmware("soc@107c000000"), 0x50005),
        (sensor("1\n"), 1),
        (sensor("0\n"), 0),
        (lambda _: None, None),
    ],
)
def test_a_pi_tells_of_its_supply_in_one_of_several_places(
    tmp_path: Path, make: Callable[[Path], None], bits: int | None
) -> None:
    make(tmp_path)
    assert machine.throttled_bits(tmp_path) == bits


def test_the_model_ends_without_the_zero_of_the_device_tree(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(f"{PI}\0".encode())
    assert machine.pi_model(tmp_path / "model") == PI
    assert machine.pi_model(tmp_path / "none") == ""


def test_memory_is_what_a_program_may_still_have(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 436092 kB\nMemFree: 31000 kB\nMemAvailable: 262144 kB\n")
    assert machine.available_mb(tmp_path / "meminfo") == 256.0
    assert machine.available_mb(tmp_path / "none") is None


def test_a_configuration_that_cannot_be_read_is_a_result(tmp_path: Path) -> None:
    good = tmp_path / "good.toml"
    good.write_text("[place]\nlat = 1.0\nlon = 2.0\nalt_m = 3.0\n")
    bad = tmp_path / "bad.toml"
    bad.write_text("[place]\nlat = 1.0\nlon = 2.0\nalt_m = 3.0\nheight = 4.0\n")
    assert settings.read(good)[1].verdict == "ok"
    for path, part in [(bad, "place.height is not a known key"), (tmp_path, "cannot be read (Is a directory)")]:
        configured, result = settings.read(path)
        assert configured is None
        assert result.verdict == "fails"
        assert part in result.found
        assert result.remedy
    assert "does not exist" in settings.read(tmp_path / "none.toml")[1].found
