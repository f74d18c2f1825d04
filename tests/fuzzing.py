"""What the fuzzers share: chance that damages things, and a run that counts what comes of it."""

import argparse
import base64
import collections
import json
import random
import sys
import time
import traceback

JUNK = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, "", "a", "\0", "\ud800", "=", "A" * 10_000, "sha256:"),
    *([], {}, [[]], [{}], {"": ""}, ["a"] * 1000, {"a": {"b": {"c": {}}}}, "AAAA", "-1", "1e9", "٣", "2026-01-01T00:00:00Z"),
]  # fmt: skip


class Fuzzer:
    """Damages what it is given, by one stream of chance."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def bytes(self, data):
        """Some bytes changed, removed, repeated, put in, or cut off."""
        changed = bytearray(data)
        for _ in range(self.random.choice((1, 1, 1, 2, 3, 8))):
            at = self.random.randrange(len(changed) + 1)
            length = self.random.choice((1, 1, 2, 4, 8, 64))
            match self.random.randrange(7):
                case 0 if at < len(changed):
                    changed[at] ^= 1 << self.random.randrange(8)
                case 1 if at < len(changed):
                    changed[at] = self.random.choice((0, 1, 0x30, 0x7F, 0x80, 0x81, 0x84, 0xFF))
                case 2:
                    del changed[at : at + length]
                case 3:
                    changed[at:at] = changed[at : at + length]
                case 4:
                    changed[at:at] = self.random.randbytes(length)
                case 5:
                    del changed[at:]
                case _:
                    other = self.random.randrange(len(changed) + 1)
                    changed[at : at + length] = changed[other : other + length]
        return bytes(changed)

    def value(self, value):
        """A document with something in it replaced, removed, doubled, or damaged, however deep."""
        if isinstance(value, dict) and value and self.random.random() < 0.9:
            name = self.random.choice(sorted(value))
            match self.random.randrange(12):
                case 0:
                    return {key: item for key, item in value.items() if key != name}
                case 1:
                    return value | {name + "x": value[name]}
                case _:
                    return value | {name: self.value(value[name])}
        if isinstance(value, list) and value and self.random.random() < 0.9:
            at = self.random.randrange(len(value))
            match self.random.randrange(8):
                case 0:
                    return value[:at] + value[at + 1 :]
                case 1:
                    return value * self.random.choice((2, 3, 50))
                case _:
                    return [*value[:at], self.value(value[at]), *value[at + 1 :]]
        if isinstance(value, str) and self.random.random() < 0.8:
            return self.text(value)
        return self.random.choice(JUNK)

    def text(self, text):
        """Damaged inside, where it is base64, a document or a certificate; or as it is."""
        if text.startswith("{"):
            return json.dumps(self.value(json.loads(text)))
        if text.startswith("-----BEGIN") and self.random.random() < 0.8:
            head, *body, tail = text.strip().split("\n")
            inner = base64.encodebytes(self.bytes(base64.b64decode("".join(body)))).decode()
            return f"{head}\n{inner}{tail}\n"
        try:
            raw = base64.b64decode(text, validate=True)
        except ValueError:
            raw = b""
        if raw and self.random.random() < 0.8:
            if raw.startswith(b"{") and self.random.random() < 0.8:
                return _b64(json.dumps(self.value(json.loads(raw))).encode())
            return _b64(self.bytes(raw))
        return self.bytes(text.encode()).decode("latin-1")

    def document(self, value):
        """The JSON of a damaged document, or the damaged JSON of one."""
        if self.random.random() < 0.2:
            return self.bytes(json.dumps(value).encode())
        return json.dumps(self.value(value)).encode()


def run(targets, description):
    """Throw at the targets in turn, for as long as the command line says; the exit code.

    Args:
        targets: Functions of a `Fuzzer`. What they return is counted; what they raise is a finding.
        description: For the help.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", type=int, help="only this one")
    options = parser.parse_args()
    ends, counts = time.monotonic() + options.seconds, collections.defaultdict(collections.Counter)
    findings, slowest, number = 0, (0.0, ""), options.case or 0
    while time.monotonic() < ends:
        target = targets[number % len(targets)]
        fuzzer, started = Fuzzer(f"{options.seed} {number}"), time.process_time()
        try:
            result = target(fuzzer)
        except Exception:  # this is what is looked for
            findings += 1
            _say(f"finding {findings}: {target.__name__}, seed {options.seed}, case {number}")
            traceback.print_exc(limit=-6)
            result = "FINDING"
        counts[target.__name__][result] += 1
        slowest = max(slowest, (time.process_time() - started, f"{target.__name__}, case {number}"))
        number += 1
        if options.case is not None:
            break
    total = sum(outcomes.total() for outcomes in counts.values())
    _say(f"{total:,} cases, {findings} findings; the slowest took {slowest[0]:.2f} s ({slowest[1]})")
    for name, outcomes in counts.items():
        shown = ", ".join(f"{'holds' if key is None else key}: {count:,}" for key, count in outcomes.most_common())
        _say(f"{name} ({outcomes.total():,}): {shown}")
    return 1 if findings else 0


def _say(text):
    sys.stdout.write(text + "\n")


def _b64(data):
    return base64.b64encode(data).decode()
