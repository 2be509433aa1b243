"""Prepared environments: what a repository's commit asks for, fetched outside and installed offline, read-only."""

from __future__ import annotations

from fleet.adapters.environments.fetch import IndexSettings
from fleet.adapters.environments.kit import Room
from fleet.adapters.environments.service import WORKSPACE, PythonEnvironments, resolve_env

__all__ = ["WORKSPACE", "IndexSettings", "PythonEnvironments", "Room", "resolve_env"]
