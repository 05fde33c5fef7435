"""The measures of one impulse: its onset, level, length and features, from the samples around its trigger."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from soundranger_node.blocks import Samples
from soundranger_node.echo import around_onset
from soundranger_node.features import features
from soundranger_node.filters import highpass, highpass_reach
from soundranger_node.noise import decibels, energy
from soundranger_node.onset import pick_onset
from soundranger_node.trigger import LEVEL_HOPS, Trigger, hop_energies, hop_samples, means

# The loudest of an impulse comes within this of its trigger; what is louder later is an echo.
LOUDEST_HOPS = 20
# An impulse lasts until it has fallen this far below its loudest.
DURATION_FALL_DB = 10.0
# Full scale of 8-bit mu-law, which real sensors use, is 0.9804; of 16 bits 0.99997.
CLIPPED = 0.98
# What no muzzle blast is like. A Friedlander wave of 0.4 ms, of a small pistol, has its centroid at 2.0 kHz, sampled at
# 48 kHz, where air has not dulled it; longer ones lower (real ones at 50-660 m: up to 1 kHz), shock waves of bullets
# higher. 4 in 5 real blasts are loudest within 6 ms, voices later; 99 in 100 have fallen by 10 dB in 75 ms.
BLAST_CENTROID_HZ = 2300.0
BLAST_ATTACK_S = 0.006
BLAST_S = 0.075
# A click that is fainter than this is a drop or the microphone's own: air takes the highs of a far shot first.
CLICK_SNR_DB = 20.0
# A step of the offset (a plug, a switch, a converter that wakes) explains nearly all of the sound within 4 ms of it.
STEP_SHARE = 0.9
# Of a step, more than this is still there 4 to 12 ms later, also where a sound card takes offsets away within 20 ms;
# of a blast whose positive phase lasts 10 ms (rifles: 1 to 5) a tenth is.
STEP_STAYS = 0.5


@dataclass(frozen=True)
class Impulse:
    """One loud impulse. `onset_sample` is a count of samples of the stream, with a fraction.

    `snr_db` is its loudest 3 ms over the noise, `peak_dbfs` its largest sample; `clipped` counts samples at full
    scale; `rise_s` is from the onset to the first peak, `duration_s` until it is 10 dB below its loudest (at most
    what was listened to, 100 ms); `features` are those of docs/features.md.
    """

    onset_sample: float
    onset_sigma_s: float
    snr_db: float
    peak_dbfs: float
    clipped: int
    rise_s: float
    duration_s: float
    features: dict[str, float]

    @property
    def like_blast(self) -> bool:
        """Whether it could be a muzzle blast, or an echo of one: sudden, no click, and not drawn out."""
        return not self.is_click and self.features["attack_s"] < BLAST_ATTACK_S and self.duration_s < BLAST_S

    @property
    def faint_click(self) -> bool:
        """Whether it is too faint for a sound of so many high frequencies to come from afar."""
        return self.is_click and self.snr_db < CLICK_SNR_DB

    @property
    def is_click(self) -> bool:
        """Whether it is too high for a muzzle blast: a drop, a tap on the microphone, the shock wave of a bullet."""
        return self.features.get("centroid_hz", 0.0) >= BLAST_CENTROID_HZ

    def with_features(self, more: dict[str, float]) -> "Impulse":
        """Return the same impulse with more features; all of them to four digits."""
        return replace(self, features={name: float(f"{number:.4g}") for name, number in (self.features | more).items()})


def measure(
    samples: Samples, start: int, trigger: Trigger, louder: Trigger | None, sample_rate_hz: float
) -> tuple[Impulse, Samples]:
    """Return an impulse, and its high-passed sound around the onset for `soundranger_node.echo`.

    `samples` has shape (n,) and should reach from 20 ms before the trigger to 100 ms after it; `start` is where in the
    stream it begins. `louder` is the next trigger, where it is so near that it could be taken for this one.
    """
    hop = hop_samples(sample_rate_hz)
    at = trigger.sample - start
    loudest_hops = LOUDEST_HOPS if louder is None else (louder.sample - trigger.sample - louder.lead) // hop
    onset = pick_onset(samples, at, trigger.lead, sample_rate_hz)
    first = int(onset.sample)
    sound = _highpassed(samples, sample_rate_hz)
    spread = highpass_reach(sample_rate_hz)
    quiet = sound[: max(first - spread, 0)]
    level = means(hop_energies(sound[first:], hop), LEVEL_HOPS)
    loudest = int(np.argmax(level[: max(loudest_hops, 1)]))
    fallen = np.flatnonzero(level[loudest:] < level[loudest] * energy(-DURATION_FALL_DB))
    offset = float(samples[:first].mean()) if first else 0.0
    blast = samples[first : max(at + loudest_hops * hop, first + hop)]
    impulse = Impulse(
        onset_sample=start + onset.sample,
        onset_sigma_s=onset.sigma_s,
        snr_db=decibels(float(level[loudest])) - trigger.noise_db,
        peak_dbfs=decibels(float(np.max(np.square(blast - offset)))),
        clipped=int(np.count_nonzero(np.abs(samples[first:]) >= CLIPPED)),
        rise_s=onset.rise_s,
        duration_s=(loudest + int(fallen[0]) if len(fallen) else len(level)) * hop / sample_rate_hz,
        features={
            # From where the filter spreads the onset to: a cut in the midst of the sound would add a click.
            **features(sound[len(quiet) :], quiet, sample_rate_hz),
            "attack_s": loudest * hop / sample_rate_hz,
            "noise_dbfs": trigger.noise_db,
            "before_dbfs": decibels(float(np.square(quiet).mean())) if len(quiet) else trigger.noise_db,
        },
    )
    return impulse, around_onset(sound, first, sample_rate_hz)


def is_step(samples: Samples, trigger: int, sample_rate_hz: float) -> bool:
    """Return whether a step of the offset explains what set off a trigger; `trigger` is an index into the samples."""
    spread = highpass_reach(sample_rate_hz)
    start = max(trigger - 3 * spread, 0)
    near, trigger = samples[start : trigger + 3 * spread], trigger - start
    first = max(trigger - spread, 0)
    change = np.abs(np.diff(near[first : trigger + spread]))
    if not len(change):
        return False
    jump = first + 1 + int(np.argmax(change))
    around = slice(max(jump - spread, 0), jump + spread)
    step = _highpassed((np.arange(len(near)) >= jump).astype(np.float32), sample_rate_hz)[around]
    sound = _highpassed(near, sample_rate_hz)[around]
    if float(step @ sound) ** 2 <= STEP_SHARE * float(step @ step) * float(sound @ sound):
        return False
    # Nearby, a muzzle blast begins like a step, too; but it is over in milliseconds.
    height = float(near[jump]) - float(near[jump - 1])
    stays = float(np.median(near[min(jump + spread, len(near) - 1) :])) - float(np.median(near[:jump]))
    return stays / height > STEP_STAYS


def _highpassed(samples: Samples, sample_rate_hz: float) -> NDArray[np.float64]:
    """Return the samples without their low frequencies, as many as they were."""
    reach = highpass_reach(sample_rate_hz)
    # np.pad does the same ten times as slowly.
    padded = np.concatenate((np.full(reach, samples[0]), samples, np.full(reach, samples[-1])))
    return highpass(padded, sample_rate_hz).astype(np.float64)
