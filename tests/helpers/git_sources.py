"""A look at what a Git source reads, and at what it asked its server for."""

import os


def contents(source):
    with source.fetch() as snapshot:
        return {entry.path: entry.read() for entry in snapshot.entries()}


def posts(server):
    """The bodies of the requests that were posted, of the served ones."""
    return [served for served in server.take_served() if served.method == "POST"]


def monorepo(teams=10, files=20):
    return {
        f"teams/{team:02}/app-{number:02}.yaml": os.urandom(300) for team in range(teams) for number in range(files)
    } | {"README.md": b"# readme\n", ".sourceignore": b"*.md\n"}
