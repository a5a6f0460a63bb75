"""The name of a request, as HTTP gives and takes it: `halfsync.request_id` has it for every protocol."""

from halfsync.request_id import LONGEST, bind, made, named

__all__ = ["LONGEST", "bind", "made", "named"]
