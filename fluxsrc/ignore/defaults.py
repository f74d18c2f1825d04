"""Flux's named sets of exclusions, word for word (`fluxcd/pkg/sourceignore`)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["EXCLUDE_CI", "EXCLUDE_EXT", "EXCLUDE_EXTRA", "EXCLUDE_VCS", "IGNORE_FILE", "NAMED_SETS"]

IGNORE_FILE: Final = ".sourceignore"
"""The name of the files, anywhere in a tree, whose rules govern what is below them."""

EXCLUDE_VCS: Final = (".git/", ".gitignore", ".gitmodules", ".gitattributes")
"""What version control leaves in a tree. In the flux dialect always there, at the lowest priority."""

EXCLUDE_EXT: Final = ("*.jpg", "*.jpeg", "*.gif", "*.png", "*.wmv", "*.flv", "*.tar.gz", "*.zip")
"""Images, films and archives."""

EXCLUDE_CI: Final = (
    ".github/",
    ".circleci/",
    ".travis.yml",
    ".gitlab-ci.yml",
    "appveyor.yml",
    ".drone.yml",
    "cloudbuild.yaml",
    "codeship-services.yml",
    "codeship-steps.yml",
)
"""The files of continuous-integration services."""

EXCLUDE_EXTRA: Final = ("**/.goreleaser.yml", "**/.sops.yaml", "**/.flux.yaml")
"""The files of tools that work on a repository, not on what it deploys."""

NAMED_SETS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"vcs": EXCLUDE_VCS, "ext": EXCLUDE_EXT, "ci": EXCLUDE_CI, "extra": EXCLUDE_EXTRA}
)
"""The sets by the names that `IgnoreRules(defaults=...)` takes, in Flux's order: the last has the highest priority."""
