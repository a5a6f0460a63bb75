"""Waitress. Arguments: port, threads, and `poll` to have it use poll(2) instead of select(2).

Its warnings about a queue of more than one, several a millisecond under load, are left out:
access logs are off for everybody.
"""

from __future__ import annotations

import logging
import sys

from app import application
from waitress import serve

if __name__ == "__main__":
    logging.getLogger("waitress").setLevel(logging.ERROR)
    serve(
        application,
        listen=f"127.0.0.1:{sys.argv[1]}",
        threads=int(sys.argv[2]),
        connection_limit=100_000,
        asyncore_use_poll="poll" in sys.argv[3:],
    )
