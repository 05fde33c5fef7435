"""One judgement on the system clock from whatever its sources say."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundranger_node.config import Clock
from soundranger_node.timekeeping.absent import Absent
from soundranger_node.timekeeping.chrony import Tracking
from soundranger_node.timekeeping.gpsd import GpsReport, Pulse
from soundranger_node.timekeeping.judge import FLOOR_S, UNSET_SIGMA_S, Reports, amount, judge
from soundranger_node.timekeeping.kernel import KernelClock, Status

NOW_S = 1_795_558_161.0
NTP = Tracking("192.0.2.7", 0xC0000207, NOW_S - 60, 1e-3, 20e-3, 1e-3, "none", synchronised=True)
PPS = Tracking("PPS", 0x50505300, NOW_S - 16, 1e-6, 1e-9, 20e-6, "none", synchronised=True)
UNSYNCHRONISED = Tracking("", 0, 0.0, 0.0, 1.0, 1.0, "none", synchronised=False)
TIMESYNCD = KernelClock(Status.PLL, 16e-3, timesyncd=True)
NTPD = KernelClock(Status.PLL, 30e-3, timesyncd=False)
UNSET = KernelClock(Status.UNSYNC, 16.0, timesyncd=False)
PULSE = Pulse(ahead_s=1e-3, rate=0.0, scatter_s=5e-6, precision_s=2**-20, age_s=0.5, device="/dev/pps0")
GPS = GpsReport("3.22", devices=1, mode=3, satellites_used=8, late_s=0.2, fix_age_s=0.5, pulse=None)
NO_CHRONY = Absent("chrony is not installed")
NO_GPSD = Absent("gpsd at localhost:2947 cannot be reached")
NO_KERNEL = Absent("the kernel does not let its clock be read")


def reports(
    chrony: Tracking | Absent = NO_CHRONY,
    gps: GpsReport | Absent = NO_GPSD,
    kernel: KernelClock | Absent = UNSET,
) -> Reports:
    return Reports(chrony, gps, kernel, utc_s=NOW_S, interval_s=10.0)


def with_pulse(ahead_s: float, **changes: Any) -> GpsReport:
    return replace(GPS, pulse=replace(PULSE, ahead_s=ahead_s, **changes))


AUTO = Clock()


def test_an_ntp_bound_is_three_standard_deviations() -> None:
    quality = judge(AUTO, reports(NTP))
    assert (quality.tier, quality.good, quality.source) == ("ntp", True, "chrony: 192.0.2.7")
    assert quality.bound_s == pytest.approx(12e-3)
    assert quality.sigma_s == pytest.approx(4e-3)
    assert "12 ms" in quality.why


@pytest.mark.parametrize("name", ["PPS", "PPS0", "GPPS", "kPPS", "SHM1"])
def test_a_pulse_that_chrony_follows_is_the_best_tier(name: str) -> None:
    quality = judge(AUTO, reports(replace(PPS, reference=name)))
    assert (quality.tier, quality.good, quality.ahead_s) == ("pps", True, 0.0)
    assert quality.sigma_s == FLOOR_S["pps"]


@pytest.mark.parametrize("name", ["GPS", "NMEA", "SHM0", "SOC0", "USB"])
def test_a_gps_without_a_pulse_is_never_better_than_10_ms_whatever_chrony_states(name: str) -> None:
    quality = judge(AUTO, reports(replace(PPS, reference=name)))
    assert (quality.tier, quality.good, quality.sigma_s, quality.bound_s) == ("gps", True, 0.01, None)
    assert name in quality.why


def test_a_gps_whose_time_scatters_is_worse_than_10_ms() -> None:
    quality = judge(AUTO, reports(replace(PPS, reference="GPS", root_dispersion_s=90e-3)))
    assert quality.sigma_s == pytest.approx(30e-3, rel=1e-3)


def test_a_ptp_clock_counts_as_the_network_that_it_comes_over() -> None:
    assert judge(AUTO, reports(replace(PPS, reference="PHC0"))).tier == "ntp"


def test_a_small_bound_still_leaves_what_software_time_stamps_cost() -> None:
    quality = judge(AUTO, reports(replace(NTP, ahead_s=0.0, root_delay_s=1e-5, root_dispersion_s=1e-6)))
    assert quality.sigma_s == FLOOR_S["ntp"]
    assert quality.bound_s == pytest.approx(3 * FLOOR_S["ntp"])


def test_a_chrony_that_lost_its_sources_grows_worse_without_limit_and_says_since_when() -> None:
    lost = replace(NTP, measured_s=NOW_S - 5 * 86_400, root_dispersion_s=1.5)
    quality = judge(AUTO, reports(lost))
    assert quality.sigma_s > 0.5
    assert "5 days ago" in quality.why


def test_a_clock_that_chrony_knows_to_be_seconds_off_has_not_been_set_yet() -> None:
    quality = judge(AUTO, reports(replace(NTP, ahead_s=-7_200.0)))
    assert not quality.good
    assert "2 h off" in quality.why


def test_the_leap_second_is_passed_on() -> None:
    assert judge(AUTO, reports(replace(NTP, leap="insert"))).leap == "insert"
    assert judge(AUTO, reports(kernel=replace(NTPD, status=Status.DEL))).leap == "delete"
    assert judge(AUTO, reports(replace(NTP, leap="insert"), with_pulse(1e-3))).leap == "insert"


@pytest.mark.parametrize(
    "chrony", [UNSYNCHRONISED, replace(NTP, reference="", reference_id=0x7F7F0101), replace(NTP, synchronised=False)]
)
def test_a_chrony_without_a_source_is_not_good_whatever_the_kernel_says(chrony: Tracking) -> None:
    quality = judge(AUTO, reports(chrony, kernel=NTPD))
    assert (quality.good, quality.sigma_s, quality.bound_s) == (False, UNSET_SIGMA_S, None)
    assert "chrony" in quality.why


def test_timesyncd_is_free_and_50_ms_although_it_states_no_error() -> None:
    quality = judge(AUTO, reports(kernel=TIMESYNCD))
    assert (quality.tier, quality.good, quality.source, quality.bound_s) == ("free", True, "systemd-timesyncd", None)
    assert quality.sigma_s == pytest.approx(0.05, rel=1e-4)
    assert "apt install chrony" in quality.why


def test_a_timesyncd_that_lost_its_server_grows_worse() -> None:
    eight_hours = replace(TIMESYNCD, max_error_s=8 * 3_600 * 500e-6)
    assert judge(AUTO, reports(kernel=eight_hours)).sigma_s == pytest.approx(0.152, rel=0.01)


def test_a_timesyncd_that_lost_its_server_for_too_long_is_not_good() -> None:
    assert not judge(AUTO, reports(kernel=replace(UNSET, timesyncd=True))).good


def test_a_kernel_that_another_daemon_steers_is_bounded_by_its_maximum_error() -> None:
    quality = judge(AUTO, reports(kernel=NTPD))
    assert (quality.tier, quality.good, quality.source) == ("ntp", True, "kernel")
    assert quality.bound_s == pytest.approx(30e-3)
    assert quality.sigma_s == pytest.approx(10e-3)


def test_between_two_renewals_the_kernels_pessimism_does_not_make_a_steered_clock_worse_than_a_free_one() -> None:
    quality = judge(AUTO, reports(kernel=replace(NTPD, max_error_s=0.5)))
    assert quality.bound_s == pytest.approx(0.5)
    assert quality.sigma_s == pytest.approx(0.05, rel=0.01)


def test_a_kernel_that_follows_a_pulse_is_the_best_tier() -> None:
    steered = replace(NTPD, status=Status.PLL | Status.PPSTIME | Status.PPSSIGNAL, max_error_s=15e-6)
    quality = judge(AUTO, reports(kernel=steered))
    assert (quality.tier, quality.sigma_s) == ("pps", FLOOR_S["pps"])


@pytest.mark.parametrize("kernel", [UNSET, NO_KERNEL])
def test_a_clock_that_nobody_set_is_not_good_and_every_source_says_why(kernel: KernelClock | Absent) -> None:
    quality = judge(AUTO, reports(kernel=kernel))
    assert (quality.good, quality.source) == (False, "nobody")
    assert "chrony is not installed" in quality.why
    assert "gpsd at localhost:2947 cannot be reached" in quality.why
    assert "kernel" in quality.why


def test_a_pulse_measures_a_clock_that_nobody_set() -> None:
    quality = judge(AUTO, reports(gps=with_pulse(-7_200.25)))
    assert (quality.tier, quality.good, quality.source, quality.ahead_s) == ("pps", True, "gpsd", -7_200.25)
    assert quality.sigma_s < 20e-6
    assert "behind" in quality.why


def test_a_pulse_over_usb_is_a_millisecond() -> None:
    assert judge(AUTO, reports(gps=with_pulse(0.1, precision_s=2**-10))).sigma_s == pytest.approx(1e-3, rel=0.03)


def test_a_pulse_that_scatters_and_a_clock_that_drifts_make_sigma_larger() -> None:
    assert judge(AUTO, reports(gps=with_pulse(0.1, scatter_s=3e-4))).sigma_s == pytest.approx(3e-4, rel=0.01)
    drifting = judge(AUTO, reports(gps=with_pulse(0.1, rate=-50e-6, age_s=0.0)))
    assert drifting.sigma_s == pytest.approx(50e-6 * 10 / 3**0.5, rel=0.01)


def test_a_pulse_that_stopped_vouches_for_nothing() -> None:
    quality = judge(AUTO, reports(gps=with_pulse(0.1, age_s=60.0)))
    assert not quality.good
    assert "stopped 60 s ago" in quality.why


def test_a_fix_without_a_pulse_vouches_for_nothing() -> None:
    for source in ("auto", "gpsd"):
        quality = judge(Clock(source=source), reports(gps=GPS))
        assert not quality.good
        assert "no pulse" in quality.why


@pytest.mark.parametrize(
    ("gps", "says"),
    [
        (replace(GPS, devices=0, mode=0), "/etc/default/gpsd"),
        (replace(GPS, mode=1, satellites_used=2), "no fix (2 satellites)"),
        (NO_GPSD, "cannot be reached"),
    ],
)
def test_what_a_gps_lacks_is_told(gps: GpsReport | Absent, says: str) -> None:
    assert says in judge(Clock(source="gpsd"), reports(NTP, gps)).why


def test_a_pulse_that_agrees_with_chronys_servers_measures_better_than_they_do() -> None:
    quality = judge(AUTO, reports(NTP, with_pulse(3e-3)))
    assert (quality.tier, quality.ahead_s, quality.source) == ("pps", 3e-3, "gpsd")
    assert "chrony: 192.0.2.7 agrees" in quality.why


def test_a_pulse_that_chrony_already_follows_changes_nothing() -> None:
    assert judge(AUTO, reports(PPS, with_pulse(8e-6))) == judge(AUTO, reports(PPS))


def test_a_pulse_that_contradicts_chrony_is_told_and_sigma_covers_both() -> None:
    for chrony in (NTP, PPS):
        quality = judge(AUTO, reports(chrony, with_pulse(30e-3)))
        assert (quality.good, quality.ahead_s, quality.bound_s) == (True, 0.0, None)
        assert quality.sigma_s == pytest.approx(30e-3)
        assert "30 ms off" in quality.why


def test_a_receiver_that_miscounts_seconds_does_not_make_the_clock_worse() -> None:
    quality = judge(AUTO, reports(NTP, with_pulse(-3.002)))
    assert quality.sigma_s == pytest.approx(4e-3)
    assert "miscounts" in quality.why


def test_a_pulse_is_preferred_to_the_time_over_a_line() -> None:
    quality = judge(AUTO, reports(replace(PPS, reference="GPS"), with_pulse(0.15)))
    assert (quality.tier, quality.ahead_s) == ("pps", 0.15)


def test_a_fix_that_is_seconds_off_is_told() -> None:
    quality = judge(AUTO, reports(NTP, replace(GPS, late_s=-619_315_200.0)))
    assert quality.sigma_s == judge(AUTO, reports(NTP)).sigma_s
    assert "7168 days off" in quality.why
    assert judge(AUTO, reports(NTP, replace(GPS, late_s=3_600.0, fix_age_s=60.0))) == judge(AUTO, reports(NTP))


def test_only_the_configured_source_vouches() -> None:
    everything = reports(NTP, with_pulse(1e-3), NTPD)
    assert judge(Clock(source="chrony"), everything).source == "chrony: 192.0.2.7"
    assert judge(Clock(source="kernel"), everything).source == "kernel"
    assert judge(Clock(source="gpsd"), everything).source == "gpsd"
    assert not judge(Clock(source="chrony"), reports(gps=with_pulse(1e-3), kernel=NTPD)).good
    assert not judge(Clock(source="kernel"), reports(NTP, with_pulse(1e-3))).good
    assert not judge(Clock(source="gpsd"), reports(NTP, kernel=NTPD)).good


def test_an_owner_who_trusts_the_clock_is_taken_at_their_word() -> None:
    quality = judge(Clock(source="trusted", sigma_s=2e-3), reports())
    assert (quality.tier, quality.good, quality.sigma_s, quality.bound_s) == ("free", True, 2e-3, None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 us"),
        (1.5e-6, "1.5 us"),
        (-30e-3, "30 ms"),
        (0.9999e-3, "1 ms"),
        (2.0, "2 s"),
        (7_200.0, "2 h"),
        (864_000, "10 days"),
    ],
)
def test_amounts_read_as_a_person_would_say_them(seconds: float, text: str) -> None:
    assert amount(seconds) == text


small = st.floats(0, 100)
signed = st.floats(-1e10, 1e10)
trackings = st.builds(
    Tracking,
    st.sampled_from(["192.0.2.7", "PPS", "GPS", "PHC0", ""]),
    st.sampled_from([0, 0x7F7F0101, 7]),
    signed,
    signed,
    small,
    small,
    st.just("none"),
    st.booleans(),
)
pulses = st.builds(Pulse, signed, st.floats(-6e-4, 6e-4), small, st.floats(1e-9, 1), st.floats(0, 1e5), st.just("x"))
gpses = st.builds(
    GpsReport,
    st.just("3.22"),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 40),
    st.none() | signed,
    st.none() | small,
    st.none() | pulses,
)
kernels = st.builds(KernelClock, st.sampled_from([UNSET.status, NTPD.status]), small, st.booleans())


@given(
    st.sampled_from(["auto", "chrony", "gpsd", "kernel", "trusted"]),
    st.just(NO_CHRONY) | trackings,
    st.just(NO_GPSD) | gpses,
    st.just(NO_KERNEL) | kernels,
)
def test_every_judgement_can_be_used(
    source: str, chrony: Tracking | Absent, gps: GpsReport | Absent, kernel: KernelClock | Absent
) -> None:
    quality = judge(Clock(source=source), reports(chrony, gps, kernel))  # type: ignore[arg-type]
    assert FLOOR_S["pps"] <= quality.sigma_s < 1e11
    assert quality.bound_s is None or quality.bound_s >= quality.sigma_s
    assert quality.why
    assert quality.good or quality.sigma_s == UNSET_SIGMA_S
    assert quality.ahead_s == 0 or quality.tier == "pps"
