"""The house holds: who may import whom, what files may be called, and where options come from."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpufleet.launch import APP, dashboard_part

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("gpufleet", "dashboard", "collectors", "store", "planner", "sample_data")

_PRINT_OPTIONS = """
import json, sys
from streamlit import config
from streamlit.web import bootstrap
config._main_script_path = sys.argv[1]
flags = dict(item.removeprefix("--").split("=", 1) for item in sys.argv[2:])
bootstrap.load_config_options(
    {name.replace(".", "_"): int(value) if value.isdigit() else value for name, value in flags.items()}
)
options = config.get_config_options()
print(json.dumps({name: repr(option.value) for name, option in sorted(options.items())}))
"""


def python_files() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def streamlit_options(directory: Path, home: Path, *flags: str) -> dict[str, str]:
    """Every option as Streamlit resolves it when it is started in `directory`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMLIT_")}
    answer = subprocess.run(
        [sys.executable, "-c", _PRINT_OPTIONS, str(APP), *flags],
        cwd=directory,
        env={**environment, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    options: dict[str, str] = json.loads(answer.stdout)
    return options


def test_every_room_imports_only_what_it_may() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    answer = subprocess.run([str(linter), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_no_module_of_the_dashboard_shadows_a_package() -> None:
    # `streamlit run dashboard/app.py` puts dashboard/ first on the import path.
    names = {path.stem for path in (ROOT / "dashboard").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert names.isdisjoint({*PACKAGES, "tests", "benchmarks"})


@pytest.mark.parametrize("word", ["utils", "util", "helpers", "helper", "common", "manager", "handler", "misc"])
def test_no_file_has_a_name_that_says_nothing(word: str) -> None:
    assert [path for path in python_files() if path.stem == word] == []


def test_only_the_dashboard_app_and_its_views_import_streamlit() -> None:
    allowed = {ROOT / "dashboard" / "app.py", *(ROOT / "dashboard" / "views").glob("*.py")}
    offenders = [
        path
        for path in python_files()
        if path not in allowed and "import streamlit" in path.read_text(encoding="utf-8")
    ]
    assert offenders == []


def test_the_streamlit_options_are_one_file() -> None:
    for link in (ROOT / ".streamlit" / "config.toml", ROOT / "dashboard" / ".streamlit" / "config.toml"):
        assert link.is_symlink(), link
        assert link.resolve() == ROOT / "streamlit_config.toml"


def test_gpufleet_run_and_plain_streamlit_run_end_up_with_the_same_options(tmp_path: Path) -> None:
    port = 8501
    flags = dashboard_part(store_url="sqlite:///x.db", port=port).command[5:]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    ours = streamlit_options(elsewhere, tmp_path, *flags)
    plain = streamlit_options(ROOT, tmp_path)

    # Names the starting folder; drawn anew by every process.
    for own in ("secrets.files", "server.cookieSecret"):
        assert ours.pop(own)
        assert plain.pop(own)
    assert ours == plain
    assert plain["server.address"] == repr("127.0.0.1")
    assert plain["browser.gatherUsageStats"] == repr(False)
    assert plain["server.port"] == repr(port)
