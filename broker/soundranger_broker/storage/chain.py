"""The log's chain: each entry carries the hash of the one before, so that no edit, deletion or new order goes unseen.

That the end of a chain was cut off cannot be seen from what is left: it takes a hash that was noted down elsewhere.
The centre therefore tells its newest one to everybody, every half minute, and each evidence bundle holds one.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

# What the first entry has for the hash of the one before it.
FIRST_PREVIOUS: Final = "0" * 64


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of the log; `body` is JSON, its keys sorted.

    Where the body is nobody's business it is left out, and `withheld` is its SHA-256: the chain holds all the same.
    """

    seq: int
    time_ns: int
    kind: str
    subject: str
    body: str
    previous: str
    hash: str
    withheld: str | None = None

    def is_whole(self) -> bool:
        """Say whether the hash is that of what the entry holds."""
        if self.withheld is not None and self.body:
            return False
        content = sha256(self.body) if self.withheld is None else self.withheld
        return self.hash == hash_of(self.seq, self.time_ns, self.kind, self.subject, content, self.previous)

    def without_body(self) -> "Entry":
        """Return the entry without its body."""
        return msgspec.structs.replace(self, body="", withheld=self.withheld or sha256(self.body))


@dataclass(frozen=True)
class Head:
    """The newest entry: its number and its hash; 0 and zeroes where there is none yet."""

    seq: int = 0
    hash: str = FIRST_PREVIOUS

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


def canonical(body: object) -> str:
    """Return what is to be logged as JSON that is the same everywhere."""
    return msgspec.json.encode(body, order="deterministic").decode()


def sha256(content: bytes | str) -> str:
    """Return the SHA-256 of some bytes, or of a text in UTF-8, in hexadecimal."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def entry_after(head: Head, time_ns: int, kind: str, subject: str, body: object) -> Entry:
    """Return the entry that follows the newest one."""
    seq, text = head.seq + 1, canonical(body)
    return Entry(
        seq=seq,
        time_ns=time_ns,
        kind=kind,
        subject=subject,
        body=text,
        previous=head.hash,
        hash=hash_of(seq, time_ns, kind, subject, sha256(text), head.hash),
    )


def hash_of(seq: int, time_ns: int, kind: str, subject: str, body_sha256: str, previous: str) -> str:
    """Return the hash of an entry: SHA-256 of the JSON array of all that it holds, the hash before it included."""
    return sha256(msgspec.json.encode([seq, time_ns, kind, subject, body_sha256, previous]))


def broken(entries: Iterable[Entry], start: Head | None = None) -> Iterator[str]:
    """Yield a sentence for each place where a chain does not hold; `entries` as they are stored, in order of `seq`."""
    head = start or Head()
    for entry in entries:
        if entry.seq != head.seq + 1:
            yield f"Entry {head.seq + 1} is missing, or the entries up to {entry.seq - 1} are."
        elif entry.previous != head.hash:
            yield f"Entry {entry.seq} does not follow entry {head.seq}: one of them was exchanged."
        if not entry.is_whole():
            yield f"Entry {entry.seq} ({entry.kind} of {entry.subject}) was changed after it was written."
        head = Head(entry.seq, entry.hash)
