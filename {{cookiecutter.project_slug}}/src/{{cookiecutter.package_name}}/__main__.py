"""`python -m` and the pex run the same `main`."""

import sys

from .main import main

sys.exit(main())
