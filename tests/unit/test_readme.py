"""The README, as far as its examples do not prove it themselves."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_every_link_leads_to_a_page():
    """On disk, as a reader of the repository sees it."""
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_every_extra_is_explained():
    """And none that is not there."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    rows = re.findall(r"^\| (`[^|]*) \|", README, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([a-z0-9]+)`", row)} == set(extras)
