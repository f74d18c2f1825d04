"""What is there before the tour begins: the same files in a Git repository and in a bucket, and nearly the same on a laptop."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dulwich.index import commit_tree
from dulwich.objects import Blob, Commit
from dulwich.refs import Ref
from dulwich.repo import Repo

__all__ = ["BUCKET", "GIT", "LAPTOP", "lay_out"]

GIT: Final = "git+file://podinfo.git?tag=v1.0.0"
BUCKET: Final = "bucket+file://bucket"
LAPTOP: Final = "laptop"

_FILES: Final = {
    "deploy/app.yaml": "kind: Deployment\nreplicas: 3\nimage: podinfo:6.9.1\n",
    "deploy/service.yaml": "kind: Service\nports: [9898]\n",
}
_EDITED: Final = _FILES | {"deploy/app.yaml": "kind: Deployment\nreplicas: 3\nimage: podinfo:my-fix\n"}

_WHO: Final = b"Ada <ada@example.com>"
_WHEN: Final = 1767323045
"""2026-01-02T03:04:05Z. Who and when are part of a commit: fixed ones give it the same name everywhere."""


def lay_out(directory: Path) -> None:
    """Make all of it in a directory."""
    _write_repository(directory / "podinfo.git", _FILES)
    _write_files(directory / "bucket", _FILES)
    _write_files(directory / LAPTOP, _EDITED)


def _write_files(directory: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())


def _write_repository(path: Path, files: Mapping[str, str]) -> None:
    """A bare repository with one commit, tagged; no git is needed for it."""
    with Repo.init_bare(path, mkdir=True, default_branch=b"main") as repository:
        objects = repository.object_store
        blobs = []
        for name, text in files.items():
            blob = Blob.from_string(text.encode())
            objects.add_object(blob)
            blobs.append((name.encode(), blob.id, 0o100644))
        commit = Commit()
        commit.tree = commit_tree(objects, blobs)
        commit.author = commit.committer = _WHO
        commit.author_time = commit.commit_time = _WHEN
        commit.author_timezone = commit.commit_timezone = 0
        commit.message = b"Release podinfo\n"
        objects.add_object(commit)
        for reference in (Ref(b"refs/heads/main"), Ref(b"refs/tags/v1.0.0")):
            repository.refs[reference] = commit.id
