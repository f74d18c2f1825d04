"""Keychains: where credentials come from, asked anew for each operation, for one origin at a time.

Nothing here is used unless it is named: no `.netrc` is read and no helper is run because it happens to be there.
"""

from typing import TYPE_CHECKING

from fluxsrc._lazy import names_of

if TYPE_CHECKING:
    from fluxsrc.keychains.chain import ChainKeychain, keychain_from_env
    from fluxsrc.keychains.docker import DockerConfig
    from fluxsrc.keychains.github import GitHubApp
    from fluxsrc.keychains.helper import GitCredentialHelper
    from fluxsrc.keychains.netrc import NetrcKeychain
    from fluxsrc.keychains.registries import AzureRegistry, ElasticContainerRegistry, GoogleRegistry
    from fluxsrc.keychains.repositories import AzureDevOps, CodeCommit
else:
    __getattr__, __dir__ = names_of(
        __name__,
        {
            "AzureDevOps": "repositories",
            "AzureRegistry": "registries",
            "ChainKeychain": "chain",
            "CodeCommit": "repositories",
            "DockerConfig": "docker",
            "ElasticContainerRegistry": "registries",
            "GitCredentialHelper": "helper",
            "GitHubApp": "github",
            "GoogleRegistry": "registries",
            "NetrcKeychain": "netrc",
            "keychain_from_env": "chain",
        },
    )

__all__ = [
    "AzureDevOps",
    "AzureRegistry",
    "ChainKeychain",
    "CodeCommit",
    "DockerConfig",
    "ElasticContainerRegistry",
    "GitCredentialHelper",
    "GitHubApp",
    "GoogleRegistry",
    "NetrcKeychain",
    "keychain_from_env",
]
