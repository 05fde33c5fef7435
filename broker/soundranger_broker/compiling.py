"""Compiling: gets the numerics ready, and says so where that takes long."""

import threading
from collections.abc import Callable

# With what was compiled before it takes less than this.
LONG_S = 3.0


def compile_numerics(say: Callable[[str], None]) -> None:
    """Compile the numerics where that was not done yet; `say` is told where it takes long."""
    from soundranger_broker.warm import warm_up  # noqa: PLC0415 - importing numba takes a second

    started = threading.Timer(LONG_S, say, ["compiling the locator (once; up to a minute) ..."])
    started.daemon = True
    started.start()
    try:
        warm_up()
    finally:
        started.cancel()
