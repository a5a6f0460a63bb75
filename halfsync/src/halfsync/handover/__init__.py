"""From one process to the next without a supervisor that holds the sockets: `--service.handover=PATH`.

part   both sides, as a part of the process
peers  the connection between the two processes
"""

from halfsync.handover.part import Handover

__all__ = ["Handover"]
