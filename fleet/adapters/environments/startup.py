"""Goes into every prepared environment: finds the checkout wherever it is mounted, *after* all installed packages.

Appended, not put in front as PYTHONPATH would: a module of the checkout that is called like a tool's must not stand
in for it. Reads FLEET_SITE_PATHS (folders) and FLEET_GENERATED (modules that the build made and git does not hold).
"""

import importlib.machinery
import importlib.util
import os
import sys


class Generated:
    """Finds modules below ``root`` that no other finder knows, such as a version file or a compiled extension."""

    def __init__(self, root: str) -> None:
        self.root = root

    def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]
        base = os.path.join(self.root, *name.split("."))
        for suffix in (*importlib.machinery.EXTENSION_SUFFIXES, ".py"):
            if os.path.isfile(base + suffix):
                return importlib.util.spec_from_file_location(name, base + suffix)
        return None


def extend():  # type: ignore[no-untyped-def]
    """Called by fleet.pth at the start of the interpreter."""
    for entry in os.environ.get("FLEET_SITE_PATHS", "").split(os.pathsep):  # noqa: TID251 - runs in the sandbox
        if entry and entry not in sys.path:
            sys.path.append(entry)
    root = os.environ.get("FLEET_GENERATED")  # noqa: TID251 - runs in the sandbox
    if root:
        sys.meta_path.append(Generated(root))
