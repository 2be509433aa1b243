"""All commands in one place: importing a module registers its commands."""

import fleet.cli.approve
import fleet.cli.bench
import fleet.cli.chaos
import fleet.cli.demo
import fleet.cli.home_commands
import fleet.cli.init
import fleet.cli.pause
import fleet.cli.replay
import fleet.cli.run
import fleet.cli.simulate
import fleet.cli.tickets  # noqa: F401
from fleet.cli.app import app

__all__ = ["app"]
