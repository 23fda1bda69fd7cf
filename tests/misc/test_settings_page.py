"""The page of settings is the one that the definitions give."""

from dataclasses import fields

from misc.config import Config
from misc.settings_page import settings_page
from tests.conftest import PROJECT


def test_docs_settings_is_current():
    """If it is not: python -m misc.settings_page > docs/settings.md"""
    assert (PROJECT / "docs" / "settings.md").read_text(encoding="utf-8") == settings_page()


def test_every_setting_has_a_row():
    page = settings_page()
    assert all(page.count(f"| `{f.name}` |") == 1 for f in fields(Config))
