"""``fleet init``: a first ``.fleet.toml``, written once and then a person's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fleet.cli.app import app, put_json
from fleet.cli.safe import safe
from fleet.core.errors import UsageError


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="A checkout.")] = Path("."),
    force: Annotated[bool, typer.Option("--force", help="Replace the .fleet.toml that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines for scripts.")] = False,
) -> None:
    """Write a commented .fleet.toml with the gates that the fleet finds in a checkout. It changes none of them."""
    from ci_gates.checkout import first_config  # noqa: PLC0415 - the gates' code, which other commands do not need

    file, text = first_config(path)
    write_first(file, text, force)
    if as_json:
        put_json({"type": "written", "path": str(file)})
    else:
        print(f"wrote {safe(str(file))}; read it, then commit it: the fleet reads it from the base branch")


def write_first(file: Path, text: str, force: bool) -> None:
    """Never follows a link, and replaces nothing unless ``force``. Raises UsageError."""
    scratch = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        with scratch.open("x", encoding="utf-8") as made:
            made.write(text)
        if force:
            scratch.replace(file)
        else:
            os.link(scratch, file)
    except FileExistsError as error:
        raise UsageError(f"{file} is already there.", "Edit it, or say --force to replace it.") from error
    finally:
        scratch.unlink(missing_ok=True)
