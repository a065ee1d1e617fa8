"""The file of a cluster: what it may say, and one clear line for what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.cluster.config import ClusterConfig, cluster_config, read_cluster_file
from service.errors import ClusterFileInvalid

STORE = "lance:///srv/pictures"


def written(folder: Path, text: str) -> Path:
    path = folder / "cluster.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_says_what_runs_where(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        f"""
        [settings]
        store = "{STORE}"
        batch_size = 8
        [http]
        host = "127.0.0.1"
        port = 8080
        [first_pass]
        min_replicas = 1
        max_replicas = 4
        gpus = 0.5
        """,
    )
    config = read_cluster_file(path)
    settings = config.service_settings()
    assert (settings.store, settings.batch_size) == (STORE, 8)
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert (config.first_pass.most, config.first_pass.gpus) == (4, 0.5)
    assert config.second_pass.most == 1


def test_others_reach_a_cluster_unless_the_file_says_otherwise() -> None:
    config = cluster_config({"settings": {"store": STORE}})
    assert config.service_settings().host == "0.0.0.0"


def test_what_the_file_leaves_out_comes_from_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PRECIS_STORE", STORE)
    monkeypatch.setenv("PRECIS_BATCH_SIZE", "3")
    config = cluster_config({"settings": {"batch_size": 5}})
    settings = config.service_settings()
    assert (settings.store, settings.batch_size) == (STORE, 5)


@pytest.mark.parametrize(
    ("contents", "complaint"),
    [
        ({"setings": {}}, "setings: Extra inputs"),
        ({"settings": {"stroe": "x"}}, "there is no setting 'stroe'"),
        ({"settings": {"api_key": "secret-secret"}}, "set PRECIS_API_KEY"),
        ({"settings": {"port": 1}}, "`port` under [http]"),
        ({"settings": {"store": "postgresql://a:hush@db/x"}}, "~/.pgpass"),
        ({"first_pass": {"min_replicas": 3, "max_replicas": 2}}, "not be less than"),
        ({"first_pass": {"min_replicas": 0}}, "first_pass.min_replicas: "),
        ({"http": {"port": 0}}, "http.port: "),
    ],
)
def test_what_cannot_be_is_one_line_without_secrets(
    contents: dict[str, dict[str, object]], complaint: str
) -> None:
    with pytest.raises(ClusterFileInvalid) as refused:
        cluster_config(contents)
    message = str(refused.value)
    assert complaint in message
    assert "\n" not in message
    assert "secret-secret" not in message
    assert "hush" not in message


@pytest.mark.parametrize("store", ["sqlite", "memory"])
def test_a_store_that_replicas_cannot_share_is_refused(store: str) -> None:
    config = ClusterConfig(settings={"store": store})
    with pytest.raises(ClusterFileInvalid, match="cannot share"):
        config.service_settings()


def test_a_setting_with_a_wrong_value_is_told_without_it() -> None:
    config = ClusterConfig(settings={"store": STORE, "batch_size": "hush"})
    with pytest.raises(ClusterFileInvalid, match=r"\[settings\] batch_size: ") as told:
        config.service_settings()
    assert "hush" not in str(told.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ClusterFileInvalid, match="No such file"):
        read_cluster_file(tmp_path / "absent.toml")
    with pytest.raises(ClusterFileInvalid, match="is not TOML"):
        read_cluster_file(written(tmp_path, "settings = ["))
    with pytest.raises(ClusterFileInvalid, match=r"cluster\.toml: http\.port"):
        read_cluster_file(written(tmp_path, "[http]\nport = 'x'"))
