"""Threads for code that blocks, bounded: a `pool`, its `queue`, and how calls get to its `threads`."""
