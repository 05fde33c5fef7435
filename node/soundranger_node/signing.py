"""Signing: a node's own key, and how it signs a detection so that nobody can change one unseen.

A signature is the last member of the detection's JSON. What is signed (Ed25519) are the bytes of the payload with
`,"signature":"..."` taken out again: whoever has the payload as it was sent needs nothing else to check it.
"""

import base64
import binascii
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import msgspec
from nacl.exceptions import CryptoError
from nacl.signing import SigningKey, VerifyKey

from soundranger_node.errors import InputError, MessageError
from soundranger_node.messages import MAX_NODE_PAYLOAD

# "signed": by this key. "unsigned": it carries no signature. "wrong": it carries one that is not of these bytes and
# this key.
Verdict = Literal["signed", "unsigned", "wrong"]

# Where a node keeps its key, beside the outbox.
KEY_FILE: Final = "signing.key"
# 64 bytes in base64, as the end of an object of JSON.
SIGNATURE: Final = re.compile(rb',"signature":"([A-Za-z0-9+/]{86}==)"\}\Z')
SEED_BYTES: Final = 32
OWNER_ONLY: Final = 0o600


def sign(payload: bytes, key: SigningKey) -> bytes:
    """Return the payload of an unsigned detection with its signature in it.

    Raises:
        MessageError: it becomes too large, is no object of JSON, or holds a signature already.
    """
    if not payload.endswith(b"}") or _carries_one(payload):
        raise MessageError("Detection", "cannot be signed: it is no object, or holds a signature already")
    signature = base64.b64encode(key.sign(payload).signature)
    signed = payload[:-1] + b',"signature":"' + signature + b'"}'
    if len(signed) > MAX_NODE_PAYLOAD:
        raise MessageError("Detection", f"of {len(signed)} bytes with its signature is over {MAX_NODE_PAYLOAD}")
    return signed


def check(payload: bytes, public_key: str) -> Verdict:
    """Say whether a detection's payload is as the owner of a public key (base64) signed it."""
    found = SIGNATURE.search(payload)
    if found is None:
        # A signature of another form, or at another place, is none of ours.
        return "wrong" if _carries_one(payload) else "unsigned"
    try:
        signature = base64.b64decode(found[1], validate=True)
        key = VerifyKey(base64.b64decode(public_key, validate=True))
        key.verify(payload[: found.start()] + b"}", signature)
    except (CryptoError, ValueError, TypeError):
        return "wrong"
    # Four bits of the last letter say nothing: with them changed, these would be other bytes than were sent.
    return "signed" if base64.b64encode(signature) == found[1] else "wrong"


class _Member(msgspec.Struct):
    signature: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def _carries_one(payload: bytes) -> bool:
    """Return whether there is a signature in an object of JSON, whatever its form; of what is none, no."""
    try:
        return msgspec.json.decode(payload, type=_Member).signature is not msgspec.UNSET
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def public_key(key: SigningKey) -> str:
    """Return the public half of a key, base64."""
    return base64.b64encode(bytes(key.verify_key)).decode()


def node_key(path: Path) -> SigningKey:
    """Return the key in a file, which is made where there is none: whole or not at all, for its owner's eyes only.

    Raises:
        InputError: the file is damaged, or can be neither read nor made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        text = path.read_bytes()
    except OSError as error:
        raise InputError(
            str(path), f"the node's key can be neither read nor made ({error.strerror})", "let this user write there"
        ) from None
    try:
        return SigningKey(base64.b64decode(text.strip(), validate=True))
    except (binascii.Error, ValueError, CryptoError):
        raise InputError(
            str(path),
            "does not hold the node's key any more",
            "put it back from a copy, or delete it and tell who runs the middle that the node has a new key",
        ) from None


def _make(path: Path) -> None:
    """Write a new key; where another process was faster, its key stays."""
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(SEED_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        # Unlike a renaming, a link never replaces what is there.
        with suppress(FileExistsError):
            os.link(unfinished, path)
        _settle(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def _settle(folder: Path) -> None:
    """Have the folder's new entry on disk, so that a power cut does not take back a key that was used."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
