"""Settings: flag over variable over default."""

from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_settings import CliApp

from service.settings import Settings


def test_the_defaults_listen_on_loopback_only() -> None:
    settings = Settings()

    assert (settings.host, settings.port, settings.weights) == ("127.0.0.1", 8000, "ferplus")
    assert settings.batch_timeout == 0


def test_a_flag_wins_over_a_variable_and_that_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANET_PORT", "9000")
    monkeypatch.setenv("MANET_MAX_BATCH_SIZE", "8")

    settings = CliApp.run(Settings, cli_args=["--port", "9001"])

    assert (settings.port, settings.max_batch_size, settings.host) == (9001, 8, "127.0.0.1")


def test_they_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1


@pytest.mark.parametrize("wrong", [{"port": 70000}, {"max_batch_size": 0}, {"deadline": 0}, {"device": "tpu"}])
def test_a_value_out_of_range_is_an_error_that_names_it(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Settings(**wrong)


def test_every_setting_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        CliApp.run(Settings, cli_args=["--help"])
    shown = " ".join(capsys.readouterr().out.split())

    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in shown
        assert field.description


def test_front_ends_are_one_for_each_cpu_but_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for cpus, count in ((1, 1), (2, 1), (16, 15)):
        monkeypatch.setattr("service.settings.available_cpus", lambda: cpus)  # noqa: B023
        assert Settings(front_ends="auto").front_end_count == count
    assert CliApp.run(Settings, cli_args=["--front-ends", "3"]).front_end_count == 3
    assert Settings().front_end_count == 1


@pytest.mark.parametrize("wrong", [0, "many"])
def test_a_number_of_front_ends_that_is_none_is_an_error(wrong: Any) -> None:
    with pytest.raises(ValidationError, match="front_ends"):
        Settings(front_ends=wrong)


def test_several_front_ends_need_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(ValidationError, match="more than one front end needs Linux"):
        Settings(front_ends=2)
    assert Settings().front_end_count == 1
