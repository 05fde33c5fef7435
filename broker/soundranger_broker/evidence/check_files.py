"""The check of files: that they are all there, nothing else is, and each is as the manifest and the log have it."""

from collections.abc import Iterator, Mapping

from soundranger_broker.evidence.contents import (
    ALWAYS,
    COVERED_BUT,
    LOG,
    MANIFEST,
    Manifest,
    Part,
    export_of,
)
from soundranger_broker.evidence.finding import Finding
from soundranger_broker.evidence.parts import Parts
from soundranger_broker.storage.chain import Entry, sha256


def check_files(files: Mapping[str, bytes], manifest: Manifest, parts: Parts) -> Iterator[Finding]:
    """Yield what is wrong with the files of a bundle."""
    for name in ALWAYS:
        if name not in files and name not in manifest.files:
            yield Finding("files", name, "is missing: every bundle has it")
    for name, part in manifest.files.items():
        if name not in files:
            yield Finding("files", name, "is in the manifest and not in the bundle: it was taken out")
        elif Part.of(files[name]) != part:
            yield Finding("files", name, "is not as the manifest has it: it was changed")
    for name in files.keys() - manifest.files.keys() - {MANIFEST}:
        yield Finding("files", name, "is in the bundle and not in the manifest: it was added")
    yield from parts.unread
    yield from _against_log(files, manifest, parts.log[-1] if parts.log else None)


def _against_log(files: Mapping[str, bytes], manifest: Manifest, newest: Entry | None) -> Iterator[Finding]:
    """Yield what is not as the log's entry on the making of this bundle has it."""
    said = None if newest is None else export_of(newest)
    if newest is None or said is None or newest.subject != manifest.event:
        yield Finding("files", LOG, "does not end with the entry on the making of this bundle")
        return
    if (newest.seq, newest.hash, newest.time_ns) != (manifest.head_seq, manifest.head_hash, manifest.made_ns):
        problem = "names another newest entry of the log, or another time, than the log in the bundle has"
        yield Finding("files", MANIFEST, problem)
    if said.software != manifest.software:
        yield Finding("files", MANIFEST, "names another version of the software than the log")
    held = {name: sha256(content) for name, content in files.items() if name not in COVERED_BUT}
    for name in sorted(said.files.keys() | held.keys()):
        if held.get(name) != said.files.get(name):
            how = "taken out" if name not in held else "added" if name not in said.files else "changed"
            yield Finding("files", name, f"was {how} after entry {newest.seq} of the log noted what this bundle holds")
