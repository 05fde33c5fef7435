"""The bus that a sound card is on, from what ALSA lists: how long its frames are, which its blocks wait for."""

import re

FULL_SPEED_FRAME_S = 1e-3
# Microframes; faster USB has them too.
HIGH_SPEED_FRAME_S = 125e-6
# PortAudio ends the names of ALSA's hardware with the card's number.
_HARDWARE = re.compile(r"\(hw:(\d+),\d+\)")
# A card takes two lines: number, identifier, driver and name; then its long name, which for USB ends with the speed.
_CARD = re.compile(r"^ *(\d+) \[[^\]]*\]: *(\S+) - .*\n *(.*)$", re.MULTILINE)


def frame_s(device_name: str, cards: str) -> float:
    """Return the frame of the bus that a device is on, seconds: 0 where it has none, the longest where nobody knows.

    `device_name` is PortAudio's, such as "USB Device: Audio (hw:1,0)"; `cards` is the text of /proc/asound/cards.
    """
    hardware = _HARDWARE.search(device_name)
    if hardware is None:
        return FULL_SPEED_FRAME_S
    for number, driver, long_name in _CARD.findall(cards):
        if number == hardware[1]:
            if driver != "USB-Audio":
                return 0.0
            return FULL_SPEED_FRAME_S if long_name.endswith("full speed") else HIGH_SPEED_FRAME_S
    return FULL_SPEED_FRAME_S
