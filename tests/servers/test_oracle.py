"""Flux's own code decides the same: on ignore rules and on version ranges that nobody wrote down before."""

import base64
import json
import os
import random
import subprocess

import pytest

from fluxsrc.errors import ConfigurationError
from fluxsrc.ignore import IgnoreRules
from fluxsrc.semver import Range
from helpers.programs import tool

pytestmark = pytest.mark.servers

ROUNDS = int(os.environ.get("FLUXSRC_ORACLE_ROUNDS", "1500"))


@pytest.fixture(scope="module")
def oracle():
    """Asks `flux-oracle` (tests/servers/install-oracle.sh) many questions at once."""
    program = tool("flux-oracle")

    def ask(questions):
        text = "\n".join(map(json.dumps, questions))
        done = subprocess.run([program], input=text, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return ask


# --- ignore rules ----------------------------------------------------------------------------------------------------

NAMES = [
    "a",
    "b",
    "ab",
    "foo",
    "x.c",
    "A1",
    "é",
    "日本",
    "a b",
    "[x]",
    "!x",
    "#y",
    "\\",
    "tail ",
    "\udcff",
    ":",
    "-",
    "*",
]
BYTES = ["a", "b", "é", "[", "]", "\\", "!", "#", " ", "*", "?", "-", "^", ".", "\udcff", "\t"]
ENDS = ["", "", "", "", "/", "/**", "/*", "**", " ", "\\ ", "\\", "\t", "\r", "/ "]


def bracket(dice):
    inside = [
        dice.choice([dice.choice(BYTES), f"{dice.choice(BYTES)}-{dice.choice(BYTES)}", "[:alpha:]", "\\]", "-"])
        for _ in range(dice.randint(0, 3))
    ]
    return f"[{dice.choice(['', '', '!', '^'])}{''.join(inside)}{dice.choice([']', ']', ']', ''])}"


def component(dice):
    if dice.random() < 0.2:
        return dice.choice(["**", "*", "***", "", "."])
    pieces = [dice.choice(NAMES), dice.choice(BYTES), dice.choice(["*", "**", "?"]), bracket(dice)]
    return "".join(dice.choices(pieces, k=dice.choice([1, 1, 2, 3])))


def pattern(dice):
    path = "/".join(component(dice) for _ in range(dice.choice([1, 1, 1, 2, 3])))
    begin = dice.choice(["", "", "", "/", "**/", "//"])
    return dice.choice(["", "", "!", "#" if dice.random() < 0.1 else ""]) + begin + path + dice.choice(ENDS)


def rules(dice):
    return dice.choice(["\n", "\n", "\r\n"]).join(pattern(dice) for _ in range(dice.choice([1, 3, 9, 20])))


def encoded(text):
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()


def test_flux_ignores_what_we_ignore(oracle):
    """Nested ignore files, rules of the object, names of any bytes."""
    dice = random.Random(20260103)
    asked = []
    for _ in range(ROUNDS):
        paths = sorted({"/".join(dice.choices(NAMES, k=dice.choice([1, 2, 2, 3, 4]))) for _ in range(40)})
        parents = sorted({path.rpartition("/")[0] for path in paths})
        files = {directory: rules(dice) for directory in dice.sample(parents, min(len(parents), dice.randint(0, 3)))}
        asked.append((files, rules(dice) if dice.random() < 0.4 else None, paths))
    answers = oracle(
        {
            "files": [{"dir": encoded(directory), "text": encoded(text)} for directory, text in files.items()],
            "spec": None if spec is None else encoded(spec),
            "paths": [encoded(path) for path in paths],
        }
        for files, spec, paths in asked
    )
    answers = list(answers)
    verdicts = [kept for answer in answers for kept in answer["kept"]]
    assert min(verdicts.count(True), verdicts.count(False)) > ROUNDS  # else they would agree on next to nothing
    different = []
    for (files, spec, paths), answer in zip(asked, answers, strict=True):
        ours = IgnoreRules("flux", files, spec)
        different += [
            (path, kept, files, spec)
            for path, kept in zip(paths, answer["kept"], strict=True)
            if ours.excluded(path) is kept
        ]
    assert different == []


# --- versions --------------------------------------------------------------------------------------------------------

IDS = ["0", "1", "10", "01", "rc", "rc1", "a-b", "-", "-1", "x", str(2**64), str(2**64 - 1)]
OPERATORS = [*["", "=", "!=", ">", "<", ">=", "<=", "=>", "=<", "~", "~>", "^"] * 3, "==", "!~"]
SPACES = [*["", " ", "  ", "\t", "\n"] * 8, "\v", "\u00a0"]


def number(dice, wild=0.0):
    if dice.random() < wild:
        return dice.choice("xX*")
    return dice.choice(["0", "0", "1", "1", "2", "3", "10", "100", "007", str(2**64) if dice.random() < 0.1 else "4"])


def suffix(dice):
    ids = [".".join(dice.choices(IDS, k=dice.randint(1, 3))) for _ in range(2)]
    return (f"-{ids[0]}" if dice.random() < 0.3 else "") + (f"+{ids[1]}" if dice.random() < 0.1 else "")


def bound(dice):
    return (
        dice.choice(["", "", "v"])
        + ".".join(number(dice, 0.15) for _ in range(dice.choice([1, 2, 3, 3])))
        + suffix(dice)
    )


def group(dice):
    parts = []
    for _ in range(dice.choice([1, 1, 2, 3])):
        if dice.random() < 0.2:
            dash = dice.choice([" - ", " - ", "\t-  ", "-", " -"])
            parts.append(f"{bound(dice)}{dash}{bound(dice)}")
        else:
            parts.append(dice.choice(OPERATORS) + dice.choice(SPACES) + bound(dice))
    return dice.choice([*[" ", ",", ", ", " , "] * 8, ",,"]).join(parts)


def constraint(dice):
    text = dice.choice(["||", " || ", "|| "]).join(group(dice) for _ in range(dice.choice([*[1, 2, 3] * 8, 33])))
    if text and dice.random() < 0.1:
        at = dice.randrange(len(text))
        text = text[:at] + dice.choice("01v.x*-+ ,|<>=!~^aé\0") + text[at + dice.choice([0, 1]) :]
    return text


def version(dice):
    if dice.random() < 0.05:
        return dice.choice(
            ["", "v1", "1.2", "1.2.3.4", " 1.2.3", "V1.2.3", "1.2-a.b", "1-a.b.c", "1.2.3-01", "\uff11.2.3"]
        )
    return dice.choice(["", "v"]) + ".".join(number(dice) for _ in range(3)) + suffix(dice)


def test_flux_takes_the_version_we_take(oracle):
    """Which text is a range, which versions are in it, and which of them is the best."""
    dice = random.Random(20260104)
    asked = [
        {"constraint": constraint(dice), "versions": [version(dice) for _ in range(30)]} for _ in range(4 * ROUNDS)
    ]
    answers = oracle(asked)
    assert sum(answer["valid"] for answer in answers) > ROUNDS  # else they would agree on next to nothing
    assert sum("best" in answer for answer in answers) > ROUNDS / 2
    different = []
    for question, answer in zip(asked, answers, strict=True):
        try:
            wanted = Range.parse(question["constraint"])
        except ConfigurationError:
            ours = {"valid": False, "match": [False] * 30}
        else:
            ours = {"valid": True, "match": [wanted.matches(each) for each in question["versions"]]}
            ours |= {"best": best} if (best := wanted.best(question["versions"])) else {}
        if ours != answer:
            different.append((question, answer))
    assert different == []
