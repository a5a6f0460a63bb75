"""oscar.flag under a name that has types: `from halfsync import flag`.

It is the same module object, so that a flag declared through either name is declared once;
oscar.flag ships no types, and `flag.pyi` beside this file has them for mypy and pyright.
Leave `oscar.flag.contrib` alone: importing it loads a second copy of oscar.flag, whose flags nobody sees.
"""

import sys

from oscar import flag

sys.modules[__name__] = flag
