"""The core is pure: its tests need no fixture but the settings of hypothesis."""

from __future__ import annotations

import tests.support.hypothesis_profile  # noqa: F401 - imported for its effect
