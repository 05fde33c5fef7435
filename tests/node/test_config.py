"""The configuration says what is wrong with it, key by key."""

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundranger_node import config
from soundranger_node.errors import InputError

EXAMPLE = Path(__file__).parents[2] / "node" / "soundranger-node.example.toml"
PLACE = "[place]\nlat = 48.1\nlon = 11.5\nalt_m = 520\n"


def parse(text: str) -> config.Settings:
    return config.parse(text, "raspberrypi", {})


def test_the_example_is_valid_as_it_stands() -> None:
    settings = config.load(EXAMPLE)
    assert settings.place == config.Place(lat=48.13743, lon=11.57549, alt_m=567.0)
    assert settings.microphone == config.Microphone()


def test_every_key_of_the_example_is_known_and_every_known_key_is_in_it() -> None:
    everything = re.sub(r"^# (\w+ = )", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE)
    settings = config.parse(everything, "host", {})
    assert settings.node == "roof-north"
    assert settings.mqtt.cert == "/etc/soundranger/node.pem"
    tables = [settings, *(getattr(settings, name) for name in settings.__struct_fields__ if name != "node")]
    for key in (key for table in tables for key in table.__struct_fields__):
        assert re.search(rf"^(\[{key}\]|{key} = )", everything, flags=re.MULTILINE), key


def test_what_the_file_leaves_out_has_a_default() -> None:
    settings = config.parse(PLACE, "Roof North.local", {"XDG_STATE_HOME": "/home/x/.local/state"})
    assert settings.node == "roof-north"
    assert settings.microphone.sample_rate_hz == 48_000
    assert settings.mqtt.delivery == "ack"
    assert settings.clock.sigma_s == 0.05
    assert settings.outbox.path == Path("/home/x/.local/state/soundranger/outbox.sqlite")
    assert parse(PLACE).outbox.path == Path("/var/lib/soundranger/outbox.sqlite")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[place]\nlatt = 1", r"place\.latt: is not a known key; did you mean place\.lat\?"),
        (PLACE + "[mqtt]\nusername = 'a'", r"mqtt\.username: is not a known key; did you mean mqtt\.user\?"),
        (PLACE + "[mqttt]\nhost = 'a'", r"mqttt: is not a known key; did you mean mqtt\?"),
        (PLACE + "[clock]\nzzz = 1", r"clock\.zzz: is not a known key; known here: source, sigma_s, "),
        ("", r"place: is missing; soundranger-node\.example\.toml explains every key"),
        ("[place]\nlat = 1", r"place\.lon: is missing"),
        ("[place]\nsource = 'gpsd'\nlat = 1", r"place\.lat: does not go with place\.source = \"gpsd\"; leave one"),
        ("[place]\nlat = 91\nlon = 0\nalt_m = 0", r"place\.lat: .*<= 90"),
        ("[place]\nlat = nan\nlon = 0\nalt_m = 0", r"place\.lat: "),
        ("place = 3", r"place: has a value that cannot be used"),
        ("outbox = 3\n" + PLACE, r"outbox: has a value that cannot be used"),
        (PLACE + "[outbox]\npath = 3", r"outbox\.path: has a value that cannot be used"),
        ("node = 'Roof North'\n" + PLACE, r"node: has a value that cannot be used"),
        (PLACE + "[mqtt]\ndelivery = 'never'", r"mqtt\.delivery: "),
        (PLACE + "[mqtt]\nport = 0", r"mqtt\.port: "),
        (PLACE + "[microphone]\nsample_rate_hz = 44.1", r"microphone\.sample_rate_hz: "),
        ("[place", r"the file: is not valid TOML"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        parse(text)


def test_the_sentence_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    with pytest.raises(InputError, match=r"node\.toml: cannot be read .*; start from"):
        config.load(path)
    path.write_text("[place]\nlatt = 1")
    with pytest.raises(InputError, match=r"node\.toml: place\.latt is not a known key; did you mean"):
        config.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"node\.toml: cannot be read"):
        config.load(path)


@given(st.text())
def test_every_host_name_becomes_a_valid_node_name(hostname: str) -> None:
    assert re.fullmatch(r"[a-z0-9-]{1,64}", config.node_name(hostname))


@given(st.text(alphabet="[]=\"'abclatlonmqtt.\n 0123#-"))
def test_no_text_at_all_raises_anything_but_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        parse(text)
