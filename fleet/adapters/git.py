"""The fleet's own bare repositories: where mirrors are kept, H is built, and from where is pushed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fleet.adapters.git_objects import (
    FileChange,
    MergeResult,
    NumStat,
    Person,
    PushResult,
    PushStatus,
    TreeEntry,
    parse_numstat,
    parse_push,
    parse_raw,
    parse_tree,
    printable,
)
from fleet.adapters.git_run import EMPTY_TREE, PLAIN_ATTRIBUTES, GitDenied, HttpToken, checked, git, network_error
from fleet.adapters.process import Completed
from fleet.core.errors import InternalError, RefusedError

__all__ = [
    "EMPTY_TREE",
    "BareRepo",
    "BlobTooLarge",
    "FileChange",
    "GitDenied",
    "HttpToken",
    "MergeResult",
    "NumStat",
    "Person",
    "PushResult",
    "PushStatus",
    "TreeEntry",
    "printable",
    "store_name",
]

_NETWORK_S = 1800.0
_FLEET = Person("Fleet", "fleet@localhost")


class BlobTooLarge(RefusedError):
    """A file is larger than the reader allows; it is never silently cut or taken for absent."""


def store_name(repo: str) -> str:
    """``owner/name`` as the folder name of its bare repository: ``owner__name.git``."""
    return repo.replace("/", "__") + ".git"


def repo_of(name: str) -> str:
    """``owner/name`` of such a folder. No forge allows an owner with an underscore."""
    return name.removesuffix(".git").replace("__", "/", 1)


class BareRepo:
    """One bare repository that only the fleet writes. Every path in and out is a str by ``os.fsdecode``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def init(cls, path: Path) -> BareRepo:
        """Creates it unless it is there; both ways its attributes make bytes equal blobs."""
        repo = cls(path)
        if not (path / "HEAD").exists():
            path.mkdir(parents=True, exist_ok=True)
            git("init", "--quiet", "--bare", "--template=", "--", str(path))
        repo._plain_attributes()
        return repo

    def call(
        self,
        *args: str,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        settings: tuple[tuple[str, str], ...] = (),
        timeout: float = 300.0,
        check: bool = True,
    ) -> Completed:
        """Runs git on this repository."""
        where = f"--git-dir={self.path}"
        return git(where, *args, cwd=self.path, input=input, env=env, settings=settings, timeout=timeout, check=check)

    # --- names ------------------------------------------------------------------------------------------------

    def rev(self, ref: str) -> str | None:
        """The commit that ``ref`` names, or None."""
        done = self.call("rev-parse", "--verify", "--quiet", f"{checked(ref)}^{{commit}}", check=False)
        return done.stdout.decode().strip() or None if done.ok else None

    def tree(self, commit: str) -> str:
        """The tree of a commit."""
        return self._word("rev-parse", "--verify", f"{checked(commit)}^{{tree}}")

    def refs(self, prefix: str = "refs/") -> dict[str, str]:
        """Every ref below ``prefix`` with its SHA."""
        return _refs(self.call("for-each-ref", "--format=%(objectname) %(refname)", checked(prefix)).stdout)

    def update_ref(self, ref: str, new: str, old: str | None = None) -> None:
        """Sets ``ref``; with ``old`` ('' = must not exist) only when it is that. Raises ProgramFailed otherwise."""
        expected = () if old is None else (old or "0" * 40,)
        self.call("update-ref", checked(ref), checked(new), *expected)

    def delete_ref(self, ref: str) -> None:
        self.call("update-ref", "-d", checked(ref))

    def merge_base(self, a: str, b: str) -> str | None:
        done = self.call("merge-base", checked(a), checked(b), check=False)
        return done.stdout.decode().strip() or None if done.ok else None

    def is_ancestor(self, a: str, b: str) -> bool:
        """Whether ``a`` is ``b`` or one of its ancestors."""
        return self.call("merge-base", "--is-ancestor", checked(a), checked(b), check=False).returncode == 0

    def count(self, since: str, until: str) -> int:
        """Commits in ``until`` that are not in ``since``."""
        return int(self._word("rev-list", "--count", checked(until), f"^{checked(since)}"))

    # --- to and from elsewhere --------------------------------------------------------------------------------

    def fetch(
        self,
        source: str | Path,
        refspecs: Sequence[str],
        auth: HttpToken | None = None,
        *,
        prune: bool = False,
        trust_owner: bool = False,
    ) -> None:
        """Fetches from a URL or a local repository.

        ``trust_owner``: a local repository may belong to another user (``fleet run --repo PATH`` as root).
        Raises GitDenied (token, address) or TemporaryError (network).
        """
        options = ("--no-tags", "--no-write-fetch-head", "--quiet", *(("--prune",) if prune else ()))
        done = self._asking(("fetch", *options, "--", str(source), *refspecs), auth, trust_owner)
        if not done.ok:
            raise network_error(done, f"fetching from {source}")

    def shows_branches(self, source: str | Path, auth: HttpToken | None = None, *, trust_owner: bool = False) -> bool:
        """Whether a URL or a local repository shows any branch now."""
        return self._asking(("ls-remote", "--exit-code", "--heads", "--", str(source)), auth, trust_owner).ok

    def _asking(self, args: Sequence[str], auth: HttpToken | None, trust_owner: bool) -> Completed:
        settings = auth.settings() if auth else ()
        with tempfile.NamedTemporaryFile("w", prefix="fleet-git-", suffix=".config") as trust:
            # upload-pack, a child in the other repository, reads safe.directory from a real file only.
            trust.write("[safe]\n\tdirectory = *\n" if trust_owner else "")
            trust.flush()
            env = {"GIT_CONFIG_GLOBAL": trust.name}
            return self.call(*args, settings=settings, env=env, timeout=_NETWORK_S, check=False)

    def push(self, url: str, source: str, ref: str, expected_old: str, auth: HttpToken | None = None) -> PushResult:
        """Moves ``ref`` at ``url`` to ``source`` if it is ``expected_old`` there ('' = must not exist).

        Compare-and-swap at the remote (I3). Raises GitDenied or TemporaryError when nothing could be said to it.
        """
        lease = f"--force-with-lease={checked(ref)}:{expected_old}"
        spec = f"{checked(source)}:{ref}"
        settings = auth.settings() if auth else ()
        args = ("push", "--porcelain", "--no-verify", lease, "--", url, spec)
        done = self.call(*args, settings=settings, timeout=_NETWORK_S, check=False)
        said = parse_push(done.stdout, ref)
        if said is None:
            raise network_error(done, f"pushing to {url}")
        if said.status is PushStatus.REJECTED and done.stderr:
            return PushResult(said.status, f"{said.detail}: {done.stderr.decode('utf-8', 'replace').strip()[-800:]}")
        return said

    def bundle(self, path: Path, ref: str, exclude: Sequence[str] = ()) -> None:
        """Writes ``ref`` without what ``exclude`` reaches; ``path`` appears whole or not at all."""
        self.call("bundle", "create", "--quiet", str(path), checked(ref), *(f"^{checked(sha)}" for sha in exclude))

    def unbundle(self, path: Path) -> dict[str, str]:
        """Takes in the objects of a bundle; returns its refs. Nothing refers to them yet: ``update_ref`` does."""
        return _refs(self.call("bundle", "unbundle", str(path)).stdout)

    # --- building ---------------------------------------------------------------------------------------------

    def merge_tree(self, ours: str, theirs: str, base: str | None = None) -> MergeResult:
        """Merges two commits without a working tree. ``base``: the merge base to use instead of the real one."""
        if base is not None:
            # Three stand-in commits say the same as --merge-base, which git has only since 2.40.
            root = self.commit_tree(self.tree(base), (), "base", _FLEET, _FLEET, 0)
            ours = self.commit_tree(self.tree(ours), (root,), "ours", _FLEET, _FLEET, 0)
            theirs = self.commit_tree(self.tree(theirs), (root,), "theirs", _FLEET, _FLEET, 0)
        args = ("merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", checked(ours), checked(theirs))
        done = self.call(*args, check=False)
        if done.returncode not in (0, 1):
            raise InternalError(f"git could not merge: {done.stderr.decode('utf-8', 'replace').strip()}")
        tree, *paths = done.stdout.split(b"\0")
        if done.returncode == 0:
            return MergeResult(tree.decode().strip())
        return MergeResult(None, tuple(dict.fromkeys(os.fsdecode(path) for path in paths if path)))

    def commit_tree(
        self, tree: str, parents: Sequence[str], message: str, author: Person, committer: Person, date: int
    ) -> str:
        """A commit whose SHA depends on the arguments alone. ``date``: Unix seconds of both author and committer."""
        env = {
            "GIT_AUTHOR_NAME": author.name,
            "GIT_AUTHOR_EMAIL": author.email,
            "GIT_AUTHOR_DATE": f"@{date} +0000",
            "GIT_COMMITTER_NAME": committer.name,
            "GIT_COMMITTER_EMAIL": committer.email,
            "GIT_COMMITTER_DATE": f"@{date} +0000",
        }
        links = tuple(word for parent in parents for word in ("-p", checked(parent)))
        text = message.replace("\0", "").encode("utf-8", "replace")
        return self._word("commit-tree", *links, "-F", "-", checked(tree), input=text, env=env)

    # --- reading ----------------------------------------------------------------------------------------------

    def changes(self, a: str, b: str, renames: bool = True) -> tuple[FileChange, ...]:
        """What differs from ``a`` to ``b`` (commits or trees)."""
        options = ("-M",) if renames else ("--no-renames",)
        args = ("diff-tree", "-r", "-z", "--raw", "--no-abbrev", *options, checked(a), checked(b))
        return tuple(parse_raw(self.call(*args).stdout))

    def numstat(self, a: str, b: str) -> tuple[NumStat, ...]:
        args = ("diff-tree", "-r", "-z", "--numstat", "-M", "--no-ext-diff", "--no-textconv", checked(a), checked(b))
        return tuple(parse_numstat(self.call(*args).stdout))

    def patch(self, a: str, b: str, limit_bytes: int) -> str:
        """The unified diff, cut after ``limit_bytes`` at a line's end with a last line that says so."""
        args = ("diff-tree", "-r", "-p", "-M", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv")
        data = self.call(*args, checked(a), checked(b)).stdout
        if len(data) <= limit_bytes:
            return data.decode("utf-8", "replace")
        cut = data[: data.rfind(b"\n", 0, limit_bytes) + 1]
        return cut.decode("utf-8", "replace") + f"[cut: {len(data) - len(cut)} more bytes]\n"

    def read(self, commit: str, path: str, limit: int) -> bytes | None:
        """A file's content, or None when ``commit`` has no file there. Raises BlobTooLarge above ``limit`` bytes."""
        found = tuple(parse_tree(self.call("ls-tree", "-z", "-l", "--full-tree", checked(commit), "--", path).stdout))
        # A folder lists as mode 040000, a submodule as 160000.
        blob = next((entry for entry in found if entry.path == path and entry.mode[:3] in ("100", "120")), None)
        if blob is None:
            return None
        if blob.size > limit:
            raise BlobTooLarge(f"{printable(path)} has {blob.size} bytes; at most {limit} are read.")
        return self.call("cat-file", "blob", blob.blob).stdout

    def blobs(self, shas: Iterable[str], limit: int) -> dict[str, bytes]:
        """The contents of many blobs in one go; those above ``limit`` bytes are left out."""
        wanted = "".join(f"{checked(sha)}\n" for sha in dict.fromkeys(shas)).encode()
        if not wanted:
            return {}
        sizes = self.call("cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)", input=wanted).stdout
        rows = (row for row in map(str.split, sizes.decode().splitlines()) if len(row) == 3)
        small = "".join(f"{row[0]}\n" for row in rows if row[1] == "blob" and int(row[2]) <= limit).encode()
        data = self.call("cat-file", "--batch=%(objectname) %(objectsize)", input=small).stdout
        found, at = {}, 0
        while at < len(data):
            end = data.index(b"\n", at)
            sha, size = data[at:end].decode().split()
            found[sha] = data[end + 1 : end + 1 + int(size)]
            at = end + 2 + int(size)
        return found

    def files(self, commit: str) -> tuple[TreeEntry, ...]:
        """Every file of a commit or tree, submodules included."""
        return tuple(parse_tree(self.call("ls-tree", "-r", "-z", "-l", "--full-tree", checked(commit)).stdout))

    def export(self, commit: str, dest: Path) -> None:
        """Checks out the files of ``commit`` into the empty folder ``dest``, without ``.git``; bytes equal blobs."""
        dest.mkdir(parents=True, exist_ok=True)
        if any(dest.iterdir()):
            raise InternalError(f"{dest} is not empty, so nothing may be checked out there.")
        self._plain_attributes()
        with tempfile.TemporaryDirectory(prefix="fleet-index-") as scratch:
            env = {"GIT_INDEX_FILE": f"{scratch}/index"}
            self.call("read-tree", checked(commit), env=env)
            args = (f"--work-tree={dest}", "checkout-index", "--all", "--force", "--quiet")
            self.call(*args, env=env, timeout=_NETWORK_S)

    def _plain_attributes(self) -> None:
        attributes = self.path / "info" / "attributes"
        if not attributes.is_file() or attributes.read_text() != PLAIN_ATTRIBUTES:
            attributes.parent.mkdir(exist_ok=True)
            attributes.write_text(PLAIN_ATTRIBUTES)

    def _word(self, *args: str, input: bytes | None = None, env: Mapping[str, str] | None = None) -> str:
        return self.call(*args, input=input, env=env).stdout.decode().strip()


def _refs(lines: bytes) -> dict[str, str]:
    rows = (line.partition(" ") for line in os.fsdecode(lines).splitlines())
    return {name: sha for sha, _, name in rows}
