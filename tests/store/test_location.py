"""The store is found where it was said to be."""

from pathlib import Path

import pytest

from store.errors import StoreUnavailable
from store.location import store_url


def test_the_environment_comes_first(tmp_path: Path) -> None:
    (tmp_path / "gpufleet.toml").write_text('[store]\nurl = "sqlite:///other.db"\n', encoding="utf-8")
    assert store_url({"GPUFLEET_STORE_URL": "sqlite:///told.db"}, tmp_path) == "sqlite:///told.db"


def test_an_empty_variable_says_nothing(tmp_path: Path) -> None:
    assert store_url({"GPUFLEET_STORE_URL": " "}, tmp_path) == f"sqlite:///{tmp_path}/gpufleet.db"


def test_the_configuration_in_the_folder_comes_second_and_its_paths_start_there(tmp_path: Path) -> None:
    (tmp_path / "gpufleet.toml").write_text('version = 1\n[store]\nurl = "sqlite:///data/a.db"\n', encoding="utf-8")
    assert store_url({}, tmp_path) == f"sqlite:///{tmp_path}/data/a.db"


def test_an_absolute_path_and_another_database_stay_as_they_are(tmp_path: Path) -> None:
    for url in ("sqlite:////var/lib/gpufleet.db", "postgresql://fleet:secret@db/fleet"):
        (tmp_path / "gpufleet.toml").write_text(f'[store]\nurl = "{url}"\n', encoding="utf-8")
        assert store_url({}, tmp_path) == url


def test_a_configuration_without_a_store_means_the_default(tmp_path: Path) -> None:
    (tmp_path / "gpufleet.toml").write_text("version = 1\n", encoding="utf-8")
    assert store_url({}, tmp_path) == f"sqlite:///{tmp_path}/gpufleet.db"


@pytest.mark.parametrize("text", ["[store\nurl = 1", '[store]\nurl = "no url"\n'])
def test_a_configuration_that_cannot_be_understood_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "gpufleet.toml").write_text(text, encoding="utf-8")
    with pytest.raises(StoreUnavailable, match="gpufleet"):
        store_url({}, tmp_path)
