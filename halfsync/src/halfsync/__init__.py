"""halfsync: a chassis for Python services on Twisted; all IO in the reactor, blocking work in threads.

From the top of the house to its ground; nothing below knows what stands above:

- `testing`    for the tests of what stands on the library
- `admin`      the process seen and changed over HTTP; `metrics` for Prometheus, `stacks` of every thread
- `manhole`    the process looked into over SSH, while it is open
- `tasks`      periodic work
- `http`       requests and responses, bounded; WSGI through threads
- `workers`    the threads that may block
- `endpoints`  where it listens: from a flag's strings to connections, TLS among them
- `life`       parts that start in order and stop in reverse; run, signals, drain, systemd, handover
- `logs`       one stream of structured events
- `flags`      default < file < environment < command line; `flags.types` are strict
"""

__version__ = "0.2.0"
