"""What to ask for, over HTTP, to get what an address of a record stands for.

- `hf://datasets/<repo>@<revision>/<file>`: the file at that revision, at `HF_ENDPOINT` if that is set. The token is
  the one of `huggingface_hub` (`HF_TOKEN`, or what `hf auth login` has left), unless `HF_HUB_DISABLE_IMPLICIT_TOKEN`
  is set. It goes to the hub alone: `requests` drops it where the hub redirects to another host.
- `zenodo://<record>/<file>`: the file of that record; a new version of it is another record.
- `gdrive://<id>`: the file of that id, with the question about viruses answered beforehand.
- `http://…` and `https://…`: themselves.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import quote, unquote

from backbeat.datasets.registry import url_scheme
from backbeat.errors import DownloadError

ZENODO = "https://zenodo.org"
GOOGLE_DRIVE = "https://drive.usercontent.google.com"


@dataclass(frozen=True)
class Address:
    """An HTTP address and the headers to send to it (and only to its host: they may hold a token)."""

    url: str
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class HubFile:
    """A file of a dataset repository on the Hugging Face hub."""

    repo: str
    revision: str
    name: str

    def __str__(self) -> str:
        return f"hf://datasets/{self.repo}@{self.revision}/{quote(self.name)}"


def resolve(url: str) -> Address:
    """Return what to ask for to get the bytes of an `http:`, `https:`, `hf:`, `gdrive:` or `zenodo:` address.

    Raises:
        DownloadError: if the hub can have no repository of that name.
    """
    match url_scheme(url):
        case "hf":
            return _of_hugging_face(hub_file(url))
        case "zenodo":
            record, name = zenodo_file(url)
            return Address(f"{ZENODO}/records/{record}/files/{quote(name)}?download=1")
        case "gdrive":
            drive_id = url.removeprefix("gdrive://")
            return Address(f"{GOOGLE_DRIVE}/download?id={drive_id}&export=download&confirm=t")
    return Address(url)


def hub_file(url: str) -> HubFile:
    """Return what an `hf:` address names."""
    repo, _, rest = url.removeprefix("hf://datasets/").partition("@")
    revision, _, name = rest.partition("/")
    return HubFile(repo, revision, unquote(name))


def zenodo_file(url: str) -> tuple[str, str]:
    """Return the record and the file that a `zenodo:` address names."""
    record, _, name = url.removeprefix("zenodo://").partition("/")
    return record, unquote(name)


def hub_endpoint() -> str:
    """Return where the Hugging Face hub is; asked for each time, unlike by the library, which remembers the first."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _of_hugging_face(file: HubFile) -> Address:
    from huggingface_hub import constants, get_token, hf_hub_url

    try:
        url = hf_hub_url(file.repo, file.name, repo_type="dataset", revision=file.revision, endpoint=hub_endpoint())
    except ValueError as error:
        step = "correct urls in the record"
        raise DownloadError(f"{file} cannot be an address", got=str(error), next_step=step) from error
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    return Address(url, MappingProxyType({"Authorization": f"Bearer {token}"} if token else {}))
