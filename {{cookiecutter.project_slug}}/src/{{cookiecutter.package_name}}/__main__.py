"""`python -m` and the pex run the same `main`."""

import sys

from halfsync import hold_signals

# The imports below take a while, in which a signal would be lost, or end the process.
hold_signals()

from .main import main  # noqa: E402  see above

sys.exit(main())
