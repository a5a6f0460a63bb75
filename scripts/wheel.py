"""Build the library's wheel to where the skeleton carries it, and renew its hash in the skeleton's locks.

It needs no network. A bake does not need it: it builds the wheel anew, and fills in the hash.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hooks.post_gen_project import vendor

ROOT = Path(__file__).resolve().parent.parent
SKELETON = ROOT / "{{cookiecutter.project_slug}}"


def main() -> None:
    """Build the wheel, and say where it is."""
    wheel = vendor(ROOT / "halfsync", SKELETON / "vendor", sorted(SKELETON.glob("requirements@*.lock")))
    sys.stdout.write(f"{wheel.relative_to(ROOT)}; its hash is in the skeleton's locks\n")


if __name__ == "__main__":
    main()
