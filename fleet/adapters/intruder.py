"""Start-up guard against other people's packages with our names.

``supervisor`` and ``fleet`` exist on package indexes; one that stands earlier on the path, or was installed over ours,
would run in our place. Nothing is imported to find out.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.machinery
import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path

from fleet.core.errors import UsageError

DISTRIBUTION = "ticketfleet"
PACKAGES = ("fleet", "workers", "supervisor", "ci_gates")
OUR_ROOT = Path(__file__).resolve().parents[2]


def check_packages(path: Sequence[str] | None = None, root: Path = OUR_ROOT) -> None:
    """Each of our packages comes from ``root``, as found along ``path`` (None: ``sys.path``).

    Raises UsageError that names the first intruder, or the package that is missing.
    """
    for name in PACKAGES:
        found = _location(name, sys.path if path is None else path)
        if found is None:
            raise UsageError(
                f"The package {name!r} is missing beside {root / PACKAGES[0]}.",
                "Restore the checkout, or install the fleet again.",
            )
        if found.resolve() != root / name:
            raise UsageError(
                f"A foreign package {name!r} at {found} stands before the fleet's own at {root / name}.",
                "Uninstall it here, or run bin/fleet, which has an environment of its own.",
            )
    overwritten = _overwritten(root)
    if overwritten is not None:
        raise UsageError(
            f"Another distribution has replaced {overwritten}, which belongs to the fleet.",
            f"Install {DISTRIBUTION} again, in an environment of its own.",
        )


def _location(name: str, path: Sequence[str]) -> Path | None:
    spec = importlib.machinery.PathFinder.find_spec(name, list(path))
    if spec is None:
        return None
    if spec.origin is not None:
        origin = Path(spec.origin)
        return origin.parent if origin.stem == "__init__" else origin
    places = list(spec.submodule_search_locations or ())  # a folder without __init__.py
    return Path(places[0]) if places else None


def _overwritten(root: Path) -> Path | None:
    """A package file of ours whose bytes are not those that were installed; None in a checkout."""
    for distribution in importlib.metadata.distributions(name=DISTRIBUTION, path=[str(root)]):
        if Path(str(distribution.locate_file(""))).resolve() != root:
            continue
        for file in distribution.files or ():
            if file.hash is None or len(file.parts) != 2 or file.parts[0] not in PACKAGES:
                continue
            place = Path(str(distribution.locate_file(file)))
            digest = hashlib.new(file.hash.mode, place.read_bytes() if place.exists() else b"").digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                return place
    return None
