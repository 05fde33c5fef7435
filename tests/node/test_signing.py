"""Signatures: what a node signed is known as such, what anybody changed is not, and a node's key stays its key."""

import base64
import stat
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from soundranger_node.errors import InputError, MessageError
from soundranger_node.messages import DETECTION, MAX_NODE_PAYLOAD, Detection
from soundranger_node.signing import check, node_key, public_key, sign

KEY = SigningKey(bytes(32))
PUBLIC = public_key(KEY)
OTHER = public_key(SigningKey(bytes(31) + b"\1"))


def a_detection(**changes: Any) -> Detection:
    detection = Detection(
        id="roof-1",
        node="roof",
        time_ns=1_767_225_600_000_000_000,
        time_sigma_s=1e-3,
        lat=48.137,
        lon=11.575,
        alt_m=500.0,
        position_sigma_m=1.0,
        snr_db=20.0,
    )
    return msgspec.structs.replace(detection, **changes)


PAYLOAD = DETECTION.encode(a_detection())
SIGNED = sign(PAYLOAD, KEY)

detections = st.builds(
    a_detection,
    id=st.from_regex(r"\A[A-Za-z0-9._:-]{1,128}\Z"),
    lat=st.floats(-90, 90),
    snr_db=st.floats(-400, 400),
    clipped=st.none() | st.integers(0, 2**53 - 1),
    features=st.none()
    | st.dictionaries(
        st.just("signature") | st.text(st.characters(codec="utf-8"), min_size=1, max_size=64), st.floats(-1e12, 1e12)
    ),
)
seeds = st.binary(min_size=32, max_size=32)


@given(detections, seeds)
def test_what_a_key_signed_is_signed_by_it_and_by_no_other(detection: Detection, seed: bytes) -> None:
    key, payload = SigningKey(seed), DETECTION.encode(detection)
    signed = sign(payload, key)
    assert check(signed, public_key(key)) == "signed"
    assert check(payload, public_key(key)) == "unsigned"
    assert check(signed, public_key(SigningKey(bytes(32 - len(b"other")) + b"other"))) == "wrong"


@given(detections)
def test_a_signed_detection_is_the_same_message_with_the_signature_last(detection: Detection) -> None:
    payload = DETECTION.encode(detection)
    read = DETECTION.decode(sign(payload, KEY))
    assert read.signature is not None
    assert msgspec.structs.replace(read, signature=None) == detection
    assert sign(payload, KEY).replace(f',"signature":"{read.signature}"'.encode(), b"") == payload


@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
def test_no_byte_can_be_changed_unseen(position: int, change: int) -> None:
    changed = bytearray(SIGNED)
    changed[position] ^= change
    assert check(bytes(changed), PUBLIC) != "signed"


@pytest.mark.parametrize("letter", b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
def test_not_even_the_bits_of_a_signature_that_say_nothing(letter: int) -> None:
    changed = bytearray(SIGNED)
    changed[-5] = letter
    assert (check(bytes(changed), PUBLIC) == "signed") == (bytes(changed) == SIGNED)


@given(st.integers(0, len(SIGNED) - 1), st.binary(min_size=1, max_size=5))
def test_nothing_can_be_put_in_or_left_out_unseen(position: int, more: bytes) -> None:
    assert check(SIGNED[:position] + more + SIGNED[position:], PUBLIC) != "signed"
    assert check(SIGNED[:position] + SIGNED[position + 1 :], PUBLIC) != "signed"


@pytest.mark.parametrize("key", ["", "no base64", OTHER, base64.b64encode(bytes(31)).decode(), PUBLIC + "=", "é"])
def test_a_key_that_is_none_or_another_confirms_nothing(key: str) -> None:
    assert check(SIGNED, key) == "wrong"


@pytest.mark.parametrize(
    "payload",
    [
        PAYLOAD[:-1] + b',"signature":"none of ours"}',
        b'{"signature":"' + base64.b64encode(bytes(64)) + b'",' + PAYLOAD[1:],
        SIGNED[:-1] + b',"snr_db":30}',
        SIGNED + b" ",
    ],
)
def test_a_signature_that_is_not_the_last_member_or_none_at_all_is_wrong(payload: bytes) -> None:
    assert check(payload, PUBLIC) == "wrong"


@given(st.binary(max_size=300), st.binary(max_size=40))
def test_garbage_is_never_signed_and_never_a_crash(payload: bytes, key: bytes) -> None:
    assert check(payload, key.decode("latin-1")) != "signed"
    assert check(payload + SIGNED[-105:], PUBLIC) != "signed"


def test_what_is_signed_already_or_no_object_or_too_large_is_refused() -> None:
    for payload in (SIGNED, b"[1]", b"", PAYLOAD[:-1] + b',"more":"' + bytes(MAX_NODE_PAYLOAD) + b'"}'):
        with pytest.raises(MessageError):
            sign(payload, KEY)


def test_a_key_is_made_once_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "signing.key"
    made = node_key(path)
    assert node_key(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert node_key(tmp_path / "other.key") != made


def test_of_several_that_start_at_once_all_have_the_same_key(tmp_path: Path) -> None:
    found: list[SigningKey] = []
    threads = [threading.Thread(target=lambda: found.append(node_key(tmp_path / "signing.key"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert all(key == found[0] for key in found)


@pytest.mark.parametrize("content", [b"", b"\0" * 45, b"AAAA\n", base64.b64encode(bytes(64)), b"\xff\xfe"])
def test_a_damaged_key_is_one_sentence_and_never_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "signing.key"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"signing\.key: does not hold the node's key any more; put it back") as raised:
        node_key(path)
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == content


def test_a_key_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="neither read nor made"):
        node_key(tmp_path / "file" / "signing.key")
