"""The check of a bundle: a true one holds anywhere, every kind of doctoring is found and named, nonsense is refused."""

import io
import json
import re
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.broker.conftest import Town
from tests.broker.evidence_case import MADE_NS, Kept, keep_a_bang, key_of

from soundranger_broker.evidence.archive import NotABundleError, pack, unpack
from soundranger_broker.evidence.bundle import bundle
from soundranger_broker.evidence.contents import MANIFEST, Manifest, Part, encoded
from soundranger_broker.evidence.sentences import sentences
from soundranger_broker.evidence.verify import Outcome, manifest_of, verify, verify_files
from soundranger_broker.storage.chain import Head, hash_of, sha256
from soundranger_broker.storage.store import Store
from soundranger_node.messages import DETECTION
from soundranger_node.signing import sign

if TYPE_CHECKING:
    from tests.conftest import Postgres

Files = dict[str, bytes]
Doctor = Callable[[Files], None]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    store = Store.open(str(tmp_path_factory.mktemp("store") / "centre.db"))
    yield keep_a_bang(store, Town())
    store.close()


@pytest.fixture(scope="module")
def made(kept: Kept) -> bytes:
    return bundle(kept.store, kept.event.id, MADE_NS)


@pytest.fixture
def true(made: bytes, tmp_path: Path) -> Files:
    """The files of a true bundle, to be doctored."""
    path = tmp_path / "true.zip"
    path.write_bytes(made)
    return unpack(path)


def checked(files: Files, noted: Head | None = None) -> Outcome:
    return verify_files(files, manifest_of(files, "bundle"), noted)


def found(outcome: Outcome) -> list[str]:
    return [str(problem) for problem in outcome.problems]


def manifest_anew(files: Files) -> None:
    """Let the manifest say what is there, as a forger would."""
    manifest = msgspec.json.decode(files[MANIFEST], type=Manifest)
    parts = {name: Part.of(content) for name, content in sorted(files.items()) if name != MANIFEST}
    files[MANIFEST] = encoded(msgspec.structs.replace(manifest, files=parts))


def edit_lines(files: Files, name: str, number: int, edit: Callable[[Any], Any]) -> None:
    lines = files[name].splitlines()
    lines[number] = json.dumps(edit(json.loads(lines[number])), separators=(",", ":")).encode()
    files[name] = b"\n".join(lines) + b"\n"


class Told(msgspec.Struct):
    event: msgspec.Raw


def told_in(line: bytes) -> bytes:
    return bytes(msgspec.json.decode(line, type=Told).event)


def log_anew(files: Files) -> None:
    """Write the whole log anew, so that it is a chain and covers what is there: the forger knows how it is made."""
    entries = [json.loads(line) for line in files["log.jsonl"].splitlines()]
    event, clips = msgspec.json.decode(files["event.json"]), {}
    for line in files["clips.jsonl"].splitlines():
        one = json.loads(line)
        clips[f"{one['node']}/{one['header']['detection']}"] = sha256(files[one["file"]])
    told = {json.loads(one)["revision"]: one for one in map(told_in, files["revisions.jsonl"].splitlines())}
    detections = {
        f"{json.loads(line)['node']}/{json.loads(line)['id']}": sha256(line)
        for line in files["detections.jsonl"].splitlines()
    }
    previous = entries[0]["previous"]
    for one in entries:
        if "withheld" in one:
            one["previous"] = previous
            one["hash"] = hash_of(one["seq"], one["time_ns"], one["kind"], one["subject"], one["withheld"], previous)
            previous = one["hash"]
            continue
        body = json.loads(one["body"])
        if one["kind"] == "event" and one["subject"] == event["id"]:
            body["sha256"] = sha256(told[body["revision"]])
            if "detections" in body:
                body["detections"] = detections
        elif one["kind"] == "clip":
            body["sha256"] = clips[one["subject"]]
        elif one["kind"] == "export":
            covered = {name: sha256(content) for name, content in files.items()}
            body["files"] = {name: covered[name] for name in covered if name not in {"log.jsonl", MANIFEST}}
        one["body"] = json.dumps(body, sort_keys=True, separators=(",", ":"))
        one["previous"] = previous
        content = sha256(one["body"])
        one["hash"] = hash_of(one["seq"], one["time_ns"], one["kind"], one["subject"], content, previous)
        previous = one["hash"]
    files["log.jsonl"] = b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in entries)
    manifest = json.loads(files[MANIFEST]) | {"head_hash": previous}
    files[MANIFEST] = json.dumps(manifest).encode()


def test_a_true_bundle_holds_and_all_three_locations_agree(true: Files, kept: Kept) -> None:
    outcome = checked(true, kept.store.head())
    assert found(outcome) == []
    assert outcome.agree
    assert outcome.arrivals is not None
    assert outcome.arrivals.distance_m < 0.1
    assert outcome.sound is not None
    assert outcome.sound.distance_m < 1.0
    assert {one.verdict for one in outcome.signatures} == {"signed"}
    assert list(sentences(outcome))[-1] == "All three agree, and nothing was changed."


def later_detection(files: Files) -> None:
    edit_lines(files, "detections.jsonl", 0, lambda one: one | {"time_ns": one["time_ns"] + 20_000_000})


def moved_node(files: Files) -> None:
    edit_lines(files, "detections.jsonl", 1, lambda one: one | {"lat": one["lat"] + 0.001})


def moved_node_everywhere(files: Files) -> None:
    moved_node(files)
    moved = json.loads(files["detections.jsonl"].splitlines()[1])

    def edit(one: Any) -> Any:
        own = one["status"]["node"] == moved["node"]
        return one | {"status": one["status"] | ({"lat": moved["lat"]} if own else {})}

    for number in range(len(files["statuses.jsonl"].splitlines())):
        edit_lines(files, "statuses.jsonl", number, edit)


def moved_event(files: Files) -> None:
    event = json.loads(files["event.json"])
    files["event.json"] = json.dumps(event | {"lat": event["lat"] + 0.0005}, separators=(",", ":")).encode()


def moved_event_and_revision(files: Files) -> None:
    moved_event(files)
    edit_lines(files, "revisions.jsonl", 1, lambda one: one | {"event": json.loads(files["event.json"])})


def swapped_clips(files: Files) -> None:
    one, other = "clips/001-node-00.flac", "clips/002-node-01.flac"
    files[one], files[other] = files[other], files[one]


def later_clip(files: Files) -> None:
    def edit(one: Any) -> Any:
        return one | {"header": one["header"] | {"start_ns": one["header"]["start_ns"] + 100_000_000}}

    for number in range(6):
        edit_lines(files, "clips.jsonl", number, edit)


def another_key(files: Files) -> None:
    key = json.loads(files["statuses.jsonl"].splitlines()[1])["status"]["public_key"]
    edit_lines(files, "statuses.jsonl", 0, lambda one: one | {"status": one["status"] | {"public_key": key}})


def no_key(files: Files) -> None:
    def edit(one: Any) -> Any:
        del one["status"]["public_key"]
        return one

    edit_lines(files, "statuses.jsonl", 0, edit)


def moved_status(files: Files) -> None:
    edit_lines(
        files, "statuses.jsonl", 0, lambda one: one | {"status": one["status"] | {"lon": one["status"]["lon"] + 1e-4}}
    )


def better_clock(files: Files) -> None:
    clock = {"tier": "pps", "bound_s": 1e-6}
    edit_lines(files, "statuses.jsonl", 0, lambda one: one | {"status": one["status"] | {"clock": clock}})


def no_signature(files: Files) -> None:
    def edit(one: Any) -> Any:
        del one["signature"]
        return one

    edit_lines(files, "detections.jsonl", 0, edit)


def dropped_detection(files: Files) -> None:
    files["detections.jsonl"] = files["detections.jsonl"].partition(b"\n")[2]


def doubled_detection(files: Files) -> None:
    files["detections.jsonl"] += files["detections.jsonl"].splitlines()[0] + b"\n"


def dropped_clip(files: Files) -> None:
    del files["clips/001-node-00.flac"]


def dropped_clip_and_its_line(files: Files) -> None:
    dropped_clip(files)
    files["clips.jsonl"] = files["clips.jsonl"].partition(b"\n")[2]


def added_file(files: Files) -> None:
    files["notes.txt"] = b"He did it."


def edited_report(files: Files) -> None:
    files["report.html"] = files["report.html"].replace(b"gunshot", b"firework")


def edited_review(files: Files) -> None:
    files["review.json"] = files["review.json"].replace(b"gunshot", b"fireworks")


def edited_settings(files: Files) -> None:
    files["settings.json"] = files["settings.json"].replace(b'"least_nodes":4', b'"least_nodes":3')


def dropped_revision(files: Files) -> None:
    files["revisions.jsonl"] = files["revisions.jsonl"].partition(b"\n")[2]


def edited_log(files: Files) -> None:
    files["log.jsonl"] = files["log.jsonl"].replace(b"Ann", b"Bob")


def cut_log(files: Files) -> None:
    files["log.jsonl"] = b"".join(files["log.jsonl"].splitlines(keepends=True)[:-1])


def log_out_of_order(files: Files) -> None:
    lines = files["log.jsonl"].splitlines(keepends=True)
    lines[2], lines[3] = lines[3], lines[2]
    files["log.jsonl"] = b"".join(lines)


def hole_in_the_log(files: Files) -> None:
    lines = files["log.jsonl"].splitlines(keepends=True)
    files["log.jsonl"] = b"".join(lines[:4] + lines[5:])


def unreadable_line(files: Files) -> None:
    files["detections.jsonl"] = b"\xff\xfe\n" + files["detections.jsonl"]


def no_event(files: Files) -> None:
    files["event.json"] = b"{}"


# What is done, the file that is changed, and what is found beside that once the manifest is written anew.
DOCTORED: list[tuple[Doctor, str, str]] = [
    (later_detection, "detections.jsonl", "node-04 has a wrong signature: it was changed after its node signed it"),
    (later_detection, "detections.jsonl", "node-04 was changed after it was logged"),
    (moved_node, "detections.jsonl", "node-01 has a wrong signature"),
    (moved_node, "detections.jsonl", "Node node-01 is placed 111.2 m apart by its status and by its detection"),
    (moved_node_everywhere, "statuses.jsonl", "node-01 has a wrong signature"),
    (moved_node_everywhere, "detections.jsonl", "is from"),
    (moved_event, "event.json", "event.json is not the newest revision that revisions.jsonl holds"),
    (moved_event, "event.json", "The arrivals alone give a place 55.6 m from the stated one: outside of the ellipses"),
    (moved_event, "event.json", "The clips alone give a place 55."),
    (
        moved_event_and_revision,
        "revisions.jsonl",
        "Revision 1 of event 20260101-000000-b495f9 was changed after it was",
    ),
    (swapped_clips, "clips/001-node-00.flac", "and the detection says -"),
    (swapped_clips, "clips/001-node-00.flac", "is not the sound that was logged: it was changed or exchanged"),
    (later_clip, "clips.jsonl", "The clips alone give"),
    (another_key, "statuses.jsonl", "has a wrong signature: it was changed after its node signed it, or the key"),
    (no_key, "statuses.jsonl", "is signed, and no status holds the key to check that with"),
    (moved_status, "statuses.jsonl", "m apart by its status and by its detection"),
    (better_clock, "statuses.jsonl", "statuses.jsonl was changed after entry"),
    (no_signature, "detections.jsonl", "is not signed, though its node has a key: the signature was taken out"),
    (dropped_detection, "detections.jsonl", "node-04 is in the log and was left out of the bundle"),
    (dropped_detection, "detections.jsonl", "node-04 is of an arrival of the event, and not there"),
    (doubled_detection, "detections.jsonl", "node-04 is in detections.jsonl more than once"),
    (dropped_clip, "clips/001-node-00.flac", "clips/001-node-00.flac was taken out after entry"),
    (dropped_clip_and_its_line, "clips.jsonl", "node-00 is in the log and was left out of the bundle"),
    (added_file, "notes.txt", "notes.txt was added after entry"),
    (edited_report, "report.html", "report.html was changed after entry"),
    (edited_review, "review.json", "review.json holds another review than was logged last"),
    (edited_settings, "settings.json", "settings.json was changed after entry"),
    (dropped_revision, "revisions.jsonl", "Revision 0 of event 20260101-000000-b495f9 is in the log and was left out"),
    (edited_log, "log.jsonl", "log.jsonl does not hold: Entry 23 (review of 20260101-000000-b495f9) was changed"),
    (cut_log, "log.jsonl", "log.jsonl does not end with the entry on the making of this bundle"),
    (log_out_of_order, "log.jsonl", "log.jsonl does not hold: Entry 13 is missing"),
    (hole_in_the_log, "log.jsonl", "log.jsonl does not hold: Entry 15 is missing"),
    (unreadable_line, "detections.jsonl", "detections.jsonl, line 1, cannot be read"),
    (no_event, "event.json", "event.json cannot be read"),
]


@pytest.mark.parametrize(("doctor", "changed", "_said"), DOCTORED)
def test_what_was_changed_is_named(true: Files, doctor: Doctor, changed: str, _said: str) -> None:
    doctor(true)
    outcome = checked(true)
    assert not outcome.agree
    assert any(problem.startswith(changed) for problem in found(outcome)), found(outcome)
    assert list(sentences(outcome))[-1].startswith("This bundle does not hold: ")


@pytest.mark.parametrize(("doctor", "_changed", "said"), DOCTORED)
def test_a_manifest_that_is_written_anew_hides_nothing(true: Files, doctor: Doctor, _changed: str, said: str) -> None:
    doctor(true)
    manifest_anew(true)
    outcome = checked(true)
    assert not outcome.agree
    assert any(said in problem for problem in found(outcome)), found(outcome)


@pytest.mark.parametrize(
    ("doctor", "said"),
    [
        (later_detection, "has a wrong signature"),
        (moved_node_everywhere, "has a wrong signature"),
        (moved_event_and_revision, "The arrivals alone give a place"),
        (swapped_clips, "dBFS, and the detection says"),
        (another_key, "has a wrong signature"),
    ],
)
def test_where_the_whole_log_is_written_anew_too_signatures_and_physics_still_tell(
    true: Files, doctor: Doctor, said: str, kept: Kept
) -> None:
    doctor(true)
    log_anew(true)
    manifest_anew(true)
    problems = found(checked(true))
    assert any(said in problem for problem in problems), problems
    assert not any("log.jsonl" in problem for problem in problems)
    # Who has noted down an entry of the log sees that nothing of it holds.
    noted = found(checked(true, kept.store.head()))
    assert any("the log was written anew" in problem for problem in noted)


def test_a_detection_that_another_key_signed_is_found(true: Files) -> None:
    line, _, rest = true["detections.jsonl"].partition(b"\n")
    forged = msgspec.structs.replace(DETECTION.decode(line), signature=None)
    true["detections.jsonl"] = sign(DETECTION.encode(forged), key_of("somebody")) + b"\n" + rest
    assert any("has a wrong signature" in problem for problem in found(checked(true)))


def test_a_noted_entry_that_the_bundle_does_not_reach_is_said(true: Files) -> None:
    (problem,) = found(checked(true, Head(1, "0" * 64)))
    assert problem == (
        "log.jsonl cannot be compared with the noted entry 1: the log in the bundle is from entry 11 to 24."
    )


def test_a_bundle_of_long_ago_leaves_out_what_the_log_says_of_others_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soundranger_broker.evidence.bundle.MOST_ENTRIES", 20)
    store = Store.open(str(tmp_path / "centre.db"))
    kept = keep_a_bang(store, Town())
    early = store.head()
    for number in range(30):
        store.log("review", f"other-{number}", {}, MADE_NS)
    store.review(kept.event.id, None, "Bob", "", MADE_NS)
    path = tmp_path / "bundle.zip"
    path.write_bytes(bundle(store, kept.event.id, MADE_NS))
    for noted in (early, store.head()):
        assert found(verify(path, noted)) == []
    assert any("without 31 between them about other things" in one for one in sentences(verify(path)))
    files = unpack(path)
    assert b"other-" not in files["log.jsonl"]
    lines = files["log.jsonl"].splitlines(keepends=True)
    files["log.jsonl"] = b"".join(lines[:5] + lines[6:])
    manifest_anew(files)
    assert any("which was there when the bundle was made, is missing" in problem for problem in found(checked(files)))
    store.close()


@pytest.mark.slow
def test_a_bundle_out_of_postgresql_holds_too(tmp_path: Path, postgres: "Postgres") -> None:
    store = Store.open(postgres.database())
    kept = keep_a_bang(store, Town())
    path = tmp_path / "bundle.zip"
    path.write_bytes(bundle(store, kept.event.id, MADE_NS))
    assert found(verify(path, store.head())) == []
    store.close()


def test_unsigned_detections_of_nodes_without_a_key_are_said_and_hold(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "centre.db"))
    kept = keep_a_bang(store, Town(), signed=False)
    path = tmp_path / "bundle.zip"
    path.write_bytes(bundle(store, kept.event.id, MADE_NS))
    store.close()
    outcome = verify(path)
    assert found(outcome) == []
    assert "Detections: 9 unsigned." in list(sentences(outcome))


def test_without_clips_nobody_can_say_that_all_three_agree(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "centre.db"))
    kept = keep_a_bang(store, Town(), clips=False)
    path = tmp_path / "bundle.zip"
    path.write_bytes(bundle(store, kept.event.id, MADE_NS))
    store.close()
    assert found(verify(path)) == ["The clips alone give no location at the stated time."]


NUMBER = re.compile(rb"(?<=[:\\[,])-?[0-9.]+(?:e-?[0-9]+)?")
OTHERS = [b"0", b"-1", b"90", b"1e300", b"1e-300", b"null", b'"x"', b"1767225600000000000", b"4102444799999999999"]


def changed_somewhere(files: Files, rng: np.random.Generator) -> bool:
    """Put another number, or any bytes, somewhere into one of the files; say whether that changed it."""
    names = [name for name in files if name not in {MANIFEST, "report.html"}]
    name = names[rng.integers(len(names))]
    content = files[name]
    if rng.random() < 0.6:
        numbers = [match.span() for match in NUMBER.finditer(content)] or [(0, 1)]
        (first, end), new = numbers[rng.integers(len(numbers))], OTHERS[rng.integers(len(OTHERS))]
    else:
        first, new = int(rng.integers(len(content))), rng.bytes(int(rng.integers(20)))
        end = first + int(rng.integers(50))
    files[name] = content[:first] + new + content[end:]
    return files[name] != content


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_whatever_stands_in_the_files_the_check_ends_with_findings(true: Files, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(50):
        files = dict(true)
        if changed_somewhere(files, rng):
            manifest_anew(files)
            outcome = checked(files)
            assert not outcome.agree
            assert all(sentences(outcome))


def refused(content: bytes, folder: Path) -> str:
    path = folder / "bad.zip"
    path.write_bytes(content)
    with pytest.raises(NotABundleError) as raised:
        verify(path)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300 + len(str(path))
    return str(raised.value)


def archive(*files: tuple[str, bytes], mode: int = stat.S_IFREG | 0o644, comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            made.writestr(info, content)
        made.comment = comment
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_no_bundle_is_refused_in_one_sentence(tmp_path: Path, made: bytes) -> None:
    assert "is no ZIP file" in refused(b"", tmp_path)
    assert "is no ZIP file" in refused(b"not a bundle, but long enough to be one", tmp_path)
    assert "cut off" in refused(made[:-100], tmp_path)
    assert "was added to" in refused(made + b"more", tmp_path)
    assert "was added to" in refused(archive(("a", b""), comment=b"hidden"), tmp_path)
    assert "holds no manifest.json" in refused(archive(("event.json", b"{}")), tmp_path)
    for content in (b"\xff\xfe", b"{}", b"[" * 50_000):
        assert "manifest.json that cannot be read" in refused(archive((MANIFEST, content)), tmp_path)
    for name in ("../x", "/etc/passwd", "a/b/c", "clips/..", "a\\b", "é", "C:x", "a\nb", "." * 200):
        assert "has a name that no bundle holds" in refused(archive((name, b"x")), tmp_path)
    assert "is there twice" in refused(archive(("a", b"x"), ("a", b"y")), tmp_path)
    assert "is a link or a device" in refused(archive(("a", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777), tmp_path)
    assert "more files than any bundle" in refused(archive(*((f"f{n}", b"") for n in range(3_000))), tmp_path)


def test_a_bundle_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.zip", tmp_path):
        with pytest.raises(NotABundleError, match="cannot be read"):
            verify(path)


def test_a_zip_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    assert "compressed too well to be true" in refused(archive((MANIFEST, bytes(100_000_000))), tmp_path)
    many = archive(*((f"f{number}", bytes(60_000)) for number in range(2_000)))
    assert "no manifest.json" in refused(many, tmp_path)


def test_a_file_that_says_to_be_smaller_or_larger_than_it_is_is_refused(tmp_path: Path) -> None:
    whole = archive((MANIFEST, bytes(1_000)))
    for size in (10, 2**32 - 1, 600_000_000):
        directory = whole.rindex(b"PK\x01\x02")
        lying = bytearray(whole)
        struct.pack_into("<I", lying, directory + 24, size)
        refused(bytes(lying), tmp_path)


DAMAGED = {MANIFEST: b'{"format":1}', "event.json": b"{}" * 300, "clips/1.flac": b"fLaC" * 10}


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, 10**9), change=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_bundle_is_refused_or_does_not_hold(
    position: int, change: int, cut: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.zip"
    whole = pack(DAMAGED)
    damaged = bytearray(whole)
    damaged[position % len(whole)] ^= change
    path.write_bytes(bytes(damaged[: position % len(whole)] if cut else damaged))
    try:
        read = unpack(path)
    except NotABundleError:
        return
    assert read == DAMAGED


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "soundranger_broker", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_commands_make_a_bundle_and_check_it(tmp_path: Path) -> None:
    where = tmp_path / "centre.db"
    store = Store.open(str(where))
    kept = keep_a_bang(store, Town())
    out = tmp_path / "bundle.zip"
    assert command("bundle", kept.event.id, "--database", where, "--out", out).returncode == 0
    done = command("verify", out, "--head", store.head())
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("All three agree, and nothing was changed.\n")
    files = unpack(out)
    edited_report(files)
    out.write_bytes(pack(files))
    done = command("verify", "--json", out)
    assert done.returncode == 1
    assert {one["subject"] for one in json.loads(done.stdout)["problems"]} == {"report.html"}
    store.close()
    for arguments in (("verify", where), ("verify", out, "--head", "7"), ("bundle", "x", "--database", where)):
        done = command(*arguments)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1


def test_what_was_logged_of_others_is_in_the_bundle_as_a_hash_only(kept: Kept, tmp_path: Path) -> None:
    kept.store.log("review", "another-event", {"note": "my neighbour's garden"}, MADE_NS)
    path = tmp_path / "later.zip"
    path.write_bytes(bundle(kept.store, kept.event.id, MADE_NS))
    files = unpack(path)
    assert b"neighbour" not in files["log.jsonl"]
    assert b"another-event" in files["log.jsonl"]
    assert found(checked(files)) == []


def test_an_entry_about_the_event_whose_contents_were_left_out_is_named(true: Files) -> None:
    lines = [json.loads(line) for line in true["log.jsonl"].splitlines()]
    place = next(place for place, one in enumerate(lines) if one["kind"] == "review")
    lines[place] |= {"body": "", "withheld": sha256(lines[place]["body"])}
    true["log.jsonl"] = b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in lines)
    assert any(
        problem.startswith(
            f"log.jsonl holds entry {lines[place]['seq']}, which is about the event, without its contents"
        )
        for problem in found(checked(true))
    )
