"""Keys of all kinds, and commits and tags signed with them by the real git, gpg and ssh-keygen.

Everything is made on faked days of 2024, so that what is good stays good and what expired in the middle of that year is expired for ever.
"""

import base64
import os
import subprocess

MADE, SIGNED = "20240101T000000", "20240501T120000"
WHEN = "1714564800 +0000"  # SIGNED, for git

GPG_KEYS = {
    # name: (algorithm, usage, expiry), with "+" a subkey for signing
    "rsa": ("rsa2048", "sign,cert", "never"),
    "ed25519": ("ed25519", "sign,cert", "never"),
    "nistp384": ("nistp384", "sign,cert", "never"),
    "subkey": ("rsa2048", "cert", "never", "ed25519", "never"),
    "expired": ("ed25519", "sign,cert", "2024-07-01"),
    "expired-subkey": ("rsa2048", "cert", "never", "ed25519", "2024-07-01"),
    "revoked": ("ed25519", "sign,cert", "never"),
    "weak": ("rsa1024", "sign,cert", "never"),
    "other": ("ed25519", "sign,cert", "never"),
}
SSH_KEYS = {
    "ssh-ed25519": ["-t", "ed25519"],
    "ssh-nistp256": ["-t", "ecdsa", "-b", "256"],
    "ssh-nistp384": ["-t", "ecdsa", "-b", "384"],
    "ssh-nistp521": ["-t", "ecdsa", "-b", "521"],
    "ssh-rsa": ["-t", "rsa", "-b", "3072"],
    "ssh-weak": ["-t", "rsa", "-b", "1024"],
    "ssh-other": ["-t", "ed25519"],
}


class Workshop:
    """A directory with a repository, a keyring and SSH keys of its own."""

    def __init__(self, root):
        self.root = root
        self.repository = root / "repository"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "GNUPGHOME": str(root / "gnupg"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "LC_ALL": "C",
            "TZ": "UTC",
        }
        for role in ("AUTHOR", "COMMITTER"):
            self.environment |= {
                f"GIT_{role}_NAME": "Ada",
                f"GIT_{role}_EMAIL": "ada@example.com",
                f"GIT_{role}_DATE": WHEN,
            }
        (root / "gnupg").mkdir(mode=0o700)
        wrapper = root / "gpg"
        wrapper.write_text(
            f'#!/bin/sh\nexec gpg -q --batch --pinentry-mode loopback --passphrase "" '
            f'--allow-weak-digest-algos --faked-system-time {SIGNED}! $GPG_EXTRA "$@"\n'
        )
        wrapper.chmod(0o755)
        self.objects = {}

    def run(self, *command, stdin=b"", **environment):
        done = subprocess.run(
            [str(word) for word in command], input=stdin, capture_output=True, env=self.environment | environment
        )
        assert done.returncode == 0, (command, done.stderr.decode())
        return done.stdout

    def git(self, *arguments, **environment):
        return self.run("git", "-C", self.repository, *arguments, **environment)

    def gpg(self, *arguments, at=MADE):
        fixed = ["-q", "--batch", "--pinentry-mode", "loopback", "--passphrase", "", "--faked-system-time", f"{at}!"]
        return self.run("gpg", *fixed, *arguments)

    def start(self, object_format="sha1"):
        self.repository = self.root / object_format
        self.run("git", "init", "-q", "-b", "main", f"--object-format={object_format}", self.repository)
        (self.repository / "app.yaml").write_text("kind: Namespace\n")
        self.git("add", "app.yaml")

    def save(self, name, what, *, kind="commit"):
        data = self.git("cat-file", kind, what)
        oid = self.git("rev-parse", what).decode().strip()
        self.objects[name] = {"oid": oid, "data": base64.b64encode(data).decode()}

    def commit(self, name, *flags, config=(), **environment):
        options = [word for pair in config for word in ("-c", pair)]
        self.git(*options, "commit", "-q", "--allow-empty", "-m", f"Signed by {name}", *flags, **environment)
        self.save(name, "HEAD")

    def pgp(self, key):
        return [f"gpg.program={self.root / 'gpg'}", f"user.signingkey={self.fingerprint(key)}!"]

    def ssh(self, key):
        return ["gpg.format=ssh", f"user.signingkey={self.root / key}"]

    def fingerprint(self, key):
        """Of the key that signs: the last one."""
        listed = self.gpg("--list-keys", "--with-colons", f"<{key}@example.com>").decode().splitlines()
        return [line.split(":")[9] for line in listed if line.startswith("fpr")][-1]

    def tag(self, name, tag, *flags, config=()):
        options = [word for pair in config for word in ("-c", pair)]
        self.git(*options, "tag", "-f", *flags, "-m", "A release", tag)
        self.save(name, f"refs/tags/{tag}", kind="tag")


def make_gpg_keys(workshop):
    for name, (algorithm, usage, expiry, *subkey) in GPG_KEYS.items():
        workshop.gpg("--quick-gen-key", f"{name.title()} <{name}@example.com>", algorithm, usage, expiry)
        if subkey:
            workshop.gpg("--quick-add-key", workshop.fingerprint(name), subkey[0], "sign", subkey[1])


def export(workshop):
    keys = {name: workshop.gpg("--armor", "--export", f"<{name}@example.com>").decode() for name in GPG_KEYS}
    fingerprint = workshop.fingerprint("revoked")
    text = (workshop.root / "gnupg" / "openpgp-revocs.d" / f"{fingerprint}.rev").read_text()
    workshop.run("gpg", "-q", "--batch", "--import", stdin=text.replace(":-----BEGIN", "-----BEGIN").encode())
    keys["not-yet-revoked"], keys["revoked"] = (
        keys["revoked"],
        workshop.gpg("--armor", "--export", fingerprint).decode(),
    )
    for name in SSH_KEYS:
        keys[name] = (workshop.root / f"{name}.pub").read_text()
    return keys
