"""The admin interface: the process seen and changed by HTTP.

The reactor answers, also when every worker thread is busy.

listener where it answers
pages    the paths and what they answer
metrics  the figures, for Prometheus
info     versions and the build
guard    who may change something
body     what a change says
"""

from halfsync.admin.listener import FLAGS, Admin

__all__ = ["FLAGS", "Admin"]
