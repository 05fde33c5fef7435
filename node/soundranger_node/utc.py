"""UTC in integer nanoseconds, and from ISO 8601 text to these, exactly."""

import re
from datetime import UTC, datetime, timedelta

NS_PER_S = 1_000_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(Z|z|[+-]\d\d:?\d\d)?", re.ASCII)


def utc_ns(text: str) -> int:
    """Return the UTC of an ISO 8601 time, such as 2018-12-19T00:49:26.123456789Z, in nanoseconds since 1970.

    Raises:
        ValueError: it is no such time, or does not say its zone; the message is what is wrong with it.
    """
    parts = _ISO.fullmatch(text.strip())
    if parts is None:
        raise ValueError("is not an ISO 8601 time such as 2018-12-19T00:49:26.123Z")
    seconds, fraction, zone = parts.groups()
    if zone is None:
        raise ValueError("does not say its time zone: end it with Z for UTC")
    try:
        moment = datetime.fromisoformat(seconds + zone.upper())
        whole = (moment - _EPOCH) // timedelta(seconds=1)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"is not a possible time ({error})") from None
    return whole * NS_PER_S + int((fraction or "0").ljust(9, "0"))
