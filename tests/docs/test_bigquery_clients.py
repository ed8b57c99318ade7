"""The example of docs/bigquery-clients.md prints what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from bigquery_world import Place

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "bigquery-clients.md").read_text("utf-8")


@pytest.mark.slow
def test_the_example_runs_and_prints_what_the_page_says(tmp_path):
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    told = re.findall(r"`([^`]+)`", PAGE[PAGE.index("It prints ") :])[:2]
    place = Place(tmp_path)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program.replace("http://127.0.0.1:8484", place.url)],
            capture_output=True,
            text=True,
        )
    finally:
        place.close()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == told


@pytest.mark.parametrize(
    "page", ["README.md", "docs/reference/http.md", "docs/bigquery-clients.md"]
)
def test_links_lead_to_files(page):
    text = (ROOT / page).read_text("utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert any("bigquery-clients.md" in link for link in links) or page.startswith("docs/big")
    missing = [link for link in links if not ((ROOT / page).parent / link).exists()]
    assert missing == []
