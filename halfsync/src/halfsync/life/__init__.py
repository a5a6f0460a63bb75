"""From parts to an exit code: what starts, serves, drains and stops a process."""
