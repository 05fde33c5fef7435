"""The outbox keeps every detection until it is told to forget it."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundranger_node import outbox as outbox_module
from soundranger_node import outbox_file
from soundranger_node.blocks import Moment
from soundranger_node.errors import InputError
from soundranger_node.outbox import DAY_NS, Dated, Outbox

EVERYTHING = 1_000_000
TOP = 2**62
NOW_NS = 1_700_000_000_000_000_000
MOMENT = Moment("boot", 5_000, 1e-3)
# As the first release made it, and as the second did, which knew the topic of each detection.
EARLIER_SCHEMAS = [
    "CREATE TABLE detection (id TEXT PRIMARY KEY, time_ns INTEGER NOT NULL, topic TEXT NOT NULL, payload BLOB)",
    f"""
    PRAGMA application_id = {outbox_file.APPLICATION_ID};
    CREATE TABLE detection (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, time_ns INTEGER NOT NULL, topic TEXT NOT NULL,
        payload BLOB NOT NULL) STRICT;
    CREATE TABLE undated (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, boot TEXT NOT NULL, monotonic_ns INTEGER NOT NULL,
        sigma_s REAL NOT NULL, payload BLOB NOT NULL) STRICT;
    CREATE TABLE lost (reason TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID, STRICT;
    """,
]
PUT_AND_FORGET = """
import random, sys
from pathlib import Path
from soundranger_node.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]))
random.seed(sys.argv[2])
kept = []
for number in range(1_000_000):
    name = f"n-{sys.argv[2]}-{number}"
    outbox.put(name, number, b"x" * random.randint(1, 3000))
    kept.append(name)
    print("+" + name, flush=True)
    if len(kept) > 20:
        gone = kept.pop(random.randrange(len(kept)))
        print("?" + gone, flush=True)
        outbox.forget([gone])
        print("-" + gone, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.sqlite"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    box = Outbox(path)
    yield box
    box.close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the file of an outbox with 200 detections, to be copied."""
    made = tmp_path_factory.mktemp("filled") / "outbox.sqlite"
    box = Outbox(made)
    fill(box, *range(200), size=3000)
    box.close()
    return made


@pytest.fixture
def full(path: Path, filled: Path) -> Path:
    path.parent.mkdir()
    shutil.copyfile(filled, path)
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give the folder of a file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a file system that can be filled takes the right to mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(outbox: Outbox, *numbers: int, size: int = 2) -> None:
    for number in numbers:
        outbox.put(f"n-{number}", NOW_NS + number, b"x" * size)


def waiting(outbox: Outbox) -> list[str]:
    return [one.id for one in outbox.before(TOP, EVERYTHING)]


def names(*numbers: int) -> list[str]:
    return [f"n-{number}" for number in numbers]


def test_a_detection_comes_out_as_it_went_in(outbox: Outbox) -> None:
    outbox.put("n-1", 7, b"\x00payload")
    (one,) = outbox.before(TOP, 1)
    assert (one.id, one.payload) == ("n-1", b"\x00payload")


def test_a_detection_put_twice_is_kept_once_as_it_first_was(outbox: Outbox) -> None:
    outbox.put("n-1", 7, b"first")
    outbox.put("n-1", 8, b"second")
    assert outbox.depth == 1
    assert outbox.before(TOP, 10)[0].payload == b"first"


def test_what_waits_is_told_from_the_newest_down_or_from_a_number_up(outbox: Outbox) -> None:
    fill(outbox, 1, 2, 3, 4)
    numbers = {one.id: one.number for one in outbox.before(TOP, 10)}
    assert waiting(outbox) == names(4, 3, 2, 1)
    assert [one.id for one in outbox.before(numbers["n-3"], 1)] == names(2)
    assert [one.id for one in outbox.since(numbers["n-1"], 2)] == names(2, 3)
    assert outbox.newest() == numbers["n-4"]


def test_forget_deletes_what_it_knows(outbox: Outbox) -> None:
    fill(outbox, 1, 2, 3)
    outbox.forget(["n-1", "n-3", "somebody-elses"])
    outbox.forget([])
    assert outbox.depth == 1
    assert waiting(outbox) == names(2)


def test_after_a_restart_all_is_there_in_the_same_order(path: Path) -> None:
    first = Outbox(path)
    fill(first, 2, 1)
    first.close()
    second = Outbox(path)
    fill(second, 0)
    assert waiting(second) == names(0, 1, 2)
    second.close()


def test_over_the_size_the_oldest_go_and_are_counted_for_good(path: Path) -> None:
    outbox = Outbox(path, max_mb=1.0)
    fill(outbox, *range(400), size=10_000)
    kept = waiting(outbox)
    assert kept == names(*range(399, 399 - len(kept), -1))
    assert 20 < outbox.depth == len(kept) < 100
    assert outbox.lost_to == {"size": 400 - len(kept)}
    assert path.stat().st_size < 1.1e6
    outbox.close()
    again = Outbox(path, max_mb=1.0)
    assert again.lost_to == {"size": 400 - len(kept)}
    again.close()


def test_undated_detections_count_for_the_size_too(path: Path) -> None:
    outbox = Outbox(path, max_mb=1.0)
    for number in range(150):
        outbox.put_undated(f"u-{number}", MOMENT, b"x" * 10_000)
    assert outbox.undated < 100
    assert outbox.lost_to == {"size": 150 - outbox.undated}
    fill(outbox, *range(150), size=10_000)
    assert outbox.undated == 0
    outbox.close()


def test_over_the_age_the_oldest_go_and_are_counted(path: Path) -> None:
    outbox = Outbox(path, max_age_days=2.0)
    fill(outbox, *range(150))
    outbox.put("young", NOW_NS + DAY_NS, b"")
    outbox.upkeep(NOW_NS + 2 * DAY_NS + 120)
    assert waiting(outbox) == ["young", *names(*range(149, 119, -1))]
    assert outbox.lost_to == {"age": 120}
    assert outbox.depth == 31
    outbox.close()


def test_while_nobody_vouches_for_the_clock_nothing_is_too_old(path: Path) -> None:
    outbox = Outbox(path, max_age_days=1e-9)
    fill(outbox, 1)
    outbox.upkeep(None)
    assert outbox.depth == 1
    outbox.close()


def test_after_an_outage_the_file_shrinks_again(path: Path, outbox: Outbox) -> None:
    fill(outbox, *range(200), size=20_000)
    outbox.upkeep(None)
    outbox.forget(names(*range(190)))
    outbox.close()
    assert path.stat().st_size > 4e6
    again = Outbox(path)
    again.upkeep(None)
    assert again.depth == 10
    again.close()
    assert path.stat().st_size < 1e6


def test_an_undated_detection_waits_over_a_restart_until_it_is_dated(path: Path) -> None:
    first = Outbox(path)
    first.put_undated("u-1", MOMENT, b"payload")
    fill(first, 1)
    first.close()
    second = Outbox(path)
    assert (second.depth, second.undated, waiting(second)) == (1, 1, names(1))
    (one,) = second.waiting_for_clock(10)
    assert (one.id, one.moment, one.payload) == ("u-1", MOMENT, b"payload")
    second.date([Dated("u-1", 9, b"dated"), Dated("unknown", 9, b"")])
    assert (second.depth, second.undated) == (2, 0)
    # It was heard before the other, and that is where it goes.
    assert waiting(second) == ["n-1", "u-1"]
    assert second.before(TOP, 2)[1].payload == b"dated"
    second.close()


def test_what_cannot_be_dated_is_dropped_and_counted_by_its_reason(outbox: Outbox) -> None:
    for name in ("u-1", "u-2"):
        outbox.put_undated(name, MOMENT, b"")
    outbox.drop_undated(["u-1", "unknown"], "undatable")
    outbox.count_lost("invalid")
    assert outbox.undated == 1
    assert outbox.lost_to == {"undatable": 1, "invalid": 1}


@given(
    st.lists(st.tuples(st.sampled_from(["put", "forget", "undated", "date", "drop"]), st.integers(0, 8)), max_size=40)
)
def test_depth_is_what_waits_whatever_happens(steps: list[tuple[str, int]]) -> None:
    outbox = Outbox(Path(":memory:"))
    expected: set[str] = set()
    undated: set[str] = set()
    for what, number in steps:
        name = f"n-{number}"
        if what == "put":
            fill(outbox, number)
            expected.add(name)
        elif what == "forget":
            outbox.forget([name])
            expected.discard(name)
        elif what == "undated":
            outbox.put_undated(name, MOMENT, b"")
            undated.add(name)
        elif what == "date":
            outbox.date([Dated(name, 1, b"")])
            expected |= undated & {name}
            undated.discard(name)
        else:
            outbox.drop_undated([name], "undatable")
            undated.discard(name)
    assert set(waiting(outbox)) == expected
    assert {one.id for one in outbox.waiting_for_clock(EVERYTHING)} == undated
    assert (outbox.depth, outbox.undated) == (len(expected), len(undated))
    outbox.close()


def test_two_threads_may_put_and_forget_at_once(outbox: Outbox) -> None:
    def put() -> None:
        fill(outbox, *range(100, 200))

    thread = threading.Thread(target=put)
    thread.start()
    seen = set()
    while thread.is_alive() or outbox.depth:
        ids = [one.id for one in outbox.before(TOP, 7)]
        seen |= set(ids)
        outbox.forget(ids)
    thread.join()
    assert seen == set(names(*range(100, 200)))


def test_a_full_disk_loses_nothing_and_says_so(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox(small_disk / "outbox.sqlite")
    fill(outbox, 0)
    ballast = small_disk / "ballast"
    fill_up(ballast)
    fill(outbox, *range(1, 100), size=3000)
    assert outbox.depth == 100
    assert "disk is full" in (outbox.problem or "")
    assert sum("disk is full" in message for message in caplog.messages) == 1
    # What was written is still read, and what is forgotten now is not told again.
    first = waiting(outbox)
    assert "n-0" in first
    assert len(first) < 100
    outbox.forget(["n-0"])
    assert "n-0" not in waiting(outbox)
    ballast.unlink()
    outbox.upkeep(None)
    assert outbox.problem is None
    assert waiting(outbox) == names(*range(99, 0, -1))
    assert (outbox.depth, outbox.lost_to) == (99, {})
    outbox.close()


def test_what_needs_no_room_does_not_hide_that_the_disk_is_full(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(small_disk / "outbox.sqlite")
    for number in range(20):
        outbox.put_undated(f"u-{number}", MOMENT, b"")
    fill_up(small_disk / "ballast")
    dated = [Dated(f"u-{number}", NOW_NS, b"x" * 3000) for number in range(20)]
    for _ in range(3):
        outbox.date(dated)
        outbox.date([])
        outbox.drop_undated([], "undatable")
        assert "disk is full" in (outbox.problem or "")
    assert (outbox.depth, outbox.undated) == (0, 20)
    assert sum("disk is full" in message for message in caplog.messages) == 1
    (small_disk / "ballast").unlink()
    outbox.date(dated)
    assert (outbox.depth, outbox.undated, outbox.problem) == (20, 0, None)
    outbox.close()


def test_on_a_full_disk_an_outbox_opens_and_what_it_holds_can_be_sent(small_disk: Path) -> None:
    first = Outbox(small_disk / "outbox.sqlite")
    fill(first, 1, 2)
    first.close()
    ballast = small_disk / "ballast"
    fill_up(ballast)
    second = Outbox(small_disk / "outbox.sqlite")
    assert waiting(second) == names(2, 1)
    fill(second, 3)
    assert second.depth == 3
    new = Outbox(small_disk / "new.sqlite")
    fill(new, 1)
    assert (new.depth, waiting(new)) == (1, [])
    ballast.unlink()
    for box in (second, new):
        box.upkeep(None)
        assert box.problem is None
    assert waiting(second) == names(3, 2, 1)
    assert waiting(new) == names(1)
    second.close()
    new.close()


def test_what_finds_no_room_in_memory_either_is_counted_the_oldest_first(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "MAX_HELD", 5)
    fill_up(small_disk / "ballast")
    outbox = Outbox(small_disk / "outbox.sqlite")
    fill(outbox, *range(8))
    assert (outbox.depth, outbox.lost_to) == (5, {"disk": 3})
    (small_disk / "ballast").unlink()
    outbox.close()
    again = Outbox(small_disk / "outbox.sqlite")
    assert waiting(again) == names(7, 6, 5, 4, 3)
    assert again.lost_to == {"disk": 3}
    again.close()


def fill_up(ballast: Path) -> None:
    """Write a file until the disk is full."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 512):
                pass
        except OSError:
            return


def damage_not_a_database(path: Path) -> None:
    path.write_bytes(b"no database at all" * 1000)


def damage_only_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def damage_torn_in_the_middle(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096 + 100)


def damage_a_page_of_zeros(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(bytes(4096))


def damage_noise_at_the_start(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(random.Random(1).randbytes(4096))


def damage_only_the_first_bytes_are_left(path: Path) -> None:
    os.truncate(path, 100)


DAMAGES = [
    (damage_only_the_first_bytes_are_left, 0),
    (damage_not_a_database, 0),
    (damage_only_zeros, 0),
    (damage_noise_at_the_start, 0),
    (damage_torn_in_the_middle, 20),
    (damage_a_page_of_zeros, 180),
]


@pytest.mark.parametrize(("damage", "least"), DAMAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_damaged_file_is_set_aside_and_what_can_be_read_is_kept(
    damage: Callable[[Path], None], least: int, full: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(full)
    outbox = Outbox(full)
    saved = waiting(outbox)
    assert least <= len(saved) < 200
    assert set(saved) <= set(names(*range(200)))
    assert full.with_name("outbox.sqlite.damaged-1").exists()
    assert any("is damaged" in message and "damaged-1" in message for message in caplog.messages)
    fill(outbox, 2000)
    assert waiting(outbox) == ["n-2000", *saved]
    assert outbox.depth == len(saved) + 1
    outbox.close()


def test_what_a_damaged_file_still_lists_is_counted_as_lost(full: Path) -> None:
    damage_a_page_of_zeros(full)
    outbox = Outbox(full)
    assert outbox.lost_to == {"damage": 200 - outbox.depth}
    outbox.close()


def test_damage_that_shows_only_later_is_mended_too(full: Path) -> None:
    outbox = Outbox(full)
    assert outbox._connection is not None
    outbox._connection.execute("PRAGMA shrink_memory")
    damage_a_page_of_zeros(full)
    saved = waiting(outbox)
    assert 180 <= len(saved) < 200
    fill(outbox, 2000)
    assert waiting(outbox)[0] == "n-2000"
    assert outbox.problem is None
    outbox.close()


def test_a_power_cut_while_a_damaged_file_is_replaced_loses_nothing_that_could_be_saved(
    full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_a_page_of_zeros(full)
    renaming = Path.replace
    for steps in range(5):

        def until_the_cut(self: Path, target: Path, left: list[int] = [steps]) -> Path:  # noqa: B006 - its counter
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return renaming(self, target)

        monkeypatch.setattr(Path, "replace", until_the_cut)
        with contextlib.suppress(KeyboardInterrupt):
            Outbox(full).close()
        monkeypatch.setattr(Path, "replace", renaming)
    outbox = Outbox(full)
    assert 180 <= outbox.depth < 200
    assert outbox.depth + outbox.lost_to["damage"] == 200
    outbox.close()


@pytest.mark.parametrize("schema", EARLIER_SCHEMAS)
def test_what_waits_in_the_outbox_of_an_earlier_version_is_kept_in_its_order(
    schema: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    earlier = sqlite3.connect(path)
    earlier.executescript(schema)
    earlier.executemany(
        "INSERT INTO detection (id, time_ns, topic, payload) VALUES (?, ?, 'soundranger/1/node/a/n/detection', ?)",
        [(f"n-{number}", NOW_NS, b"payload") for number in (9, 1, 5)],
    )
    earlier.commit()
    earlier.close()
    outbox = Outbox(path)
    assert waiting(outbox) == names(5, 1, 9)
    assert outbox.before(TOP, 1)[0].payload == b"payload"
    assert (outbox.undated, outbox.lost_to) == (0, {})
    assert any("was made by another version" in message and "damaged-1" in message for message in caplog.messages)
    fill(outbox, 2000)
    outbox.close()
    again = Outbox(path)
    assert waiting(again) == ["n-2000", *names(5, 1, 9)]
    assert sum("another version" in message for message in caplog.messages) == 1
    again.close()


def test_what_a_later_version_keeps_beyond_this_one_does_not_stop_the_node(path: Path) -> None:
    later = Outbox(path)
    fill(later, 1)
    later.put_undated("u-1", MOMENT, b"payload")
    later.count_lost("invalid")
    assert later._connection is not None
    later._connection.execute("ALTER TABLE undated ADD COLUMN sun REAL NOT NULL DEFAULT 0")
    later.close()
    outbox = Outbox(path)
    assert (waiting(outbox), outbox.lost_to) == (names(1), {"invalid": 1})
    (one,) = outbox.waiting_for_clock(10)
    assert (one.id, one.moment, one.payload) == ("u-1", MOMENT, b"payload")
    outbox.put_undated("u-2", MOMENT, b"")
    assert (outbox.undated, outbox.problem) == (2, None)
    outbox.close()


def test_of_many_damaged_files_only_three_are_kept(path: Path) -> None:
    for _ in range(5):
        Outbox(path).close()
        damage_not_a_database(path)
    Outbox(path).close()
    found = sorted(one.name for one in path.parent.glob("*damaged*") if not one.name.endswith(("-wal", "-shm")))
    assert found == [f"outbox.sqlite.damaged-{number}" for number in (1, 2, 3)]


def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE addresses (name TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"outbox\.sqlite: is a database but no outbox; let \[outbox\] path"):
        Outbox(path)
    assert path.read_bytes() == before


def test_a_second_node_on_the_same_file_is_refused(path: Path, outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_file, "BUSY_S", 0.0)
    fill(outbox, 1)
    with pytest.raises(InputError, match="database is locked"):
        Outbox(path)


def test_a_folder_that_cannot_be_made_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be used as the outbox .*; let \[outbox\] path"):
        Outbox(tmp_path / "file" / "outbox.sqlite")


def test_a_closed_outbox_raises_nothing(outbox: Outbox) -> None:
    outbox.close()
    outbox.close()
    fill(outbox, 1)
    outbox.forget(["n-1"])
    assert waiting(outbox) == []
    assert "it is closed" in (outbox.problem or "")


@pytest.mark.slow
def test_everything_whose_put_returned_survives_kills_at_any_moment(path: Path) -> None:
    rng = random.Random(7)
    put: set[str] = set()
    perhaps_gone: set[str] = set()
    gone: set[str] = set()
    for life in range(12):
        command = [sys.executable, "-c", PUT_AND_FORGET, str(path), str(life)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.4))
            process.send_signal(signal.SIGKILL)
            lines = process.stdout.read().decode().splitlines(keepends=True)
        said = [line.strip() for line in lines if line.endswith("\n")]
        put |= {line[1:] for line in said if line[0] == "+"}
        perhaps_gone |= {line[1:] for line in said if line[0] == "?"}
        gone |= {line[1:] for line in said if line[0] == "-"}
        outbox = Outbox(path)
        found = set(waiting(outbox))
        assert put - perhaps_gone <= found
        assert not gone & found
        assert outbox.problem is None
        outbox.close()
    assert len(put) > 100
    assert not list(path.parent.glob("*damaged*"))
