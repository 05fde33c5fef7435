"""What chronyd says of the system clock is read as it is meant."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.node.timekeeping.conftest import Chronyd, wait_until

from soundranger_node.timekeeping.absent import Absent
from soundranger_node.timekeeping.chrony import Tracking, ask_chrony, parse_tracking

# Printed by chronyc 4.3.
SYNCHRONISED = (
    "7F000001,127.0.0.1,4,1795558161.142096019,-0.000001255,0.000000000,0.000000023,-0.003,0.000,0.057,"
    "0.000005582,0.000000880,0.1,Normal\n"
)
UNSYNCHRONISED = (
    "00000000,,0,0.000000000,0.000000000,0.000000000,0.000000000,0.000,0.000,0.000,1.000000000,1.000000000,0.0,"
    "Not synchronised\n"
)
OWN_CLOCK = (
    "7F7F0101,,3,1795558153.296665919,0.000000000,0.000000000,0.000000000,0.000,0.000,0.000,0.000000000,0.000000000,"
    "0.0,Normal\n"
)


def test_a_synchronised_report_is_read_with_the_sign_of_the_offset_turned_to_ahead() -> None:
    tracking = parse_tracking(SYNCHRONISED)

    assert tracking == Tracking(
        reference="127.0.0.1",
        reference_id=0x7F000001,
        measured_s=1795558161.142096019,
        # For this very state chronyc's text said "0.000001255 seconds fast of NTP time".
        ahead_s=1.255e-6,
        root_delay_s=5.582e-6,
        root_dispersion_s=0.88e-6,
        leap="none",
        synchronised=True,
    )
    assert not tracking.refclock
    assert not tracking.local


def test_the_bound_is_the_offset_plus_the_root_distance() -> None:
    assert parse_tracking(SYNCHRONISED).bound_s == pytest.approx(1.255e-6 + 0.88e-6 + 5.582e-6 / 2)


def test_a_chronyd_without_a_source_is_not_synchronised() -> None:
    assert not parse_tracking(UNSYNCHRONISED).synchronised


def test_a_chronyd_that_follows_itself_says_so() -> None:
    tracking = parse_tracking(OWN_CLOCK)
    assert tracking.local
    assert not tracking.refclock


@pytest.mark.parametrize(
    ("name", "refclock"),
    [("PPS", True), ("GPS", True), ("SHM0", True), ("PHC0", True), ("192.0.2.7", False), ("2001:db8::7", False)],
)
def test_a_refclock_is_told_from_a_server_by_its_name(name: str, refclock: bool) -> None:
    assert parse_tracking(SYNCHRONISED.replace("127.0.0.1", name)).refclock is refclock


@pytest.mark.parametrize(("status", "leap"), [("Insert second", "insert"), ("Delete second", "delete")])
def test_an_announced_leap_second_is_read(status: str, leap: str) -> None:
    assert parse_tracking(SYNCHRONISED.replace("Normal", status)).leap == leap


def test_a_later_chrony_may_add_fields() -> None:
    assert parse_tracking(SYNCHRONISED.strip() + ",something new\n") == parse_tracking(SYNCHRONISED)


@given(st.text() | st.lists(st.text(alphabet="0123456789.-+einfa", max_size=8), min_size=13).map(",".join))
def test_any_other_text_is_refused_with_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_tracking(text)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "", "1e999", "x"])
@pytest.mark.parametrize("field", [3, 4, 10, 11])
def test_a_number_that_is_none_is_refused(field: int, number: str) -> None:
    fields = SYNCHRONISED.split(",")
    fields[field] = number
    with pytest.raises(ValueError, match=r"."):
        parse_tracking(",".join(fields))


def test_a_computer_without_chrony_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_chrony(None) == Absent("chrony is not installed (sudo apt install chrony)")


@pytest.mark.parametrize("says", ["echo hello", "exit 1", "printf '\\377\\376'", "kill -9 $$"])
def test_a_chronyc_that_goes_wrong_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: str) -> None:
    program = tmp_path / "chronyc"
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert isinstance(ask_chrony(None), Absent)


def test_an_address_that_cannot_be_one_is_told() -> None:
    assert isinstance(ask_chrony("\0"), Absent)


@pytest.mark.slow
def test_a_real_chronyd_that_has_synchronised_states_a_small_bound(synchronised_chronyd: Chronyd) -> None:
    def settled() -> bool:
        answer = ask_chrony(synchronised_chronyd.socket)
        return isinstance(answer, Tracking) and answer.synchronised and answer.bound_s < 0.1

    wait_until(settled)

    tracking = ask_chrony(synchronised_chronyd.socket)
    assert isinstance(tracking, Tracking)
    assert tracking.reference == "127.0.0.1"
    assert abs(tracking.ahead_s) <= tracking.bound_s < 0.1
    assert abs(time.time() - tracking.measured_s) < 60


@pytest.mark.slow
def test_a_real_chronyd_whose_server_is_silent_is_not_synchronised(chronyd: Callable[..., Chronyd]) -> None:
    daemon = chronyd("port 0", "server 127.0.0.1 port 9 iburst")
    tracking = ask_chrony(daemon.socket)
    assert isinstance(tracking, Tracking)
    assert not tracking.synchronised


@pytest.mark.slow
def test_a_real_chronyd_on_its_own_clock_says_so(chronyd: Callable[..., Chronyd]) -> None:
    tracking = ask_chrony(chronyd("port 0", "local stratum 3").socket)
    assert isinstance(tracking, Tracking)
    assert tracking.synchronised
    assert tracking.local


@pytest.mark.slow
def test_a_real_chronyd_that_died_or_hangs_is_told_and_one_that_returns_is_heard(
    chronyd: Callable[..., Chronyd],
) -> None:
    daemon = chronyd("port 0", "local stratum 3")
    daemon.hang()
    hung = ask_chrony(daemon.socket)
    assert isinstance(hung, Absent)
    assert "does not answer" in hung.reason

    daemon.kill()
    gone = ask_chrony(daemon.socket)
    assert isinstance(gone, Absent)
    assert "not running" in gone.reason

    daemon.start()
    assert isinstance(ask_chrony(daemon.socket), Tracking)
