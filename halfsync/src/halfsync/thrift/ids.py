"""The name of a call: the client's, or one made here, so that its lines can be found in every log.

The header `x-request-id` (THeader) names it when that is printable and short; else the trace of `traceparent`
does (W3C Trace Context section 3.2); else it gets a name that no other call has, here or in another process.
"""

from __future__ import annotations

import os
import re
from itertools import count
from typing import TYPE_CHECKING

from structlog.contextvars import bind_contextvars

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUEST_ID = "x-request-id"
TRACEPARENT = "traceparent"
