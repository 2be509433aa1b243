"""The services started one by one, as a Procfile runner does: one fleet, which commands find and do not start again."""

from __future__ import annotations

import re
from pathlib import Path

from fleet.local.services import NAMES
from tests.e2e.kit import CHECKOUT, fleet_home, repository
from tests.support.wait import eventually


def lines() -> dict[str, str]:
    return dict(re.findall(r"^(\w+): bin/fleet service (\w+)$", (CHECKOUT / "Procfile").read_text(), re.MULTILINE))


def test_the_procfile_names_every_service() -> None:
    assert sorted(lines().values()) == sorted(NAMES)
    assert all(name == service for name, service in lines().items())


def test_services_of_a_procfile_are_one_fleet(tmp_path: Path) -> None:
    with fleet_home() as fleet:
        services = [fleet.start("service", name) for name in lines().values()]
        assert eventually(lambda: sorted(fleet.services()) == sorted(NAMES), timeout=30)
        done = fleet.ticket(repository(tmp_path / "project"))
        assert (done.code, done.result["state"]) == (0, "in_review"), done.err
        refused = fleet("down")
        assert refused.code == 2
        assert "started one by one" in refused.err
        assert all(service.poll() is None for service in services)
        assert fleet.services().keys() == set(NAMES), "no host was started beside them"
