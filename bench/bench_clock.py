"""Sample clock: bias, spread and honesty of its dates on simulated cards, at several ages; and what a date costs.

"pull" is the standard deviation of errors over their stated sigmas: 1 where the sigma is the truth, less where it is
larger than need be. Below 17 ppm the saw-tooth of full-speed USB is longer than the window, and looks as straight as
I2S: so unless the bus is known to have no such frames, the sigma holds one.
"""

import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from soundranger_broker.simulation.sound_card import (
    I2S,
    USB_FULL_SPEED,
    USB_FULL_SPEED_SCATTERED,
    USB_HIGH_SPEED,
    USB_HIGH_SPEED_SCATTERED,
    PulseChannel,
    SoundCardModel,
)
from soundranger_node.timekeeping.bus import FULL_SPEED_FRAME_S
from soundranger_node.timekeeping.domain import recorded_monotonic_ns
from soundranger_node.timekeeping.pps import PpsClock
from soundranger_node.timekeeping.quality import ClockQuality
from soundranger_node.timekeeping.sample_clock import SampleClock
from soundranger_node.timekeeping.station_clock import StationClock
from soundranger_node.timekeeping.utc_clock import ClockRead

LAWS = {
    "usb 1 ms saw-tooth": USB_FULL_SPEED,
    "usb 1 ms uniform": USB_FULL_SPEED_SCATTERED,
    "usb 125 us saw-tooth": USB_HIGH_SPEED,
    "usb 125 us uniform": USB_HIGH_SPEED_SCATTERED,
    "i2s exponential": I2S,
}
SEEDS = 30
NS_PER_S = 1e9
RATES_AND_BLOCKS = ((16_000, 160), (44_100, 882), (48_000, 960), (48_000, 2_400))
PPMS = (-100.0, -25.0, 0.0, 10.0, 50.0, 100.0)
# The clock steps and a second later half a second of sound is lost.
STEP_S, LOSS_S = 89.0, 90.0
AGES_S = (1, 5, 20, 60, 89, 92, 96, 111, 151)

# Error and stated sigma of one date, seconds.
Found = tuple[float, float]


def station(card: SoundCardModel) -> StationClock:
    """Return the clock of a node whose system clock is perfect."""
    quality = ClockQuality("ntp", True, 0.0, None, "bench", "")
    read = ClockRead(card.start_ns, card.start_ns + card.utc_offset_ns, 0)
    return StationClock(card.sample_rate_hz, boot="bench", read=read, quality=quality)


def through_capture(card: SoundCardModel, ages_s: Iterable[int]) -> list[Found]:
    """Return error and sigma at each age, in UTC, of a node that is told what a driver tells."""
    clock, lost, found = station(card), 0, []
    waiting = list(ages_s)
    block_s = card.block / card.sample_rate_hz
    read_s = 0.0
    for call in card.callbacks(waiting[-1] + 1.0):
        lost += call.missing
        if call.overflow:
            clock.restart()
        sample, passed_s = call.first + lost, (call.monotonic_ns - card.start_ns) / NS_PER_S
        recorded_ns = recorded_monotonic_ns(call.adc_s, call.current_s, call.monotonic_ns, call.utc_ns, block_s)
        clock.add(sample, recorded_ns)
        if passed_s >= read_s:
            clock.read(ClockRead(call.monotonic_ns, call.utc_ns, 0))
            clock.judge(ClockQuality("ntp", True, 0.0, None, "bench", ""), call.monotonic_ns)
            read_s += 1.0
        if waiting and passed_s >= waiting[0]:
            waiting.pop(0)
            timing = clock.timing(sample)
            true_ns = card.true_monotonic_ns(sample) + card.offset_ns(call.monotonic_ns)
            found.append(((timing.time_ns - true_ns) / NS_PER_S, timing.terms_s["fit"]))
    return found


def after_a_minute(card: SoundCardModel, *, told: bool = False) -> Found:
    """Return error and sigma of a sample clock after 61 s, which may have been told the bus's frame."""
    clock = SampleClock(card.sample_rate_hz, card.lateness.frame_s if told else FULL_SPEED_FRAME_S)
    for sample, time_ns in card.times_ns(61.5):
        clock.add(sample, time_ns)
    monotonic_ns, sigma_s = clock.date(sample)
    return (monotonic_ns - card.true_monotonic_ns(sample)) / NS_PER_S, sigma_s


def by_pulses(channel: PulseChannel) -> Found:
    """Return error and sigma of a clock that hears pulses for 40 s."""
    card = channel.card
    clock = PpsClock(card.sample_rate_hz, lambda sample: card.true_monotonic_ns(sample) + card.utc_offset_ns)
    block = card.sample_rate_hz // 10
    end = 40 * card.sample_rate_hz
    for first in range(0, end, block):
        clock.add(channel.render(first, block), first)
    dated = clock.date(end)
    if dated is None:
        return np.nan, np.nan
    return (dated[0] - card.true_monotonic_ns(end) - card.utc_offset_ns) / NS_PER_S, dated[1]


def row(name: str, found: list[Found]) -> None:
    """Print bias, spread, median sigma and pull, in microseconds."""
    errors, sigmas = np.array(found).T * 1e6
    pulls = errors / sigmas
    print(
        f"{name:45s} {np.mean(errors):9.2f} {np.std(errors):9.2f} {np.median(sigmas):9.2f}"
        f" {np.mean(pulls):7.2f} {np.std(pulls):7.2f}"
    )


def head(title: str) -> None:
    """Print a table's head."""
    print(f"\n{title:45s} {'bias us':>9s} {'sd us':>9s} {'sigma us':>9s} {'mean':>7s} {'pull':>7s}")


def cost() -> None:
    """Print what a block, a fit and a pulse channel's block cost."""
    card = SoundCardModel(USB_FULL_SPEED_SCATTERED, 1, ppm=50.0)
    rows = card.times_ns(125.0)
    clock = SampleClock(card.sample_rate_hz)
    started_s = time.perf_counter()
    for sample, time_ns in rows:
        clock.add(sample, time_ns)
    block_us = (time.perf_counter() - started_s) / len(rows) * 1e6
    fits_s = []
    for second in range(60, 120):
        started_s = time.perf_counter()
        clock.date((second - 30) * card.sample_rate_hz)
        fits_s.append(time.perf_counter() - started_s)
    channel = PulseChannel(card)
    blocks = [(channel.render(first, 960), first) for first in range(0, 10 * 48_000, 960)]
    pulses = PpsClock(card.sample_rate_hz, lambda _: None)
    started_s = time.perf_counter()
    for samples, first in blocks:
        pulses.add(samples, first)
    pulse_us = (time.perf_counter() - started_s) / len(blocks) * 1e6
    print(f"\none block {block_us:.0f} us; one fit, at most one a second, {np.median(fits_s) * 1e3:.1f} ms", end="")
    print(f"; one block of a pulse channel {pulse_us:.0f} us")


def main() -> None:
    """Print the tables."""
    head(f"50 ppm, step at {STEP_S:.0f} s, loss at {LOSS_S:.0f} s; age")
    for name, law in LAWS.items():
        card = SoundCardModel(law, 0, ppm=50.0, steps=((STEP_S, -0.52),), losses=((LOSS_S, 24_000),))
        found = [through_capture(replace(card, seed=seed), AGES_S) for seed in range(SEEDS)]
        for index, age_s in enumerate(AGES_S):
            since = f", {age_s - LOSS_S - 0.5:.0f} s after the loss" if age_s > LOSS_S else ""
            row(f"{name}, {age_s} s{since}", [of_card[index] for of_card in found])
    for wander_ppm, told, ppms in ((0.0, False, PPMS), (1.5, False, (-25.0, 50.0)), (0.0, True, (0.0, 10.0))):
        head(f"after 60 s, wander {wander_ppm} ppm{', frame known' if told else ''}")
        for name, law in LAWS.items():
            for ppm in ppms:
                card = SoundCardModel(law, 0, ppm=ppm, wander_ppm=wander_ppm, wander_period_s=400.0)
                row(
                    f"{name}, {ppm:+.0f} ppm",
                    [after_a_minute(replace(card, seed=seed), told=told) for seed in range(SEEDS)],
                )
    head("after 60 s, 50 ppm; rate and block")
    for name, law in LAWS.items():
        for rate_hz, block in RATES_AND_BLOCKS:
            card = SoundCardModel(law, 0, rate_hz, block, 50.0)
            label = f"{name}, {rate_hz} Hz, {1e3 * block / rate_hz:.0f} ms"
            row(label, [after_a_minute(replace(card, seed=seed)) for seed in range(SEEDS)])
    head("GPS pulses on a second channel, after 40 s")
    for rate_hz in (16_000, 48_000):
        card = SoundCardModel(I2S, 0, rate_hz, ppm=50.0, wander_ppm=1.5, wander_period_s=400.0)
        for label, channel in (
            ("AC-coupled", PulseChannel(card)),
            ("DC-coupled, swapped", PulseChannel(card, level=-0.5, coupling_s=None)),
            ("-34 dB, noise 40 dB below", PulseChannel(card, level=0.02, noise=2e-4)),
        ):
            channels = [replace(channel, card=replace(card, seed=seed)) for seed in range(10)]
            row(f"{label}, {rate_hz} Hz", [by_pulses(each) for each in channels])
    cost()


if __name__ == "__main__":
    main()
