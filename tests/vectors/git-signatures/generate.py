"""Writes `vectors.json`: keys, and commits and tags signed with them by the real git, gpg and ssh-keygen.

Needs git >= 2.34, GnuPG >= 2.2 and OpenSSH >= 8.9; run it with what the tests share: `PYTHONPATH=tests python FILE`.
"""

import base64
import json
import subprocess
import tempfile
from pathlib import Path

from helpers.git_workshop import GPG_KEYS, SSH_KEYS, Workshop, export, make_gpg_keys

HERE = Path(__file__).parent


def main():
    with tempfile.TemporaryDirectory() as directory:
        workshop = Workshop(Path(directory))
        make_gpg_keys(workshop)
        for name, flags in SSH_KEYS.items():
            workshop.run("ssh-keygen", "-q", "-N", "", "-C", "", *flags, "-f", workshop.root / name)
        workshop.start()
        workshop.commit("unsigned")
        for name in GPG_KEYS:
            workshop.commit(name, "-S", config=workshop.pgp(name))
        extras = {
            "md5": "--digest-algo MD5",
            "sha1": "--digest-algo SHA1",
            "sha224": "--digest-algo SHA224",
            "sha512": "--digest-algo SHA512",
            "text": "--textmode",
            "expired-signature": "--default-sig-expire 30d",
            "lasting-signature": "--default-sig-expire 30y",
            "notation": "--sig-notation !critical@example.com=yes",
        }
        for name, extra in extras.items():
            workshop.commit(name, "-S", config=workshop.pgp("rsa"), GPG_EXTRA=extra)
        for name in SSH_KEYS:
            workshop.commit(name, "-S", config=workshop.ssh(name))
        workshop.save("release", "HEAD")
        workshop.tag("tag-pgp", "v1.0.0", "-s", config=workshop.pgp("ed25519"))
        workshop.tag("tag-ssh", "v1.0.0", "-s", config=workshop.ssh("ssh-ed25519"))
        workshop.tag("tag-other-name", "v2.0.0", "-s", config=workshop.ssh("ssh-ed25519"))
        workshop.tag("tag-other-key", "v1.0.0", "-s", config=workshop.ssh("ssh-other"))
        workshop.tag("tag-unsigned", "v1.0.0", "-a")
        workshop.start("sha256")
        workshop.commit("sha256-pgp", "-S", config=workshop.pgp("ed25519"))
        workshop.commit("sha256-ssh", "-S", config=workshop.ssh("ssh-ed25519"))
        workshop.tag("sha256-tag", "v1.0.0", "-s", config=workshop.pgp("ed25519"))
        signed = {}
        payload = base64.b64decode(workshop.objects["unsigned"]["data"])
        for namespace in ("file", "git"):
            for hashed in ("sha256", "sha512"):
                command = ["ssh-keygen", "-Y", "sign", "-n", namespace, "-O", f"hashalg={hashed}", "-f"]
                armored = workshop.run(*command, workshop.root / "ssh-ed25519", stdin=payload).decode()
                signed[f"{namespace}-{hashed}"] = armored
        vectors = {"keys": export(workshop), "objects": workshop.objects, "signatures": signed}
        (HERE / "vectors.json").write_text(json.dumps(vectors, indent=1) + "\n")
        subprocess.run(["gpgconf", "--kill", "all"], env=workshop.environment, check=False)


if __name__ == "__main__":
    main()
