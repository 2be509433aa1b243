"""The text of the pytest plugin, which is copied into the sandbox and never imported by the fleet."""

from __future__ import annotations

from importlib import resources


def read() -> bytes:
    return resources.files("ci_gates").joinpath("pytest_report.py").read_bytes()
