"""Writes `vectors.json`: manifests signed by the real `notation`, in both envelopes, with and without a timestamp.

Needs notation (tests/servers/install-notation.sh) and OpenSSL; run it with what the tests share: `PYTHONPATH=tests python FILE`. A case holds all that a registry
was left with: manifests, tags and blobs. The certificate of the `stamped` ones is over five minutes after they were signed.
"""

import base64
import datetime as dt
import json
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from fluxsrc.testing.registry import Registry
from helpers import notation_keys as keys
from helpers.notation_workshop import KINDS, Workshop, timestamp_authority

HERE = Path(__file__).parent

FOREVER = 36_500
SHORT = {"start": dt.timedelta(days=-1), "days": 1 + 5 / 24 / 60}


def main():
    cases = {}
    with tempfile.TemporaryDirectory() as directory, Registry() as registry:
        root = Path(directory)
        work = Workshop(root, registry.host)
        work.ca = keys.issue(keys.name("Root"), keys.new_key("p256"), ca=True, days=FOREVER)
        work.trust("ca", "acme", work.ca)
        work.signers |= {kind: keys.issue(keys.name(kind), keys.new_key(kind), work.ca, days=FOREVER) for kind in KINDS}
        work.signers["stamped"] = keys.issue(keys.name("stamped"), keys.new_key("p256"), work.ca, **SHORT)
        document = {"default": "p256", "keys": []}
        for name, signer in work.signers.items():
            key, chain = signer.files(root, name)
            document["keys"].append({"name": name, "keyPath": str(key), "certPath": str(chain)})
        (work.config / "signingkeys.json").write_text(json.dumps(document))
        with timestamp_authority(root) as (url, clock):
            clock.files(root, "clock")
            for form in ("jws", "cose"):
                for kind in ("p256", "rsa2048", "stamped"):
                    words = ["--key", kind, "--signature-format", form, "-m", "env=prod"]
                    if kind == "stamped":
                        words += ["--timestamp-url", url, "--timestamp-root-cert", root / "clock.crt"]
                    reference = work.artifact(f"{kind}/{form}", {"app.yaml": "replicas: 3\n"})
                    work.sign(reference, *words)
                    found = registry.repository(f"{kind}/{form}")
                    cases[f"{kind}/{form}"] = {
                        "manifests": {key: [media, data.decode()] for key, (media, data) in found.manifests.items()},
                        "tags": found.tags,
                        "blobs": {key: base64.b64encode(data).decode() for key, data in found.blobs.items()},
                    }
        pem = {"ca": work.ca.certificate, "tsa": clock.certificate}
        roots = {name: certificate.public_bytes(Encoding.PEM).decode() for name, certificate in pem.items()}
    (HERE / "vectors.json").write_text(json.dumps({"roots": roots, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
