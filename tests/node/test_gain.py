"""What changes the sound on its way here is found by its name, and switched off."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundranger_node.gain import Processing, find, in_controls, in_sources, mixer_of

if TYPE_CHECKING:
    from tests.conftest import Pulse

# A USB sound card with a C-Media CM108, the most usual one on a Pi.
CMEDIA = """\
numid=2,iface=PCM,name='Capture Channel Map'
  ; type=INTEGER,access=r----R--,values=1,min=0,max=36,step=0
  : values=0
  | container
    | chmap-fixed=MONO
numid=7,iface=MIXER,name='Mic Capture Switch'
  ; type=BOOLEAN,access=rw------,values=1
  : values=on
numid=8,iface=MIXER,name='Mic Capture Volume'
  ; type=INTEGER,access=rw---R--,values=1,min=0,max=35,step=0
  : values=18
  | dBminmax-min=-12.00dB,max=23.00dB
numid=9,iface=MIXER,name='Auto Gain Control'
  ; type=BOOLEAN,access=rw------,values=1
  : values=on
"""
# The Wolfson WM8960 of two-microphone HATs, its gain control on.
WM8960 = """\
numid=1,iface=MIXER,name='Capture Volume'
  ; type=INTEGER,access=rw---R--,values=2,min=0,max=63,step=0
  : values=34,34
  | dBscale-min=-17.25dB,step=0.75dB,mute=0
numid=19,iface=MIXER,name='ADC High Pass Filter Switch'
  ; type=BOOLEAN,access=rw------,values=1
  : values=on
numid=26,iface=MIXER,name='ALC Function'
  ; type=ENUMERATED,access=rw------,values=1,items=4
  ; Item #0 'Off'
  ; Item #1 'Right'
  ; Item #2 'Left'
  ; Item #3 'Stereo'
  : values=3
numid=27,iface=MIXER,name='ALC Max Gain'
  ; type=INTEGER,access=rw------,values=1,min=0,max=7,step=0
  : values=4
numid=31,iface=MIXER,name='ALC Mode'
  ; type=ENUMERATED,access=rw------,values=1,items=2
  ; Item #0 'ALC'
  ; Item #1 'Limiter'
  : values=1
numid=34,iface=MIXER,name='Noise Gate Threshold'
  ; type=INTEGER,access=rw------,values=1,min=0,max=31,step=0
  : values=25
numid=35,iface=MIXER,name='Noise Gate Switch'
  ; type=BOOLEAN,access=rw------,values=1
  : values=on
"""
# A laptop's codec, and an amplifier that limits what a loudspeaker gets.
LOUDSPEAKERS = """\
numid=20,iface=MIXER,name='Auto-Mute Mode'
  ; type=ENUMERATED,access=rw------,values=1,items=2
  ; Item #0 'Disabled'
  ; Item #1 'Enabled'
  : values=1
numid=21,iface=MIXER,name='Mic Boost Volume'
  ; type=INTEGER,access=rw---R--,values=2,min=0,max=3,step=0
  : values=3,3
numid=22,iface=MIXER,name='Speaker Limiter Switch'
  ; type=BOOLEAN,access=rw------,values=1
  : values=on
numid=23,iface=MIXER,name='DAC DRC Switch'
  ; type=BOOLEAN,access=rw------,values=1
  : values=on
"""
ECHO_CANCELLER = """\
Source #1
\tState: IDLE
\tName: mic
\tDescription: Built-in Audio
\tDriver: module-alsa-card.c
\tOwner Module: 2

Source #2
\tState: IDLE
\tName: quiet
\tDescription: Built-in Audio (echo cancelled with Built-in Audio)
\tDriver: module-echo-cancel.c
\tOwner Module: 3
"""
# PipeWire's filter chain with RNNoise, by its configuration.
RNNOISE = """\
Source #57
\tState: SUSPENDED
\tName: effect_output.rnnoise
\tDescription: Noise Canceling source
\tDriver: PipeWire
\tOwner Module: 4294967295
"""
FIND = """
import json, sys
from soundranger_node.errors import AudioError
from soundranger_node.gain import settle
for wanted in ("accept", "refuse", "off", "refuse"):
    try:
        print(json.dumps(settle("usbmic", wanted)))
    except AudioError as error:
        print(json.dumps(str(error)))
"""
# A mixer whose one more control, "Auto Gain Control", is the mute of the sound server's microphone under that name.
ASOUNDRC = """
pcm.usbmic { type pulse }
ctl.usbmic {
  type remap
  child pulse
  map { "iface=MIXER,name='Auto Gain Control'" { "iface=MIXER,name='Capture Switch'" { vindex.0 0 } } }
}
"""


def command(found: list[Processing]) -> list[str]:
    return [" ".join(one.off or ("?",)) for one in found]


def test_the_gain_control_of_a_usb_card_is_found_with_the_command_that_switches_it_off() -> None:
    found = in_controls(CMEDIA, mixer_of("USB PnP Sound Device: Audio (hw:1,0)"))
    assert [str(one) for one in found] == [
        "Auto Gain Control is on; off: amixer -c 1 cset 'iface=MIXER,name=Auto Gain Control' off"
    ]


def test_what_is_off_is_not_found() -> None:
    assert in_controls(CMEDIA.replace("values=on", "values=off"), ()) == []
    assert in_controls(CMEDIA.replace("values=1\n  : values=on", "values=2\n  : values=off,off"), ()) == []


def test_a_control_that_is_on_for_one_of_two_channels_is_on() -> None:
    assert len(in_controls(CMEDIA.replace(": values=on", ": values=off,on"), ())) == 1


def test_of_a_codec_only_the_switches_count_and_not_its_thresholds_or_its_offset_filter() -> None:
    assert command(in_controls(WM8960, ("-c", "2"))) == [
        "amixer -c 2 cset iface=MIXER,name=ALC Function 0",
        "amixer -c 2 cset iface=MIXER,name=Noise Gate Switch off",
    ]


def test_what_is_done_for_loudspeakers_and_a_fixed_boost_are_no_processing() -> None:
    assert in_controls(LOUDSPEAKERS, ()) == []


@pytest.mark.parametrize(
    "name",
    [
        "AGC Switch",
        "Mic AGC",
        "Automatic Gain Control Capture Switch",
        "ALC Capture Switch",
        "Capture Noise Suppression",
        "Noise Reduction Switch",
        "Echo Cancellation",
        "ADC DRC Switch",
        "Dynamic Range Compression",
        "Capture Limiter",
        "Mic Low Cut",
        "Wind Noise Filter Switch",
    ],
)
def test_processing_has_many_names(name: str) -> None:
    assert [one.name for one in in_controls(CMEDIA.replace("Auto Gain Control", name), ())] == [name]


def test_the_second_of_two_controls_of_a_name_is_told_apart() -> None:
    second = CMEDIA.replace("'Auto Gain Control'", "'Auto Gain Control',index=1")
    assert command(in_controls(second, ())) == ["amixer cset iface=MIXER,name=Auto Gain Control,index=1 off"]


def test_a_control_that_may_only_be_read_comes_without_a_command() -> None:
    found = in_controls(CMEDIA.replace("access=rw", "access=r-"), ())
    assert found == [Processing("Auto Gain Control", None)]
    assert str(found[0]) == "Auto Gain Control is on"


def test_an_input_of_hardware_has_the_mixer_of_its_card_and_any_other_one_of_its_own_name() -> None:
    assert mixer_of("USB PnP Sound Device: Audio (hw:1,0)") == ("-c", "1")
    assert mixer_of("sysdefault") == ("-D", "sysdefault")


def test_an_echo_canceller_in_front_of_the_microphone_is_found_where_it_is_listened_to() -> None:
    assert in_sources(ECHO_CANCELLER, "mic") == []
    assert [str(one) for one in in_sources(ECHO_CANCELLER, "quiet")] == [
        "Built-in Audio (echo cancelled with Built-in Audio) (quiet) is on; off: pactl unload-module 3"
    ]


def test_what_a_sound_server_does_by_its_own_configuration_comes_without_a_command() -> None:
    name = "Noise Canceling source (effect_output.rnnoise)"
    assert in_sources(RNNOISE, "effect_output.rnnoise") == [Processing(name, None)]


@given(st.text(), st.text())
def test_whatever_the_programs_print_is_no_error(one: str, other: str) -> None:
    for text in (one, CMEDIA + one, one + "\nnumid=" + other, "Source #" + one):
        in_controls(text, ())
        in_sources(text, other)


def test_where_the_programs_are_missing_nothing_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find("default") == []


@pytest.fixture
def usbmic(pulse: "Pulse", tmp_path: Path) -> "Pulse":
    """A sound server behind an ALSA device with a gain control."""
    if shutil.which("amixer") is None:
        pytest.skip("alsa-utils is not installed")
    (tmp_path / ".asoundrc").write_text(ASOUNDRC)
    pulse.start()
    return pulse


@pytest.mark.slow
def test_gain_control_is_told_refused_or_switched_off_by_the_real_amixer(usbmic: "Pulse") -> None:
    with usbmic.python(FIND) as process:
        accepted, refused, switched_off, nothing_to_refuse = map(json.loads, process.communicate()[0].splitlines())
    how = "amixer -D usbmic cset 'iface=MIXER,name=Auto Gain Control' off"
    assert accepted == [f"Auto Gain Control is on; off: {how}"]
    assert refused == f"microphone usbmic: changes its sound by itself (Auto Gain Control); switch it off: {how}"
    assert switched_off == nothing_to_refuse == []
    assert "Mute: yes" in usbmic.ask("list", "sources")
    assert f"Auto Gain Control changes the sound; switching it off: {how}" in usbmic.complaints


@pytest.mark.slow
def test_a_refused_microphone_ends_the_sound_with_the_command_and_is_listed_with_it(usbmic: "Pulse") -> None:
    code = """
from soundranger_node import cli, errors, soundcard
try:
    list(soundcard.SoundCard("usbmic", 48_000, 1, None, wanted="refuse").blocks())
except errors.AudioError as error:
    print(error)
cli.app(["devices"])
"""
    with usbmic.python(code) as process:
        said = process.communicate()[0]
    how = "amixer -D usbmic cset 'iface=MIXER,name=Auto Gain Control' off"
    assert said.startswith("microphone usbmic: changes its sound by itself (Auto Gain Control); switch it off: " + how)
    assert f"usbmic  (32 channels, 44100 Hz)\n     Auto Gain Control is on; off: {how}\n" in said


@pytest.mark.slow
def test_the_echo_canceller_of_a_real_sound_server_is_found_and_taken_out(pulse: "Pulse") -> None:
    pulse.start(
        "s16le",
        48_000,
        "load-module module-null-source source_name=mic",
        "load-module module-echo-cancel source_master=mic sink_master=room source_name=quiet",
        "set-default-source quiet",
    )
    with pulse.python(FIND.replace("usbmic", "pulse")) as process:
        accepted, refused, switched_off, _ = map(json.loads, process.communicate()[0].splitlines())
    assert accepted == ["Null Input (echo cancelled with Null Output) (quiet) is on; off: pactl unload-module 3"]
    assert refused.endswith("switch it off: pactl unload-module 3")
    assert switched_off == []
    assert "module-echo-cancel" not in pulse.ask("list", "short", "modules")
