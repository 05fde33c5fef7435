"""The kernel's account of its clock is read as it is meant, on 32 bits and on 64."""

import ctypes
from pathlib import Path

import pytest

from soundranger_node.timekeeping.kernel import KernelClock, Status, ask_kernel, kernel_clock, timex_structure


@pytest.mark.parametrize(
    ("long", "size", "status", "tick", "tai"), [(ctypes.c_int32, 128, 20, 44, 80), (ctypes.c_int64, 208, 40, 88, 160)]
)
def test_the_structure_has_the_layout_of_the_kernels_headers(
    long: type, size: int, status: int, tick: int, tai: int
) -> None:
    timex = timex_structure(long)
    offsets = [getattr(timex, name).offset for name in ("modes", "status", "tick", "tai")]
    assert (ctypes.sizeof(timex), offsets) == (size, [0, status, tick, tai])


def test_the_kernel_of_this_computer_answers_and_is_left_as_it_was() -> None:
    clock = ask_kernel()
    assert isinstance(clock, KernelClock)
    assert clock.max_error_s >= 0
    again = ask_kernel()
    assert isinstance(again, KernelClock)
    assert again.status == clock.status


def test_numbers_are_given_in_seconds() -> None:
    timex = timex_structure(ctypes.c_long)(maxerror=12_500, status=Status.PLL | Status.INS)
    assert kernel_clock(timex, timesyncd=False) == KernelClock(
        status=Status.PLL | Status.INS,
        max_error_s=0.0125,
        timesyncd=False,
    )


@pytest.mark.parametrize(
    ("status", "synchronised", "pulse", "leap"),
    [
        (Status.UNSYNC, False, False, "none"),
        (Status.PLL, True, False, "none"),
        (Status.PLL | Status.DEL, True, False, "delete"),
        (Status.PLL | Status.PPSSIGNAL, True, False, "none"),
        (Status.PLL | Status.PPSTIME | Status.PPSSIGNAL | Status.INS, True, True, "insert"),
    ],
)
def test_the_status_says_who_steers(status: Status, synchronised: bool, pulse: bool, leap: str) -> None:
    clock = kernel_clock(timex_structure(ctypes.c_long)(status=status), timesyncd=False)
    assert (clock.synchronised, clock.steered_by_pulse, clock.leap) == (synchronised, pulse, leap)


def test_timesyncd_is_recognised_by_its_marker(tmp_path: Path) -> None:
    marker = tmp_path / "synchronized"
    before = ask_kernel(marker)
    marker.touch()
    after = ask_kernel(marker)
    assert isinstance(before, KernelClock)
    assert isinstance(after, KernelClock)
    assert (before.timesyncd, after.timesyncd) == (False, True)


def test_the_maximum_error_tells_how_long_the_clock_was_left_alone() -> None:
    assert kernel_clock(timex_structure(ctypes.c_long)(maxerror=32_000), timesyncd=True).unattended_s == 64.0
