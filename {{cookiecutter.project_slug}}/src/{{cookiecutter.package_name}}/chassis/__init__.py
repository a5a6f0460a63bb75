"""The chassis: what the service stands on. It belongs to the template; an update replaces it whole.

From the top of the house to its ground:

- `run`        from parts to an exit code: signals, drain, stop; `systemd` hears of it, `handover` passes
               the sockets to a successor, `limits` and `collector` tune the process
- `admin`      the process seen and changed over HTTP, metrics for Prometheus too; `stacks` of every thread
- `manhole`    the process looked into over SSH, while it is open
- `http`       requests and responses, bounded; WSGI through threads
- `periodic`   what happens again and again
- `workers`    the threads that may block
- `endpoints`  where it listens: from a flag's strings to connections, TLS among them
- `lifecycle`  parts that start in order and stop in reverse; `reactors` is what they run on
- `logs`       one stream of structured events
- `flags`      default < file < environment < command line; `flagtypes` are strict
- `testing`    for the tests of what stands on the chassis
"""
