"""The bulletin: what the centre says of itself, when, and in which words nodes are said to be wrong."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.broker.test_events import an_event

from soundranger_broker.bulletin import COMPILING, EVERY_NS, Bulletin
from soundranger_broker.deciding import Decider
from soundranger_broker.faults import Fault
from soundranger_broker.locator import Locator
from soundranger_node.messages import CENTRE, MAX_PROBLEMS, MAX_REASONS, CentreStatus

if TYPE_CHECKING:
    from tests.broker.conftest import Town

NOW_NS = 1_767_225_600_000_000_000


class Told(Bulletin):
    """A bulletin of a locator that knows of no faults but those that it is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        decider = Decider()
        super().__init__(Locator(1, decider=decider), NOW_NS)
        self.faults: Sequence[Fault] = ()
        monkeypatch.setattr(decider.associator, "faults", lambda: self.faults)

    def at(
        self, seconds: float, *, compiling: bool = False, dropped: dict[str, int] | None = None
    ) -> CentreStatus | None:
        now_ns = NOW_NS + round(seconds * 1e9)
        status = self.due(now_ns, 7, dropped or {}, [COMPILING] if compiling else [])
        assert status is None or CENTRE.decode(CENTRE.encode(status)) == status
        return status


@pytest.fixture
def bulletin(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


def late_clock(size_s: float = 0.31, bangs: int = 14) -> Fault:
    return Fault(node="roof", kind="clock", size_s=size_s, sigma=0.004, since_ns=NOW_NS, bangs=bangs)


def test_a_status_is_due_every_half_minute(bulletin: Told) -> None:
    told = [second for second in range(120) if bulletin.at(second) is not None]
    assert told == [0, 30, 60, 90]
    assert EVERY_NS == 30_000_000_000


def test_a_fault_is_told_at_once_and_said_once_and_so_is_its_end(bulletin: Told) -> None:
    assert bulletin.at(0) is not None
    bulletin.faults = [late_clock()]
    status = bulletin.at(1)
    assert status is not None
    assert status.faults is not None
    assert status.faults[0].text == "clock is late by 310 ms (from 14 bangs)"
    assert (status.faults[0].size_s, status.faults[0].sigma_s, status.faults[0].size_m) == (0.31, 0.004, None)
    assert bulletin.changes() == ["node roof: clock is late by 310 ms (from 14 bangs)"]
    bulletin.faults = [late_clock(0.30, 15)]
    assert bulletin.at(2) is None
    bulletin.faults = [late_clock(0.5, 20)]
    assert bulletin.at(3) is not None
    assert bulletin.changes() == ["node roof: clock is late by 500 ms (from 20 bangs)"]
    bulletin.faults = []
    status = bulletin.at(4)
    assert status is not None
    assert status.faults is None
    assert bulletin.changes() == ["node roof: the clock is right again"]
    assert bulletin.changes() == []


def test_a_place_that_is_wrong_is_told_in_metres_and_an_early_clock_as_early(bulletin: Told) -> None:
    place = Fault(node="mill", kind="place", size_m=5_100.0, sigma=12.0, since_ns=NOW_NS, bangs=3)
    bulletin.faults = [place, late_clock(-0.04, 1)]
    status = bulletin.at(0)
    assert status is not None
    assert [fault.text for fault in status.faults or []] == [
        "place is off by 5.1 km (from three bangs)",
        "clock is early by 40 ms (from one bang)",
    ]


def test_a_centre_that_compiles_says_so_and_when_it_is_done(bulletin: Told) -> None:
    first, second = bulletin.at(0, compiling=True), bulletin.at(1, compiling=False)
    assert first is not None
    assert first.problems is not None
    assert "Compiling" in first.problems[0]
    assert second is not None
    assert second.problems is None


def test_a_node_that_jumped_is_told_at_once_and_for_an_hour(bulletin: Told) -> None:
    assert bulletin.at(0) is not None
    bulletin.jumped("roof", 5_100.0, NOW_NS + 1_000_000_000)
    status = bulletin.at(1)
    assert status is not None
    assert status.problems == ["Node roof jumped by 5.1 km at 00:00:01 UTC."]
    bulletin.jumped("roof", 70.0, NOW_NS + 2_000_000_000)
    assert bulletin.at(2) is None
    later = bulletin.at(40)
    assert later is not None
    assert later.problems == ["Node roof jumped by 70 m at 00:00:02 UTC."]
    much_later = bulletin.at(3_700)
    assert much_later is not None
    assert much_later.problems is None


def test_of_many_nodes_that_jump_the_last_are_told(bulletin: Told) -> None:
    for number in range(100):
        bulletin.jumped(f"node-{number}", 100.0, NOW_NS)
    status = bulletin.at(0, compiling=True)
    assert status is not None
    assert status.problems is not None
    assert len(status.problems) == MAX_PROBLEMS
    assert "node-99" in status.problems[-1]


def test_events_are_counted_once_and_retractions_too(bulletin: Told, town: "Town") -> None:
    event = an_event(town, 10.0)
    bulletin.note(event)
    bulletin.note(msgspec.structs.replace(event, revision=1))
    bulletin.note(msgspec.structs.replace(event, revision=2, status="retracted"))
    status = bulletin.at(0)
    assert status is not None
    assert (status.events, status.retracted, status.detections) == (1, 1, 7)


def test_endless_reasons_fit_and_none_is_lost_from_the_sum(bulletin: Told) -> None:
    dropped = {f"reason {number} {'x' * 300}": number + 1 for number in range(200)}
    status = bulletin.at(0, dropped=dropped)
    assert status is not None
    assert status.dropped is not None
    assert len(status.dropped) <= MAX_REASONS
    assert sum(status.dropped.values()) == sum(dropped.values())


def test_the_will_says_that_the_centre_has_gone(bulletin: Told) -> None:
    assert not bulletin.will().online
