"""What is asked for, over HTTP, for each kind of address."""

from __future__ import annotations

from pathlib import Path

import pytest

from backbeat.datasets.transport.addresses import resolve
from backbeat.errors import DownloadError

REVISION = "985bf1b0b1a8b6c1b0f1a8b6c1b0f1a8b6c1b0f1"
ON_THE_HUB = f"hf://datasets/someone/sounds@{REVISION}/deep/kit%20one.npy"


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be nobody to the hub: without a token in the environment or in the home folder."""
    for name in ("HF_ENDPOINT", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))


ASKED = {
    "Hugging Face": (
        ON_THE_HUB,
        f"https://huggingface.co/datasets/someone/sounds/resolve/{REVISION}/deep/kit%20one.npy",
    ),
    "Zenodo": (
        "zenodo://5120004/musicnet%20v1.tar.gz",
        "https://zenodo.org/records/5120004/files/musicnet%20v1.tar.gz?download=1",
    ),
    "Google Drive": (
        "gdrive://1xC37E59_-",
        "https://drive.usercontent.google.com/download?id=1xC37E59_-&export=download&confirm=t",
    ),
    "HTTPS": ("https://example.org/a%20b.zip?key=1", "https://example.org/a%20b.zip?key=1"),
    "HTTP": ("http://example.org/a.zip", "http://example.org/a.zip"),
}


@pytest.mark.parametrize("case", ASKED)
def test_address_is_asked_for_at(case: str) -> None:
    url, asked = ASKED[case]
    assert resolve(url).url == asked


@pytest.mark.parametrize("case", ASKED)
def test_without_a_token_no_header_is_sent(case: str) -> None:
    assert resolve(ASKED[case][0]).headers == {}


def test_token_of_the_environment_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    assert resolve(ON_THE_HUB).headers == {"Authorization": "Bearer hf_canary"}


def test_token_of_an_earlier_login_is_sent(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_canary\n")
    assert resolve(ON_THE_HUB).headers == {"Authorization": "Bearer hf_canary"}


@pytest.mark.parametrize("case", [case for case in ASKED if case != "Hugging Face"])
def test_token_is_for_the_hub_alone(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    assert resolve(ASKED[case][0]).headers == {}


def test_token_can_be_kept_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    assert resolve(ON_THE_HUB).headers == {}


def test_another_endpoint_is_asked_if_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example.org/")
    assert resolve(ON_THE_HUB).url.startswith("http://mirror.example.org/datasets/someone/sounds/resolve/")


def test_name_that_no_repository_can_have_is_an_error() -> None:
    with pytest.raises(DownloadError, match="cannot be an address"):
        resolve("hf://datasets/some--one/sounds..@main/a.npy")
