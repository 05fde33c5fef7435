"""Gain control, noise suppression and the like, by a sound card or a sound server: found, and switched off.

A sound card's are controls of its ALSA mixer, named by its driver after what they are for (Linux: Documentation/sound/
designs/control-names.rst); a sound server's are sources of their own in front of the microphone.
"""

import logging
import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from soundranger_node.errors import AudioError

Wanted = Literal["off", "refuse", "accept"]

# What changes loudness with the sound, or takes parts of it away. Not a converter's high-pass, which only takes away
# its offset, and not a boost, which stays as it is.
_PROCESSING = re.compile(
    r"\b(auto(matic)?[ -]?(gain|level)|agc|alc\b|noise[ -]?(gate|suppress|reduc|cancel)|echo[ -]?cancel|aec\b"
    r"|drc\b|dynamic[ -]range|limiter|compressor|low[ -]?cut|wind\b)",
    re.IGNORECASE,
)
# What has these in its name is about loudspeakers, or about when a control takes effect.
_HARMLESS = re.compile(r"playback|speaker|headphone|dac\b|hdmi|line out|master|\bzc\b|zero cross", re.IGNORECASE)
_OFF = ("off", "disabled", "disable", "none", "bypass")
_SOURCE_PROCESSING = re.compile(r"echo[-_. ]?cancel|noise|denois|effect|filter-chain", re.IGNORECASE)
# PipeWire's pulse server gives a source that its own configuration made this module: no module.
_NO_MODULE = 2**32 - 1
# Both programs answer at once; a sound server that hangs does not.
_ANSWER_S = 5.0

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Processing:
    """Something that changes the sound on its way here, and the command that ends it; none where none is known."""

    name: str
    off: tuple[str, ...] | None

    def __str__(self) -> str:
        return f"{self.name} is on" + (f"; off: {shlex.join(self.off)}" if self.off else "")


def settle(device_name: str, wanted: Wanted) -> list[str]:
    """Switch off what processes the sound of an input, as PortAudio names it, where that is `wanted`.

    Return a sentence on each that is still on, with the command that switches it off.

    Raises:
        AudioError: there is some, and it is to be refused.
    """
    found = find(device_name)
    if found and wanted == "refuse":
        names = ", ".join(one.name for one in found)
        commands = " && ".join(shlex.join(one.off) for one in found if one.off)
        remedy = f"switch it off: {commands}" if commands else "take another microphone"
        raise AudioError(f"microphone {device_name}", f"changes its sound by itself ({names})", remedy)
    if found and wanted == "off":
        for one in found:
            _switch_off(one)
        found = find(device_name)
        for one in found:
            _LOG.error("%s still changes the sound", one.name)
    return [str(one) for one in found]


def find(device_name: str) -> list[Processing]:
    """Return what processes the sound of an input; nothing where neither `amixer` nor `pactl` can tell."""
    mixer = mixer_of(device_name)
    found = in_controls(_output("amixer", *mixer, "contents"), mixer)
    if "-c" not in mixer:
        source = re.search(r"^Default Source: (.+)$", _output("pactl", "info"), re.MULTILINE)
        found += in_sources(_output("pactl", "list", "sources"), source[1]) if source else []
    return found


def mixer_of(device_name: str) -> tuple[str, ...]:
    """Return the options that make `amixer` talk to the mixer of an input, as PortAudio names it."""
    card = re.search(r"\(hw:(\d+),\d+\)", device_name)
    return ("-c", card[1]) if card else ("-D", device_name)


def in_controls(contents: str, mixer: Sequence[str]) -> list[Processing]:
    """Return what is on in the output of `amixer contents`; `mixer` are the options that it was called with."""
    elements = re.split(r"^(?=numid=)", contents, flags=re.MULTILINE)
    return [found for element in elements if (found := _in_control(element, mixer))]


def _in_control(element: str, mixer: Sequence[str]) -> Processing | None:
    """Return the processing that one control stands for, if it is on."""
    head = re.match(r"numid=\d+,(iface=\w+),name='(.+?)'((?:,\w+=\d+)*)$", element, re.MULTILINE)
    values = re.search(r"^  : values=(.*)$", element, re.MULTILINE)
    if not head or not values or not _PROCESSING.search(head[2]) or _HARMLESS.search(head[2]):
        return None
    off = _off_value(element)
    if off is None or set(values[1].split(",")) <= {off}:
        return None
    writable = re.search(r",access=.w", element)
    control = f"{head[1]},name={head[2]}{head[3]}"
    return Processing(head[2], ("amixer", *mixer, "cset", control, off) if writable else None)


def _off_value(element: str) -> str | None:
    """Return the value at which a control is off; a number, such as a gain or a threshold, has none."""
    if "type=BOOLEAN" in element:
        return "off"
    items = re.findall(r"^  ; Item #(\d+) '(.*)'$", element, re.MULTILINE)
    return next((number for number, item in items if item.lower() in _OFF), None)


def in_sources(listing: str, source: str) -> list[Processing]:
    """Return what a source of the sound server does, by the output of `pactl list sources`."""
    sections = re.split(r"^Source #", listing, flags=re.MULTILINE)
    return [_in_source(section) for section in sections if _is_processing(section, source)]


def _is_processing(section: str, source: str) -> bool:
    made_by = " ".join(_field(section, name) for name in ("Name", "Driver", "Description"))
    return _field(section, "Name") == source and bool(_SOURCE_PROCESSING.search(made_by))


def _in_source(section: str) -> Processing:
    module = _field(section, "Owner Module")
    known = module.isdigit() and int(module) != _NO_MODULE
    name = f"{_field(section, 'Description')} ({_field(section, 'Name')})"
    return Processing(name, ("pactl", "unload-module", module) if known else None)


def _field(section: str, name: str) -> str:
    found = re.search(rf"^\t{name}: (.*)$", section, re.MULTILINE)
    return found[1] if found else ""


def _switch_off(processing: Processing) -> None:
    if processing.off is None:
        _LOG.error("%s changes the sound, and how to switch it off is not known", processing.name)
        return
    _LOG.warning("%s changes the sound; switching it off: %s", processing.name, shlex.join(processing.off))
    _output(*processing.off)


def _output(*command: str) -> str:
    """Return what a command prints, in English; nothing where it is missing or fails."""
    try:
        done = subprocess.run(  # noqa: S603 - the two programs that this module is about
            command,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            timeout=_ANSWER_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        _LOG.info("%s: %s", shlex.join(command), error)
        return ""
    return done.stdout.decode(errors="replace")
