"""Writes `vectors.json`: manifests signed by the real cosign 3, in both layouts, with every kind of key.

Needs cosign 3 (tests/servers/install-cosign.sh) and OpenSSL; run it here: `python generate.py`. A case holds all that a
registry was left with: manifests, tags and blobs.
"""

import base64
import json
import os
import subprocess
import tempfile
from pathlib import Path

from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access, push
from fluxsrc.testing.registry import Registry

HERE = Path(__file__).parent
IDENTITY = "registry.example/team/app"
KEYS = {
    "ecdsa-p256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "ecdsa-p384": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "rsa": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
}
LAYOUTS = {"bundle": [], "cosign": ["--new-bundle-format=false", "--sign-container-identity", IDENTITY]}


def run(*words):
    environment = os.environ | {"COSIGN_PASSWORD": "hunter2"}
    return subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout


def case(registry, name, digest):
    repository = registry.repository(name)
    return {
        "digest": digest,
        "manifests": {key: [kind, data.decode()] for key, (kind, data) in repository.manifests.items()},
        "tags": repository.tags,
        "blobs": {key: base64.b64encode(data).decode() for key, data in repository.blobs.items()},
    }


def main():
    keys, cases = {}, {}
    with tempfile.TemporaryDirectory() as directory, Registry() as registry:
        os.chdir(directory)
        run("cosign", "generate-key-pair", "--output-key-prefix", "generated")
        for name, options in KEYS.items():
            run("openssl", "genpkey", *options, "-out", f"{name}.pem")
            run("cosign", "import-key-pair", "--key", f"{name}.pem", "--output-key-prefix", name)
        for name in ("generated", *KEYS):
            keys[name] = {kind: Path(f"{name}.{kind}").read_text() for kind in ("key", "pub")}
            for layout, options in LAYOUTS.items():
                repository = f"{name}/{layout}"
                digest = push(
                    MemorySource({"app.yaml": b"replicas: 3\n"}),
                    f"oci://{registry.host}/{repository}:v1",
                    access=Access(insecure=True),
                ).digest
                run(
                    *("cosign", "sign", "--key", f"{name}.key", "--allow-http-registry", "--yes"),
                    *("--use-signing-config=false", "--tlog-upload=false", "--annotations", "env=prod", *options),
                    f"{registry.host}/{repository}@{digest}",
                )
                cases[repository] = case(registry, repository, str(digest))
    (HERE / "vectors.json").write_text(json.dumps({"keys": keys, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
