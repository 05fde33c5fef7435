"""The bus of a sound card is told from ALSA's list of cards."""

import pytest

from soundranger_node.timekeeping.bus import frame_s

CARDS = """\
 0 [Headphones     ]: bcm2835_headpho - bcm2835 Headphones
                      bcm2835 Headphones
 1 [Device         ]: USB-Audio - USB PnP Sound Device
                      C-Media Electronics Inc. USB PnP Sound Device at usb-3f980000.usb-1.2, full speed
 2 [sndrpii2scard  ]: RPi-simple - snd_rpi_i2s_card
                      snd_rpi_i2s_card
10 [U24            ]: USB-Audio - ESI U24 XL
                      ESI U24 XL at usb-0000:01:00.0-1.4, high speed
"""


@pytest.mark.parametrize(
    ("name", "expected_s"),
    [
        ("USB PnP Sound Device: Audio (hw:1,0)", 1e-3),
        ("ESI U24 XL: USB Audio (hw:10,0)", 125e-6),
        ("snd_rpi_i2s_card: simple (hw:2,0)", 0.0),
        ("another (hw:3,0)", 1e-3),
        ("pulse", 1e-3),
    ],
)
def test_the_frame_of_a_card_is_known_by_its_speed(name: str, expected_s: float) -> None:
    assert frame_s(name, CARDS) == expected_s


def test_without_a_list_the_longest_frame_is_assumed() -> None:
    assert frame_s("USB PnP Sound Device: Audio (hw:1,0)", "--- no soundcards ---\n") == 1e-3
