"""What is watched for labels. Light: commands load it."""

from __future__ import annotations

from dataclasses import dataclass

# Where webhooks are sent, below the address of the intake's port.
WEBHOOK_PATH = "/webhook"


@dataclass(frozen=True, slots=True)
class Watched:
    """Issues of ``repo`` that carry ``label`` become tickets of ``agent`` (empty: nobody is named yet)."""

    repo: str
    label: str
    agent: str
