"""The abused application on the halfsync in place: what `--quick` starts. The arguments are flags."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "halfsync" / "src"))

from app import make_app  # type: ignore[import-not-found]  # noqa: E402  beside this file

from halfsync import About, serve_wsgi  # noqa: E402

if __name__ == "__main__":
    sys.exit(serve_wsgi(make_app(), About("abused", version="0")))
