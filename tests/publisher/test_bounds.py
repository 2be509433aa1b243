"""What the publisher never does (I13): each bound switched off, and the test that stands for it notices."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.publisher import test_publish as publish
from tests.publisher.world import World
from tests.support.mutants import Mutant

MUTANTS: dict[str, tuple[Mutant, Callable[[World], None]]] = {
    "a person's branch": (
        Mutant("fleet.publisher.service:Publisher._push", "if there not in self._our_heads(work):", "if False:"),
        publish.test_a_person_s_commits_on_the_branch_are_never_pushed_over,
    ),
    "approve": (
        Mutant(
            "fleet.adapters.forge_client:HubClient.create_pull_request",
            "body=body, draft=draft)",
            'body=body, draft=draft)\n        created.create_review(event="APPROVE", body="fine")',
        ),
        publish.test_no_other_verb_is_ever_used,
    ),
    "merge": (
        Mutant(
            "fleet.adapters.forge_client:HubClient.create_pull_request",
            "body=body, draft=draft)",
            "body=body, draft=draft)\n        created.merge()",
        ),
        publish.test_no_other_verb_is_ever_used,
    ),
}


@pytest.mark.invariant("I13")
@pytest.mark.parametrize("name", MUTANTS)
def test_a_bound_switched_off_is_noticed(name: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant, scenario = MUTANTS[name]
    mutant.install(monkeypatch)
    with pytest.raises(AssertionError):
        scenario(world)
    # The mutants say what no publisher of ours says, and the forge took note of it.
    world.forge.wrong.clear()
