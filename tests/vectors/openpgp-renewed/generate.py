"""Makes vectors.json with gpg: keys that said something new of themselves after they had signed.

Run it by hand: `python tests/vectors/openpgp-renewed/generate.py`. GnuPG replaces what a key says of itself, so that its export has
nothing left from the time of the signature.
"""

import json
import subprocess
import tempfile
from pathlib import Path

MESSAGE = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\nsigned before the key was renewed\n"
NAME = "Name-Real: Ada\nName-Email: ada@example.com\n"
ED25519 = "Key-Type: EDDSA\nKey-Curve: ed25519\n"
KEYS = {
    "ed25519": f"{ED25519}Key-Usage: cert,sign\n",
    "rsa": "Key-Type: RSA\nKey-Length: 3072\nKey-Usage: cert,sign\n",
    "p256": "Key-Type: ECDSA\nKey-Curve: nistp256\nKey-Usage: cert,sign\n",
    "p384": "Key-Type: ECDSA\nKey-Curve: nistp384\nKey-Usage: cert,sign\n",
    "subkey": f"{ED25519}Key-Usage: cert\nSubkey-Type: EDDSA\nSubkey-Curve: ed25519\nSubkey-Usage: sign\n",
    "rsa-subkey": f"{ED25519}Key-Usage: cert\nSubkey-Type: RSA\nSubkey-Length: 2048\nSubkey-Usage: sign\n",
}
MADE, SIGNED, RENEWED = "20220101T000000", "20220601T000000", "20221201T000000"


def gpg(home: Path, *arguments: str, at: str, text: str | None = None) -> str:
    command = ["gpg", "--homedir", str(home), "--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", "",
               "--no-tty", "--quiet", "--faked-system-time", f"{at}!", *arguments]  # fmt: skip
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def fingerprints(home: Path) -> list[str]:
    listed = gpg(home, "--list-keys", "--with-colons", "--with-subkey-fingerprint", at=MADE)
    return [line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:")]


def make(root: Path, name: str, what: str) -> dict[str, str]:
    home = root / name
    home.mkdir(mode=0o700)
    gpg(home, "--gen-key", at=MADE, text=f"%no-protection\n{what}{NAME}Expire-Date: 20230101T000000\n%commit\n")
    (home / "message").write_bytes(MESSAGE)
    gpg(home, "--armor", "--detach-sign", "-o", str(home / "sig"), str(home / "message"), at=SIGNED)
    signature = (home / "sig").read_text()
    old = gpg(home, "--armor", "--export", at=SIGNED)
    primary, *subkeys = fingerprints(home)
    gpg(home, "--quick-set-expire", primary, "20400101T000000", at=RENEWED)
    for subkey in subkeys:
        gpg(home, "--quick-set-expire", primary, "20400101T000000", subkey, at=RENEWED)
    new = gpg(home, "--armor", "--export", at=RENEWED)
    made = {"signature": signature, "old": old, "new": new, "signing": (subkeys or [primary])[0]}
    if name == "ed25519":
        usage = ["--command-fd", "0", "--expert", "--edit-key", primary]
        gpg(home, *usage, at="20221202T000000", text="change-usage\nS\nQ\nsave\n")
        made["certifies-only"] = gpg(home, "--armor", "--export", at=RENEWED)
    if name == "p256":
        gpg(home, "--quick-add-uid", primary, "Ada Two <two@example.com>", at="20221203T000000")
        gpg(home, "--quick-revoke-uid", primary, "Ada <ada@example.com>", at="20221204T000000")
        made["name-revoked"] = gpg(home, "--armor", "--export", at="20221204T000000")
    return made


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        made = {name: make(Path(root), name, what) for name, what in KEYS.items()}
    text = json.dumps({"message": MESSAGE.decode(), "keys": made}, indent=1)
    Path(__file__).with_name("vectors.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
