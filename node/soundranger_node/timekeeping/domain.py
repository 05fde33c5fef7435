"""Clock domains: which of the computer's clocks a sound card's times are on, and when a block was recorded by ours.

ALSA stamps the blocks of hardware by CLOCK_MONOTONIC, its PulseAudio plug-in by CLOCK_REALTIME, and some drivers by
nothing. The two clocks are decades apart, so one block is enough to tell.
"""

# An ADC time further back than this is no time: a driver that knows none gives zero.
MAX_ADC_DELAY_S = 5.0
# The sound card reads its clock just before the callback; a starved computer may take this long in between.
MAX_CALL_DELAY_S = 1.0
# The two clocks are read one after the other, and real time is rounded to a quarter of a microsecond as a float.
MAX_EARLY_S = 1e-3


# What a sound server thinks its delay to be moved by some 40 ms from start to start of PulseAudio 16.
SERVER_SIGMA_S = 0.025


def driver_sigma_s(current_s: float, monotonic_ns: int, utc_ns: int) -> float:
    """Return how far a driver's idea of its delay may be off: hardware knows it, a sound server's plug-in does not."""
    by_server = abs(utc_ns * 1e-9 - current_s) < abs(monotonic_ns * 1e-9 - current_s)
    return SERVER_SIGMA_S if by_server else 0.0


def recorded_monotonic_ns(adc_s: float, current_s: float, monotonic_ns: int, utc_ns: int, block_s: float) -> int:
    """Return the monotonic time, ns, at which a block's first sample was recorded, as far as the driver knows.

    `adc_s` (of the first sample) and `current_s` (of the call) are on the sound card's clock, seconds; `monotonic_ns`
    and `utc_ns` are CLOCK_MONOTONIC and CLOCK_REALTIME as read in the callback; `block_s` is the block's length. The
    result is never less than a block before the call, whatever the driver says.
    """
    delay_s = current_s - adc_s
    if not 0 <= delay_s <= MAX_ADC_DELAY_S:
        delay_s = block_s
    since_s = min((monotonic_ns * 1e-9 - current_s, utc_ns * 1e-9 - current_s), key=abs)
    # A clock that fits neither is one of the driver's own: its differences count, its reading does not.
    if not -MAX_EARLY_S <= since_s <= MAX_CALL_DELAY_S:
        since_s = 0.0
    return monotonic_ns - round(max(delay_s + since_s, block_s) * 1e9)
