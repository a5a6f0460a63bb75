"""The admin interface: the process seen and changed by HTTP.

The reactor answers, also when every worker thread is busy.

pages    the paths and what they answer
guard    who may change something
body     what a change says
part     the listener of its own
"""

from .part import FLAGS, Admin

__all__ = ["FLAGS", "Admin"]
