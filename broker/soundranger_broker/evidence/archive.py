"""The ZIP file of a bundle: written so that the same content gives the same bytes, and read without trusting it."""

import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from soundranger_node.errors import InputError

# The first time that a ZIP file can state.
NO_TIME: Final = (1980, 1, 1, 0, 0, 0)
MODE: Final = stat.S_IFREG | 0o644
# Of an event that 2,000 nodes heard; usual are some ten.
MOST_FILES: Final = 2_100
MOST_BYTES: Final = 512 * 1_048_576
MOST_BYTES_A_FILE: Final = 128 * 1_048_576
# Text shrinks to a fifth, a picture's numbers to a third; what shrinks to a hundredth is there to fill a memory.
MOST_RATIO: Final = 100
RATIO_FREE: Final = 65_536
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9][A-Za-z0-9._-]{0,127})?/?")
# The record at the end of a ZIP file, without a comment (APPNOTE.TXT 4.3.16), and that of a very large one before it.
END: Final = struct.Struct("<4s4H2IH")
END_SIGNATURE: Final = b"PK\x05\x06"
LARGE_SIGNATURE: Final = b"PK\x06\x07"
LARGE_BYTES: Final = 20
# A name and the 46 bytes before it; others' tools add some more.
MOST_DIRECTORY_BYTES: Final = MOST_FILES * 512


class NotABundleError(InputError):
    """A file that is no evidence bundle, or not one that can be read."""


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return a ZIP file of files by name, in their order; what is compressed already is not compressed again."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, NO_TIME)
            info.create_system = 3
            info.external_attr = MODE << 16
            info.compress_type = zipfile.ZIP_STORED if name.endswith(".flac") else zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return buffer.getvalue()


def unpack(path: Path) -> dict[str, bytes]:
    """Return the files of a bundle by name; nothing is written, and nothing is read that is larger than can be.

    Raises:
        NotABundleError: it cannot be read, is damaged or cut off, or holds what no bundle holds.
    """
    try:
        with path.open("rb") as file:
            count = _count(path, file.seek(0, io.SEEK_END), _last(file, END.size + LARGE_BYTES))
            with zipfile.ZipFile(file) as archive:
                infos = archive.infolist()
                _check_all(path, infos, count)
                return {info.filename: archive.read(info) for info in infos}
    except OSError as error:
        raise NotABundleError(str(path), f"cannot be read ({error.strerror or error})", "name a bundle") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, RuntimeError, ValueError, LookupError) as error:
        # A message of a library may show bytes of the file.
        why = ascii(str(error))[1:80].rstrip("'\"")
        raise NotABundleError(str(path), f"is damaged ({why})", "get it anew from who made it") from None


def _last(file: io.BufferedReader, count: int) -> bytes:
    file.seek(max(0, file.seek(0, io.SEEK_END) - count))
    return file.read(count)


def _count(path: Path, size: int, last: bytes) -> int:
    """Return how many files there should be; refuse what does not end as a ZIP file without a comment does."""
    if size > MOST_BYTES:
        raise NotABundleError(str(path), f"is too large for a bundle ({size} bytes)")
    if len(last) < END.size:
        raise NotABundleError(str(path), "is no ZIP file, or is cut off", "name a bundle")
    signature, *_, count, directory_bytes, _, comment_bytes = END.unpack(last[-END.size :])
    if signature != END_SIGNATURE or comment_bytes:
        raise NotABundleError(str(path), "is no ZIP file, or is cut off, or was added to", "name a bundle")
    large = last[: -END.size][-LARGE_BYTES:].startswith(LARGE_SIGNATURE)
    if large or count > MOST_FILES or directory_bytes > MOST_DIRECTORY_BYTES:
        raise NotABundleError(str(path), "holds more files than any bundle")
    return int(count)


def _check_all(path: Path, infos: list[zipfile.ZipInfo], count: int) -> None:
    if len(infos) != count:
        raise NotABundleError(str(path), "is damaged (it lists another number of files than it says)")
    if sum(info.file_size for info in infos) > MOST_BYTES:
        raise NotABundleError(str(path), "holds more bytes than any bundle")
    seen = set[str]()
    for info in infos:
        problem = _problem(info)
        if info.filename in seen:
            problem = "is there twice"
        if problem is not None:
            raise NotABundleError(str(path), f"the file {info.orig_filename[:60]!a} in it {problem}")
        seen.add(info.filename)


def _problem(info: zipfile.ZipInfo) -> str | None:
    """Return why a file is none that a bundle holds, or None."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    reasons = {
        "has a name that no bundle holds": info.orig_filename != info.filename or not NAME.fullmatch(info.filename),
        "is a link or a device": kind not in {0, stat.S_IFREG, stat.S_IFDIR},
        "is encrypted": bool(info.flag_bits & 1),
        "is compressed in a way that no bundle is": info.compress_type
        not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED},
        "is too large": info.file_size > MOST_BYTES_A_FILE,
        "is compressed too well to be true": info.file_size > RATIO_FREE + MOST_RATIO * info.compress_size,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)
