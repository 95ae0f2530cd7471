import tomllib

from tests.conftest import ROOT

OPTIONS = tomllib.loads((ROOT / "streamlit_config.toml").read_text(encoding="utf-8"))


def test_streamlit_reads_the_options_through_a_link() -> None:
    link = ROOT / ".streamlit" / "config.toml"
    assert link.is_symlink()
    assert link.readlink().as_posix() == "../streamlit_config.toml"


def test_the_dashboard_is_for_this_machine_only_and_phones_nobody() -> None:
    assert OPTIONS["server"]["address"] == "127.0.0.1"
    assert OPTIONS["server"]["enableXsrfProtection"] is True
    assert OPTIONS["browser"]["gatherUsageStats"] is False
    assert OPTIONS["client"]["showErrorDetails"] == "none"


def test_no_icon_of_the_page_frame_is_fetched_from_elsewhere() -> None:
    assert 'page_icon=":' not in (ROOT / "dashboard" / "app.py").read_text(encoding="utf-8")
