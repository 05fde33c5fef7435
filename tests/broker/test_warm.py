"""Warming up: after it, the first bang finds everything compiled."""

import sys
from multiprocessing import get_context
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

from soundranger_broker.locator import Locator
from soundranger_broker.warm import warm_up
from soundranger_node.messages import DETECTION, Detection, Event

if TYPE_CHECKING:
    from tests.broker.conftest import Town

pytestmark = pytest.mark.slow


def compiled() -> set[str]:
    """Return what is compiled in this process: the functions, each with the types of its arguments."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("soundranger_broker")]
    functions = {one for module in modules for one in vars(module).values() if isinstance(one, Dispatcher)}
    return {f"{one.py_func.__qualname__}{types}" for one in functions for types in one.signatures}


def compiled_by(heard: list[Detection]) -> tuple[int, set[str], list[str]]:
    """Return how much is compiled after warming up, what is after that, and what became of what was heard."""
    warm_up()
    before = compiled()
    locator, news = Locator(1_000_000_000), list[str]()
    for one in heard:
        locator.detection(DETECTION.encode(one), one.time_ns)
        news += [item.status for item in locator.advance(one.time_ns) if isinstance(item, Event)]
    news += [item.status for item in locator.advance(heard[-1].time_ns + 60_000_000_000) if isinstance(item, Event)]
    return len(before), compiled() - before, news


def test_the_first_bangs_compile_nothing(town: "Town") -> None:
    heard = [
        one
        for seed, at_s in enumerate((10.3, 12.3))
        for one in town.hear(60.0, -40.0, at_s, np.random.default_rng(seed))
    ]
    # Other tests of this process have compiled what they needed.
    with get_context("spawn").Pool(1) as pool:
        known, new, news = pool.apply(compiled_by, (heard,))
    assert known > 0
    assert news.count("final") == 2
    assert "preliminary" in news
    assert new == set()
