"""docs/rfc.md lists every RFC that the code cites."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_cited_rfc_is_listed() -> None:
    listed = set(
        re.findall(r"\d{4,5}", " ".join(re.findall(r"(?m)^\| ([\d, ]+) \|", (ROOT / "docs/rfc.md").read_text())))
    )
    cited = {
        number: str(path.relative_to(ROOT))
        for path in sorted((ROOT / "mailserver").rglob("*.py"))
        for number in re.findall(r"\bRFC (\d{3,5})\b", path.read_text())
    }
    assert len(cited) > 10
    assert {number: path for number, path in cited.items() if number not in listed} == {}
