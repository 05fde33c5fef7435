"""What schemathesis must know of the API that OpenAPI cannot say; it is named to it by the test that runs it."""

from typing import Any

import schemathesis


@schemathesis.hook
def filter_query(context: schemathesis.HookContext, query: dict[str, Any] | None) -> bool:  # noqa: ARG001
    """Ask for no box that is well formed and upside down: it is refused, and no pattern can say so."""
    try:
        _west, south, _east, north = (float(part) for part in (query or {})["bbox"].split(","))
    except (KeyError, ValueError, AttributeError):
        return True
    return south <= north
