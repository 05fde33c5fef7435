"""What gpsd says is read, whatever its version; the client hears it again however often it goes away."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import free_port
from tests.node.timekeeping.conftest import HOST, Gpsd, Nmea, wait_until

from soundranger_node.errors import MessageError
from soundranger_node.timekeeping.absent import Absent
from soundranger_node.timekeeping.gpsd import (
    MIN_PULSES,
    PULSES,
    Complaint,
    Devices,
    Fix,
    GpsdClient,
    GpsReport,
    GpsView,
    Pps,
    PulseSeries,
    Sky,
    Version,
    parse_report,
)

# Sent by gpsd 3.22 that heard gpsfake.
VERSION_3_22 = b'{"class":"VERSION","release":"3.22","rev":"3.22","proto_major":3,"proto_minor":14}\r\n'
DEVICES_3_22 = (
    b'{"class":"DEVICES","devices":[{"class":"DEVICE","path":"/dev/pts/1","driver":"NMEA0183","activated":'
    b'"2026-11-24T22:13:35.511Z","native":0,"bps":4800,"parity":"N","stopbits":1,"cycle":1.00}]}\r\n'
)
TPV_3_22 = (
    b'{"class":"TPV","device":"/dev/pts/1","mode":3,"time":"2026-11-24T22:17:16.000Z","ept":0.005,"lat":48.137430000,'
    b'"lon":11.575490000,"altHAE":567.0000,"altMSL":520.0000,"alt":520.0000,"epx":17.240,"epy":15.217,"epv":34.500,'
    b'"track":0.0000,"magtrack":3.3413,"magvar":3.3,"speed":0.000,"climb":0.000,"eps":34.48,"epc":69.00,'
    b'"geoidSep":47.000,"eph":17.100,"sep":34.200}\r\n'
)
SKY_3_22 = (
    b'{"class":"SKY","device":"/dev/pts/1","xdop":1.15,"hdop":0.90,"nSat":2,"uSat":1,"satellites":[{"PRN":1,"el":40.0,'
    b'"az":83.0,"ss":46.0,"used":true,"gnssid":0,"svid":1},{"PRN":2,"el":17.0,"az":308.0,"ss":41.0,"used":false}]}\r\n'
)
TOFF_3_22 = (
    b'{"class":"TOFF","device":"/dev/pts/1","real_sec":1795558180, "real_nsec":0,"clock_sec":1795558415,'
    b'"clock_nsec":582454486}\r\n'
)
# As gpsd_json(5) of 3.22 describes it.
PPS_3_22 = (
    b'{"class":"PPS","device":"/dev/ttyAMA0","real_sec":1795558181,"real_nsec":0,"clock_sec":1795558181,'
    b'"clock_nsec":30000500,"precision":-20,"shm":"NTP2","qErr":-1234}\r\n'
)
BEGAN_S = 1_795_558_000


def pulse(second: int, ahead_s: float, precision: int = -20) -> Pps:
    clock_ns = (BEGAN_S + second) * 1_000_000_000 + round(ahead_s * 1e9)
    return Pps(BEGAN_S + second, 0, *divmod(clock_ns, 1_000_000_000), device="/dev/pps0", precision=precision)


def test_the_reports_of_gpsd_3_22_are_read() -> None:
    assert parse_report(VERSION_3_22) == Version("3.22")
    devices = parse_report(DEVICES_3_22)
    assert isinstance(devices, Devices)
    assert [device.path for device in devices.devices] == ["/dev/pts/1"]
    fix = parse_report(TPV_3_22)
    assert isinstance(fix, Fix)
    assert (fix.mode, fix.lat, fix.lon, fix.height_m) == (3, 48.13743, 11.57549, 567.0)
    assert fix.time_ns == 1_795_558_636_000_000_000
    sky = parse_report(SKY_3_22)
    assert isinstance(sky, Sky)
    assert [satellite.used for satellite in sky.satellites or []] == [True, False]
    assert parse_report(b'{"class":"ERROR","message":"Unrecognized request"}') == Complaint("Unrecognized request")
    pps = parse_report(PPS_3_22)
    assert isinstance(pps, Pps)
    assert pps.ahead_ns == 30_000_500


def test_reports_of_other_classes_are_passed_over() -> None:
    assert parse_report(TOFF_3_22) is None
    assert parse_report(b'{"class":"A CLASS TO COME","x":[1,2]}') is None


def test_fields_of_a_gpsd_to_come_do_not_matter() -> None:
    assert parse_report(b'{"class":"TPV","mode":3,"lat":1,"lon":2,"altHAE":3,"new":{"a":[null]}}') == Fix(
        mode=3, lat=1.0, lon=2.0, altHAE=3.0
    )


@pytest.mark.parametrize(
    ("heights", "expected_m"),
    [
        ({"altHAE": 567.0, "altMSL": 520.0, "alt": 520.0, "geoidSep": 40.0}, 567.0),
        ({"altMSL": 520.0, "geoidSep": 47.0}, 567.0),
        ({"alt": 520.0, "geoidSep": 47.0}, 567.0),
        ({"alt": 520.0}, None),
        ({"altMSL": 520.0}, None),
        ({"geoidSep": 47.0}, None),
    ],
)
def test_the_height_is_the_one_above_the_ellipsoid_or_none(heights: dict[str, float], expected_m: float | None) -> None:
    report = parse_report(json.dumps({"class": "TPV", "mode": 3, **heights}).encode())
    assert isinstance(report, Fix)
    assert report.height_m == expected_m


@given(st.binary() | st.text().map(str.encode))
def test_any_line_is_read_or_refused_with_a_message_error(line: bytes) -> None:
    with contextlib.suppress(MessageError):
        parse_report(line)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "mode",
    "time",
    "lat",
    "lon",
    "altHAE",
    "altMSL",
    "alt",
    "geoidSep",
    "satellites",
    "devices",
    "real_sec",
    "real_nsec",
    "clock_sec",
    "clock_nsec",
]


@given(
    st.sampled_from(["VERSION", "DEVICES", "TPV", "SKY", "PPS", "ERROR"]),
    st.dictionaries(st.sampled_from([*FIELDS, "precision", "device", "release", "message"]), JSON),
)
def test_a_report_with_any_values_is_taken_or_refused_with_a_message_error(
    kind: str, values: dict[str, object]
) -> None:
    view = GpsView()
    try:
        report = parse_report(json.dumps({"class": kind, **values}).encode())
    except MessageError:
        return
    assert report is not None
    for second in range(MIN_PULSES):
        view.take(report, 0, float(second))
    view.report(10.0)


def test_a_line_nested_without_end_is_refused() -> None:
    with pytest.raises(MessageError):
        parse_report(b'{"class":"TPV","x":' + b"[" * 60_000)


def test_too_few_pulses_say_nothing() -> None:
    series = PulseSeries()
    for second in range(MIN_PULSES - 1):
        series.add(pulse(second, 0.03), float(second))
        assert series.fit(float(second)) is None
    series.add(pulse(MIN_PULSES - 1, 0.03), MIN_PULSES - 1.0)
    assert series.fit(MIN_PULSES - 1.0) is not None


def test_pulses_of_a_clock_that_drifts_say_how_far_it_is_ahead_now() -> None:
    series = PulseSeries()
    for second in range(40):
        series.add(pulse(second, 0.03 + 20e-6 * second), float(second))

    found = series.fit(41.0)

    assert found is not None
    assert found.ahead_s == pytest.approx(0.03 + 20e-6 * 41, abs=2e-9)
    assert found.rate == pytest.approx(20e-6, rel=1e-3)
    assert found.scatter_s < 2e-9
    assert found.age_s == 2.0


def test_late_interrupts_do_not_move_the_pulse() -> None:
    series = PulseSeries()
    for second in range(PULSES):
        late_s = 3e-3 if second in {3, 8, PULSES - 1} else 0.0
        series.add(pulse(second, 0.03 + late_s), float(second))
    found = series.fit(PULSES - 1.0)
    assert found is not None
    assert found.ahead_s == pytest.approx(0.03, abs=1e-6)


@pytest.mark.parametrize(("step_s", "rate"), [(2e-3, 0.0), (0.0, 5e-4)])
def test_a_small_step_or_a_slew_is_in_the_scatter_from_the_second_pulse_on(step_s: float, rate: float) -> None:
    series = PulseSeries()
    for second in range(60):
        ahead_s = 0.03 if second < 30 else 0.03 + step_s + rate * (second - 30)
        series.add(pulse(second, ahead_s), float(second))
        found = series.fit(float(second))
        if second > 31 and found is not None:
            assert abs(found.ahead_s - ahead_s) <= 2 * found.scatter_s + 1e-6


def test_the_scatter_of_pulses_is_their_standard_deviation() -> None:
    random = np.random.default_rng(5)
    scatters_s = []
    for _ in range(200):
        series = PulseSeries()
        for second in range(PULSES):
            series.add(pulse(second, float(random.normal(0, 40e-6))), float(second))
        found = series.fit(PULSES - 1.0)
        assert found is not None
        scatters_s.append(found.scatter_s)
    assert np.mean(scatters_s) == pytest.approx(40e-6, rel=0.2)


def test_a_step_of_the_system_clock_begins_the_pulses_anew() -> None:
    series = PulseSeries()
    for second in range(10):
        series.add(pulse(second, 0.03), float(second))
    series.add(pulse(10, -0.5), 10.0)
    assert series.fit(10.0) is None
    for second in range(11, 14):
        series.add(pulse(second, -0.5), float(second))
    found = series.fit(13.0)
    assert found is not None
    assert found.ahead_s == pytest.approx(-0.5)


def test_a_clock_that_was_never_set_is_measured_too() -> None:
    series = PulseSeries()
    for second in range(5):
        series.add(pulse(second, -BEGAN_S), float(second))
    found = series.fit(4.0)
    assert found is not None
    assert found.ahead_s == pytest.approx(-BEGAN_S, abs=1e-6)


def test_a_view_tells_satellites_devices_and_how_late_fixes_come() -> None:
    view = GpsView()
    for line in (VERSION_3_22, DEVICES_3_22, SKY_3_22, TPV_3_22):
        report = parse_report(line)
        assert report is not None
        view.take(report, 1_795_558_636_250_000_000, 7.0)
    # A SKY without satellites, which gpsd sends in between, changes nothing.
    view.take(Sky(), 0, 8.0)

    assert view.report(9.0) == GpsReport(
        release="3.22", devices=1, mode=3, satellites_used=1, late_s=0.25, fix_age_s=2.0, pulse=None
    )


def test_receivers_that_are_plugged_and_unplugged_are_counted() -> None:
    view = GpsView()
    counts = []
    for line in (
        b'{"class":"DEVICES","devices":[]}',
        b'{"class":"DEVICE","path":"/dev/ttyACM0","activated":"2026-11-24T22:13:35.511Z"}',
        b'{"class":"DEVICE","path":"/dev/ttyACM0","driver":"u-blox","activated":"2026-11-24T22:13:36.511Z"}',
        b'{"class":"DEVICE","path":"/dev/ttyACM0","activated":0}',
    ):
        report = parse_report(line)
        assert report is not None
        view.take(report, 0, 0.0)
        counts.append(view.report(0.0).devices)
    assert counts == [0, 1, 1, 0]


def test_of_two_receivers_the_pulse_that_still_comes_counts() -> None:
    view = GpsView()
    for second in range(10):
        view.take(pulse(second, 0.01), 0, float(second))
    for second in range(10, 20):
        other = pulse(second, 0.02)
        view.take(Pps(other.real_sec, 0, other.clock_sec, other.clock_nsec, device="/dev/ttyUSB0"), 0, float(second))
    found = view.report(19.0).pulse
    assert found is not None
    assert found.device == "/dev/ttyUSB0"


def test_without_gpsd_the_reason_is_told_and_the_client_can_be_closed() -> None:
    client = GpsdClient(f"{HOST}:{free_port()}")
    assert isinstance(client.report(0.0), Absent)
    client.start()
    wait_until(lambda: "cannot be reached" in _reason(client))
    client.close()
    assert "gpsd" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("address", ["localhost:99999", "..:2947"])
def test_an_address_that_cannot_be_one_is_told(address: str) -> None:
    client = GpsdClient(address)
    client.start()
    wait_until(lambda: "cannot be reached" in _reason(client))
    client.close()


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    with socket.create_server((HOST, 0)) as server:
        yield server


@pytest.mark.parametrize("says", [b"HTTP/1.1 400 Bad Request\r\n\r\n", TPV_3_22, b"\xff\xfe\n", b"x" * 200_000])
def test_another_program_in_gpsds_place_is_told(stranger: socket.socket, says: bytes) -> None:
    client = GpsdClient(f"{HOST}:{stranger.getsockname()[1]}")
    client.start()
    connection, _ = stranger.accept()
    with connection:
        connection.sendall(says)
        wait_until(lambda: "is not gpsd" in _reason(client))
    client.close()


def test_bad_lines_and_a_failing_listener_do_not_end_the_conversation(stranger: socket.socket) -> None:
    heard: list[Fix] = []

    def listen(fix: Fix, came_s: float) -> None:
        heard.append(fix)
        raise RuntimeError(str(came_s))

    client = GpsdClient(f"{HOST}:{stranger.getsockname()[1]}", listen)
    client.start()
    connection, _ = stranger.accept()
    with connection:
        connection.sendall(
            VERSION_3_22 + TPV_3_22 + b"garbage\n" + b'{"class":"TPV","lat":1000}\n' + TPV_3_22 + SKY_3_22
        )
        wait_until(lambda: len(heard) == 2)
        wait_until(lambda: isinstance(report := client.report(0.0), GpsReport) and report.satellites_used == 1)
        client.close()


def _reason(client: GpsdClient) -> str:
    report = client.report(time.monotonic())
    return report.reason if isinstance(report, Absent) else ""


@pytest.mark.slow
def test_a_real_gpsd_hands_over_place_and_satellites_and_is_found_again_when_it_returns(gpsd: Gpsd) -> None:
    places: list[Fix] = []
    client = GpsdClient(gpsd.address, lambda fix, _: places.append(fix))
    client.start()
    wait_until(lambda: "cannot be reached" in _reason(client))

    def hears(lat: float) -> bool:
        report = client.report(time.monotonic())
        return (
            isinstance(report, GpsReport)
            and (report.release != "", report.devices, report.mode, report.satellites_used) == (True, 1, 3, 8)
            and any(fix.lat == pytest.approx(lat, abs=1e-7) and fix.height_m is not None for fix in places)
        )

    gpsd.play(Nmea(lat=48.13743).seconds(300))
    wait_until(lambda: hears(48.13743))
    with_height = [fix for fix in places if fix.height_m is not None]
    assert with_height[-1].lon == pytest.approx(11.57549, abs=1e-7)
    assert with_height[-1].height_m == pytest.approx(567.0)

    gpsd.kill()
    wait_until(lambda: _reason(client) != "")
    places.clear()

    gpsd.play(Nmea(lat=-33.5, lon=-70.25).seconds(300))
    wait_until(lambda: hears(-33.5), within_s=20)
    client.close()


@pytest.mark.slow
def test_the_fixes_of_a_real_gpsd_show_a_clock_that_is_an_hour_off(gpsd: Gpsd) -> None:
    client = GpsdClient(gpsd.address)
    client.start()
    gpsd.play(Nmea(start=datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)).seconds(60))

    def late() -> bool:
        report = client.report(time.monotonic())
        return isinstance(report, GpsReport) and report.late_s is not None and 3_500 < report.late_s < 3_700

    wait_until(late)
    client.close()
