"""The ``fleet`` command. Each module adds commands to the one Typer app in ``fleet.cli.app``."""
