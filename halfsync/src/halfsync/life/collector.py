"""The garbage collector of a server with thousands of connections: it must not stop the world to count them.

CPython's default looks at every object that is alive after each 70,000 that were made and kept,
and all requests wait for it: 40 to 100 ms with 8,000 idle connections.
What is alive once all parts have started, modules and code above all, stays: `gc.freeze` takes it out.
After that the youngest objects are looked at in small batches, so that the longest pause is short,
and all of them seldom.

What it costs: reference counts free a request's objects at once, but cycles that outlive a few collections
stay in memory until the next full one, which may be 5 million new objects away instead of 70,000;
and a cycle among what was there at the start is never freed.
"""

from __future__ import annotations

import gc

from halfsync import flag, flags
from halfsync.flags import types as flagtypes

TUNED = "tuned"
PYTHON = "python"

THRESHOLDS = (5_000, 2, 300)
"""New objects before the youngest are looked at; rounds before the next generation; and before all.

After Python's ten rounds, a look at the next generation took 40 to 60 ms while clients filled the memory.
"""


@flags.declare(flag.namespace("service"), at_start=True)
class FLAGS:
    """The garbage collector."""

    gc = flagtypes.Choice(
        "tuned: full collections are rare and leave out what was there at the start; python: its defaults.",
        default=TUNED,
        choices=(TUNED, PYTHON),
    )


def tune_from_flags() -> None:
    """Do as `--service.gc` says; once every part has started."""
    if FLAGS.gc == TUNED:
        tune()


def tune() -> None:
    """Leave what is alive now out of all collections to come, and make those of everything rare."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
