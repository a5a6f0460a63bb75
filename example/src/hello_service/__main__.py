"""`python -m` and the pex begin here: what comes ahead of the other imports, which take a while."""

import sys

import halfsync

# A signal until the service runs does no harm; one to stop is obeyed then.
halfsync.hold_signals()
# --service.reactor chooses, whatever imports the reactor first.
halfsync.arrange_reactor("hello_service")

from .main import main  # noqa: E402 - see above

if __name__ == "__main__":
    sys.exit(main())
