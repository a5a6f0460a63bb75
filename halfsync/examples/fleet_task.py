"""A task that runs once in a fleet: the process that holds an advisory lock of PostgreSQL runs it.

pip install "psycopg[binary]"    # beside halfsync
python fleet_task.py --database=postgresql://...

The lock belongs to a session: when its process or its connection dies, PostgreSQL frees it for another one.
The old holder may not know that yet, so each holder has a number (a fencing token) larger than all before it,
and what it writes is refused where a larger one has written.
"""

import sys
from typing import Any, LiteralString

import psycopg

from halfsync import About, Admin, Manhole, Periodic, Process, Tasks, flag, flags, get_logger, run

log = get_logger(__name__)

LOCK = 0x68616C66
"""The number of the lock; the same in the whole fleet."""


@flags.declare(flag.namespace(__name__))
class FLAGS:
    """The fleet."""

    database = flag.String("Where PostgreSQL is.", default="postgresql://127.0.0.1/postgres", secure=True)
    interval = flags.Seconds("Time between two runs.", default=5)


class Leadership:
    """The lock of the fleet, held by a connection of its own."""

    def __init__(self) -> None:
        self._connection: psycopg.Connection[Any] | None = None
        self.number = 0
        """The fencing number of this holder."""

    def held(self) -> bool:
        """Say whether this process is the one, trying to become it."""
        try:
            if self._connection is not None:
                # The lock lives as long as the session: ask it, instead of believing.
                self._connection.execute("SELECT 1")
                return True
            connection = psycopg.connect(FLAGS.database, autocommit=True, connect_timeout=5)
            if not _one(connection, "SELECT pg_try_advisory_lock(%s)", LOCK):
                connection.close()
                return False
            connection.execute("CREATE SEQUENCE IF NOT EXISTS fleet_fence")
            self.number = _one(connection, "SELECT nextval('fleet_fence')")
        except psycopg.Error as error:
            log.warning("fleet.unsure", reason=str(error))
            self._connection = None
            return False
        self._connection = connection
        log.info("fleet.leading", number=self.number)
        return True

    def write(self, word: str) -> bool:
        """Write in the name of the fleet; False when a later holder has written."""
        assert self._connection is not None  # noqa: S101  whoever writes has asked held()
        self._connection.execute("CREATE TABLE IF NOT EXISTS fleet (fence bigint, word text)")
        done = self._connection.execute(
            "INSERT INTO fleet SELECT %(me)s, %(word)s"
            " WHERE NOT EXISTS (SELECT FROM fleet WHERE fence > %(me)s)",
            {"me": self.number, "word": word},
        )
        return done.rowcount == 1


def _one(connection: psycopg.Connection[Any], statement: LiteralString, *values: object) -> Any:
    row = connection.execute(statement, values).fetchone()
    return row[0] if row else None


def parts(process: Process) -> None:
    """Name the parts in the order in which they start."""
    process.add(Admin.from_flags(process))
    process.add(Manhole.from_flags(process))
    leadership = Leadership()

    def report() -> None:
        # A plain function: it runs in a thread, where it may block.
        if leadership.held():
            log.info("fleet.reported", number=leadership.number, written=leadership.write("report"))

    process.add(Tasks(Periodic("report", FLAGS.interval, report, reactor=process.reactor)))


if __name__ == "__main__":
    sys.exit(run(About("fleet-task", version="1.0"), parts))
