"""Which tier is opened, what is said when none holds, and that the probe notices each missing protection."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.adapters.clock import SystemClock
from fleet.adapters.sandbox import (
    BubblewrapSandbox,
    LandlockSandbox,
    NullSandbox,
    SystemFacts,
    bpf,
    detect,
    launcher,
    matrix,
    open_sandbox,
    probe,
    probe_tiers,
)
from fleet.core.errors import InternalError, ParkError
from fleet.core.sandbox import Sandbox, SandboxSpec, Tier
from tests.sandbox.conftest import SLOT, Ground, command_uid, open_box, slot_uid

MODERN = SystemFacts(
    machine="x86_64",
    kernel="6.12.0",
    boot="b",
    uid=1000,
    bwrap="/usr/bin/bwrap",
    bwrap_version=(0, 8, 0),
    user_namespaces=True,
    namespace_mend="",
    landlock_abi=6,
)
APPARMOR = "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
NOTHING = replace(MODERN, user_namespaces=False, namespace_mend=APPARMOR, landlock_abi=4)


def _open(ground: Ground, facts: SystemFacts, **settings: object) -> Sandbox:
    wanted: dict[str, object] = {"slot_uid": slot_uid(), "system": facts, **settings}
    return open_sandbox(scratch=ground.scratch, clock=SystemClock(), **wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "available", "reason", "mend"),
    [
        (MODERN, [True, True], "", ""),
        (replace(MODERN, bwrap=None, bwrap_version=()), [False, True], "not installed", "sudo apt-get install"),
        (replace(MODERN, bwrap_version=(0, 6, 1)), [False, True], "0.6.1 is older", "sudo apt-get install"),
        (NOTHING, [False, False], "forbids user namespaces", APPARMOR),
        (replace(MODERN, landlock_abi=0), [True, False], "", ""),
        (replace(MODERN, machine="riscv64"), [False, False], "no system call filter for riscv64", ""),
        (replace(MODERN, linux=False), [False, False], "no system call filter", ""),
    ],
)
def test_tiers_follow_the_facts(facts: SystemFacts, available: list[bool], reason: str, mend: str) -> None:
    reports = probe_tiers(facts)
    assert [report.tier for report in reports] == [Tier.BUBBLEWRAP, Tier.LANDLOCK]
    assert [report.available for report in reports] == available
    assert reason in reports[0].reason
    assert mend in reports[0].mend
    assert json.loads(json.dumps([report.to_dict() for report in reports]))[0]["available"] is available[0]
    assert len(matrix(reports)) == 2


@pytest.mark.invariant("I9")
def test_no_tier_parks_and_says_the_one_command(ground: Ground) -> None:
    with pytest.raises(ParkError) as caught:
        _open(ground, NOTHING)
    assert caught.value.reason == "no_sandbox"
    assert "Landlock ABI 4" in caught.value.message
    assert APPARMOR in caught.value.hint


@pytest.mark.invariant("I9")
def test_a_program_that_is_no_bwrap_is_found_out_by_the_probe(ground: Ground) -> None:
    # it answers like bwrap and runs the command with nothing around it
    fake = ground.area / "bwrap"
    fake.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n')
    fake.chmod(0o755)
    facts = replace(detect(), bwrap=str(fake), bwrap_version=(9, 9), user_namespaces=True, landlock_abi=0)
    with pytest.raises(ParkError, match="bubblewrap could not build the sandbox"):
        _open(ground, facts)


@pytest.mark.invariant("I9")
def test_only_allowed_tiers_are_opened(ground: Ground) -> None:
    with pytest.raises(ParkError, match="no tier is allowed"):
        _open(ground, detect(), allow=())
    with pytest.raises(ParkError, match="no tier is allowed"):
        _open(ground, detect(), allow=(Tier.NULL,))


@pytest.mark.root("root without a slot")
@pytest.mark.parametrize("slot", [None, 0, -1])
def test_root_without_a_slot_is_refused(ground: Ground, slot: int | None) -> None:
    with pytest.raises(InternalError, match="slot"):
        _open(ground, detect(), slot_uid=slot)


@pytest.mark.root("slots with uids of their own")
def test_the_group_of_the_slots_opens_the_fleets_folders(ground: Ground) -> None:
    group = command_uid() + 9
    for folder in (ground.area, ground.scratch):
        os.chown(folder, 0, group)
        folder.chmod(0o750)
    with pytest.raises(InternalError, match="is closed to it"):
        _open(ground, detect())
    for tier in (report.tier for report in probe_tiers() if report.available):
        sandbox = _open(ground, detect(), slot_gid=group, allow=(tier,))
        result = sandbox.run(SandboxSpec(("touch", "mine"), ground.workspace))
        made = (ground.workspace / "mine").stat()
        assert result.ok
        assert (made.st_uid, made.st_gid) == (command_uid(), group)
        (ground.workspace / "mine").unlink()


@pytest.mark.needs("bwrap")
def test_the_best_tier_is_opened_and_remembered(ground: Ground) -> None:
    facts = detect()
    first = _open(ground, facts)
    proofs = probe.ProofCache(ground.scratch, facts)
    assert first.tier is Tier.BUBBLEWRAP
    assert proofs.known(Tier.BUBBLEWRAP, command_uid())
    assert not proofs.known(Tier.LANDLOCK, command_uid())
    assert not proofs.known(Tier.BUBBLEWRAP, command_uid() + 1)
    other_boot = probe.ProofCache(ground.scratch, replace(facts, boot="another"))
    assert not other_boot.known(Tier.BUBBLEWRAP, command_uid())


def test_without_namespaces_landlock_is_opened(ground: Ground) -> None:
    facts = detect()
    if facts.landlock_abi < 6:
        pytest.skip("the kernel has no Landlock ABI 6 (Linux 6.12)")
    sandbox = _open(ground, replace(facts, user_namespaces=False, namespace_mend=APPARMOR))
    assert sandbox.tier is Tier.LANDLOCK
    assert sandbox.inside(ground.workspace) == ground.workspace


@pytest.mark.parametrize("forge", ["mode", "content", "symlink", "owner"])
def test_a_proof_that_others_could_have_written_is_not_believed(ground: Ground, forge: str) -> None:
    proofs = probe.ProofCache(ground.scratch, MODERN)
    proofs.remember(Tier.LANDLOCK, 7)
    (path,) = ground.scratch.iterdir()
    assert proofs.known(Tier.LANDLOCK, 7)
    if forge == "mode":
        path.chmod(0o644)
    elif forge == "content":
        path.write_text("yes")
    elif forge == "symlink":
        path.rename(ground.area / "elsewhere")
        path.symlink_to(ground.area / "elsewhere")
    elif os.geteuid() == 0:
        os.chown(path, SLOT, SLOT)
    else:
        path.unlink()
    assert not proofs.known(Tier.LANDLOCK, 7)


def _without(*words: str) -> Callable[[pytest.MonkeyPatch], None]:
    def weaken(patch: pytest.MonkeyPatch) -> None:
        strong = BubblewrapSandbox.isolation
        patch.setattr(BubblewrapSandbox, "isolation", lambda self: [w for w in strong(self) if w not in words])

    return weaken


def _no_filter(owner: type) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(owner, "program", lambda self: bpf.assemble([bpf.ret(bpf.ALLOW)]))


def _bind_scratch(patch: pytest.MonkeyPatch) -> None:
    strong = BubblewrapSandbox.arguments

    def weak(self: BubblewrapSandbox, spec: SandboxSpec, files: dict[str, int], seccomp: int) -> list[str]:
        words = strong(self, spec, files, seccomp)
        area = str(spec.workspace.parents[2])
        return [*words[: words.index("--remount-ro")], "--bind", area, area, *words[words.index("--remount-ro") :]]

    patch.setattr(BubblewrapSandbox, "arguments", weak)


@pytest.mark.invariant("I9")
@pytest.mark.needs("bwrap")
@pytest.mark.parametrize(
    ("weaken", "breach"),
    [
        (_without("--unshare-net"), "connect_tcp"),
        (_without("--unshare-net"), "connect_abstract_socket"),
        (_no_filter(BubblewrapSandbox), "open_datagram"),
        (_no_filter(BubblewrapSandbox), "trace"),
        (_bind_scratch, "read_outside"),
        (_bind_scratch, "write_outside"),
        (_bind_scratch, "connect_path_socket"),
    ],
)
def test_mutant_of_bubblewrap_is_noticed(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, weaken: Callable[[pytest.MonkeyPatch], None], breach: str
) -> None:
    weaken(monkeypatch)
    proof = probe.prove(open_box(Tier.BUBBLEWRAP, ground).sandbox, ground.scratch, slot_uid())
    assert breach in proof.breaches, proof
    with pytest.raises(ParkError, match=breach):
        _open(ground, replace(detect(), landlock_abi=0))
    assert not probe.ProofCache(ground.scratch, detect()).known(Tier.BUBBLEWRAP, command_uid())


def _launcher_with(old: str, new: str) -> Callable[[pytest.MonkeyPatch, Path], None]:
    def weaken(patch: pytest.MonkeyPatch, area: Path) -> None:
        text = Path(launcher.__file__).read_text()
        assert old in text
        (area / "launcher.py").write_text(text.replace(old, new))
        patch.setattr(launcher, "__file__", str(area / "launcher.py"))

    return weaken


NO_RULES = _launcher_with("        kernel.restrict(rules)\n", "")
NO_NET_RULES = _launcher_with("_ALL_NET = 0b11", "_ALL_NET = 0")
NO_SCOPES = _launcher_with("_ALL_SCOPES = 0b11", "_ALL_SCOPES = 0")


@pytest.mark.invariant("I9")
@pytest.mark.parametrize(
    ("weaken", "filtered", "breach"),
    [
        (NO_RULES, True, "read_outside"),
        (NO_RULES, True, "write_through_link"),
        (NO_RULES, True, "see_host_process"),
        (NO_SCOPES, True, "signal_host"),
        (NO_SCOPES, False, "connect_abstract_socket"),
        (NO_NET_RULES, False, "connect_tcp"),
        (None, False, "connect_path_socket"),
        (None, False, "open_datagram"),
        (_launcher_with("        kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1)\n", ""), True, None),
    ],
)
def test_mutant_of_landlock_is_noticed(
    ground: Ground,
    monkeypatch: pytest.MonkeyPatch,
    weaken: Callable[[pytest.MonkeyPatch, Path], None] | None,
    filtered: bool,
    breach: str | None,
) -> None:
    box = open_box(Tier.LANDLOCK, ground)
    if weaken is not None:
        weaken(monkeypatch, ground.area)
    if not filtered:
        _no_filter(LandlockSandbox)(monkeypatch)
    proof = probe.prove(box.sandbox, ground.scratch, slot_uid())
    assert not proof.holds
    assert breach is None or breach in proof.breaches, proof


def test_the_null_sandbox_runs_nothing(ground: Ground) -> None:
    result = NullSandbox().run(SandboxSpec(("touch", str(ground.area / "touched")), ground.workspace))
    assert result.ok
    assert not (ground.area / "touched").exists()
    assert NullSandbox().tier is Tier.NULL


@pytest.mark.root("becoming an ordinary user, who runs the other tests as one")
def test_an_ordinary_user_opens_both_tiers(ground: Ground) -> None:
    source = Path(launcher.__file__).parents[3]
    shutil.copytree(source / "fleet", ground.area / "fleet", ignore=shutil.ignore_patterns("__pycache__"))
    os.chown(ground.scratch, SLOT, SLOT)
    script = (
        "import sys; from pathlib import Path; from fleet.adapters.clock import SystemClock\n"
        "from fleet.adapters.sandbox import open_sandbox; from fleet.core.sandbox import Tier\n"
        "for tier in sys.argv[2:]:\n"
        "    print(open_sandbox(scratch=Path(sys.argv[1]), clock=SystemClock(), allow=(Tier(tier),)).tier.value)"
    )
    wanted = [report.tier.value for report in probe_tiers() if report.available]
    program, _ = ground.python()
    done = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -n 300; exec "$@"', "sh", program, "-B", "-c", script, str(ground.scratch), *wanted],
        cwd=ground.area,
        env={"PYTHONPATH": str(ground.area)},
        user=SLOT,
        group=SLOT,
        extra_groups=[],
        capture_output=True,
        check=False,
    )
    assert done.stdout.decode().split() == wanted, done.stderr.decode()


@pytest.mark.needs("bwrap")
@pytest.mark.parametrize("folder", ["/proc/self", "/dev/shm"])
def test_a_folder_that_the_sandbox_has_itself_cannot_be_shown(ground: Ground, folder: str) -> None:
    box = open_box(Tier.BUBBLEWRAP, ground)
    with pytest.raises(InternalError, match="of its own"):
        box.sh("true", read_only=(Path(folder),))


@pytest.mark.needs("bwrap")
def test_loopback_inside_bubblewrap_is_its_own(ground: Ground) -> None:
    box = open_box(Tier.BUBBLEWRAP, ground)
    script = (
        "import socket\nserver = socket.create_server(('127.0.0.1', 0))\n"
        "client = socket.create_connection(server.getsockname())\nprint(server.getsockname()[1])"
    )
    result = box.py(script)
    assert result.ok, result.stderr
    with socket.socket() as outside:
        assert outside.connect_ex(("127.0.0.1", int(result.stdout))) != 0
