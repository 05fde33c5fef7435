"""What the check of a bundle found, in sentences for a person."""

from collections import Counter
from collections.abc import Iterator

from soundranger_broker.evidence.relocate import Relocation
from soundranger_broker.evidence.report import utc
from soundranger_broker.evidence.verify import Outcome
from soundranger_broker.words import counted


def sentences(outcome: Outcome) -> Iterator[str]:
    """Yield what was found, the verdict last."""
    yield f"Event {outcome.event}, bundle made at {utc(outcome.made_ns)} by soundranger {outcome.software}."
    if outcome.stated is not None:
        stated, ellipse = outcome.stated, outcome.stated.ellipse95
        yield (
            f"Stated ({stated.status}): {stated.lat:.6f}, {stated.lon:.6f} at {utc(stated.time_ns)}, within "
            f"{ellipse.semi_major_m:.1f} x {ellipse.semi_minor_m:.1f} m (95 %)."
        )
    yield f"From the arrivals alone: {_found(outcome.arrivals)}."
    yield f"From the clips alone ({outcome.clips}): {_found(outcome.sound)}."
    verdicts = Counter(one.verdict for one in outcome.signatures)
    said = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    yield f"Detections: {said or 'none'}."
    if outcome.entries is not None:
        left = f", without {outcome.left_out} between them about other things" if outcome.left_out else ""
        yield f"Log: entries {outcome.entries[0]} to {outcome.entries[1]}{left}; the newest is {outcome.head}."
    for problem in outcome.problems:
        yield f"Wrong: {problem}"
    if outcome.agree:
        yield "All three agree, and nothing was changed."
    else:
        yield f"This bundle does not hold: {counted(len(outcome.problems), 'thing')} in it {_is(outcome)} wrong."


def _is(outcome: Outcome) -> str:
    return "is" if len(outcome.problems) == 1 else "are"


def _found(found: Relocation | None) -> str:
    if found is None:
        return "no location"
    where = f"{found.distance_m:.1f} m from there and {found.later_s * 1e3:+.1f} ms, from {found.arrivals} arrivals"
    if found.other_place:
        return f"{where}, at another of the places that the event names"
    return f"{where}, {'within' if found.agrees else 'outside of'} the ellipses"
