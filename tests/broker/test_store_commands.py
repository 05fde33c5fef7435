"""The commands about the store, and the settings, as a person uses them."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.broker.test_storage import an_event, keep_event

from soundranger_broker.settings import Settings, read_settings
from soundranger_broker.storage.commands import default_database
from soundranger_broker.storage.retention import DEFAULTS, Limit
from soundranger_broker.storage.store import Store
from soundranger_node.errors import InputError

EXAMPLE = Path(__file__).parents[2] / "broker" / "soundranger-broker.example.toml"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "centre.db"
    store = Store.open(str(path))
    keep_event(store, an_event(), clip=True)
    store.review("event-1", "gunshot", "Ann", "", 1)
    store.close()
    return path


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "soundranger_broker", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.slow
def test_a_backup_is_one_command_and_a_restore_another(database: Path, tmp_path: Path) -> None:
    copy, fresh = tmp_path / "copy.db", tmp_path / "fresh" / "centre.db"
    assert run("backup", copy, "--database", database).returncode == 0
    assert run("restore", copy, "--database", fresh).returncode == 0
    whole, again = (run("audit", "verify", "--database", path) for path in (database, fresh))
    assert whole.returncode == again.returncode == 0
    assert whole.stdout == again.stdout
    assert "All 3 entries hold" in whole.stdout
    refused = run("restore", copy, "--database", fresh)
    assert refused.returncode == 2
    assert "is not empty" in refused.stderr


@pytest.mark.slow
def test_one_byte_that_was_changed_in_the_log_is_found(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE log SET body = replace(body, 'Ann', 'Bnn')")
    connection.close()
    done = run("audit", "verify", "--database", database)
    assert done.returncode == 1
    assert done.stdout == (
        "Entry 3 (review of event-1) was changed after it was written.\n"
        "Event event-1 has another review than was logged.\n"
    )


@pytest.mark.slow
def test_a_log_that_was_cut_off_is_found_by_a_head_that_was_noted(database: Path) -> None:
    store = Store.open(str(database))
    noted = store.log("settings", "centre", {}, 1)
    store.close()
    head = f"{noted.seq}:{noted.hash}"
    assert run("audit", "verify", "--database", database, "--head", head).returncode == 0
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM log WHERE seq = ?", (noted.seq,))
    connection.close()
    assert run("audit", "verify", "--database", database).returncode == 0
    assert run("audit", "verify", "--database", database, "--head", head).returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["audit", "verify", "--database", "nowhere.db"], "database nowhere.db: is not there"),
        (["backup", "copy.db", "--database", "nowhere.db"], "database nowhere.db: is not there"),
        (["audit", "verify", "--head", "7"], "entry '7': is not NUMBER:HASH"),
        (["run", "--database", "mysql://host/x"], "is neither SQLite nor PostgreSQL"),
        (["run", "--config", "nowhere.toml"], "nowhere.toml: cannot be read"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_sentence(arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert says in done.stderr


def test_the_example_is_the_defaults() -> None:
    assert read_settings(EXAMPLE).retention.limits() == DEFAULTS
    assert read_settings(None) == Settings()


def test_limits_can_be_set_by_kind(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('database = "x.db"\n[retention.clips]\nage_days = 7\nsize_mb = "any"\n')
    limits = read_settings(file).retention.limits()
    assert limits == DEFAULTS | {"clips": Limit(7.0, None)}
    assert read_settings(file).database == "x.db"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[retention.clips]\nage_days = 0\n", "Expected `float` > 0"),
        ('[retention.clips]\nage_days = "never"\n', "age_days"),
        ("[retention.sounds]\nage_days = 1\n", "unknown field `sounds`"),
        ("[retention", "is no TOML"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=says):
        read_settings(file)


def test_a_service_keeps_its_memory_where_systemd_says_and_a_user_at_home() -> None:
    assert default_database({"STATE_DIRECTORY": "/var/lib/x:/var/lib/y"}) == "/var/lib/x/centre.db"
