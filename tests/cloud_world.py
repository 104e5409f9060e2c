"""Repositories whose remote is a real S3 server behind a misbehaving proxy: each with its own folder of the bucket."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from backbeat.cloud.bucket_objects import BucketObjects
from backbeat.cloud.contents import read_contents, unique
from backbeat.cloud.pointers import Needed, cache_path
from backbeat.cloud.proofs import md5_of, open_proofs
from backbeat.cloud.push import send
from backbeat.remote.bucket import Bucket, open_bucket
from s3_proxy import S3Proxy, s3_proxy
from s3_server import S3Server, commit, environment, new_repository, run, s3_server

FILE_BYTES = 20_000

FILES = {
    name: {relative: random.Random(f"{name}/{relative}").randbytes(FILE_BYTES) for relative in relatives}
    for name, relatives in {
        "data/kits": ("a.h5", "b.h5", "more/c.h5", "more/d.h5"),
        "data/pair": ("one", "two"),
    }.items()
}
MODEL = random.Random("model").randbytes(FILE_BYTES)

# Every file in the workspace, and what is in it.
EXPECTED = {
    **{f"{name}/{relative}": content for name, files in FILES.items() for relative, content in files.items()},
    "model.bin": MODEL,
}


@dataclass
class CloudWorld:
    """The server, the proxy before it, and a repository to copy."""

    folder: Path
    server: S3Server
    proxy: S3Proxy
    origin: Path
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def repository(self, at: Path) -> Path:
        """Return a copy of the repository, everything in its cache and nothing in its folder of the bucket."""
        subprocess.run(["cp", "-a", self.origin, at], check=True)
        self.connect(at, f"test-{next(self.numbers)}")
        return at

    def pushed_repository(self, at: Path) -> Path:
        """Return one that has everything in the bucket."""
        project = self.repository(at)
        with open_proofs(project) as proofs:
            remote = BucketObjects(self.bucket(project), proofs)
            send(project, list(unique(read_contents(project, (), proofs, None)).values()), remote)
        self.proxy.forget()
        return project

    def clone(self, project: Path, at: Path) -> Path:
        """Return a fresh clone, with an empty cache and the same folder of the bucket."""
        run(at.parent, "git", "clone", "--quiet", str(project), str(at))
        (at / ".dvc/config.local").write_text((project / ".dvc/config.local").read_text())
        return at

    def connect(self, project: Path, prefix: str, **settings: object) -> None:
        """Have a repository use a folder of the bucket, through the proxy."""
        values = {"url": f"s3://your-bucket/{prefix}", "endpointurl": self.proxy.endpoint_url, **settings}
        lines = "".join(f"    {name} = {value}\n" for name, value in values.items())
        (project / ".dvc/config.local").write_text(f"['remote \"b2\"']\n{lines}")

    def bucket(self, project: Path) -> Bucket:
        """Return the bucket of a repository."""
        return open_bucket(project)

    def key(self, project: Path, oid: str) -> str:
        """Return the key of an object."""
        return self.bucket(project).settings.key(f"files/md5/{oid[:2]}/{oid[2:]}")

    def put(self, project: Path, oid: str, content: bytes) -> None:
        """Put something else under an object's key: damage, as the bucket's listing shows it."""
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        self.bucket(project).put(self.key(project, oid), content, digest)

    def delete(self, project: Path, oid: str) -> None:
        """Take an object out of the bucket."""
        bucket = self.bucket(project)
        bucket.client.delete_object(Bucket=bucket.settings.bucket, Key=self.key(project, oid))

    def stored(self, project: Path) -> dict[str, str]:
        """Return the MD5 of every object in the bucket, as its content gives it, by its name."""
        bucket = self.bucket(project)
        start = bucket.settings.key("files/md5/")
        return {one.key.removeprefix(start).replace("/", ""): bucket.md5(one.key) for one in list(bucket.list(start))}


@contextlib.contextmanager
def cloud_world(folder: Path) -> Iterator[CloudWorld]:
    """Start the server and the proxy, and make the repository."""
    with s3_server(folder / "s3") as server, s3_proxy(server.endpoint_url) as proxy:
        origin = new_repository(folder / "origin", FILES)
        (origin / "model.bin").write_bytes(MODEL)
        run(origin, "dvc", "add", "--quiet", "model.bin")
        commit(origin, "model")
        yield CloudWorld(folder, server, proxy, origin)


def enter(world: CloudWorld, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a newcomer with the keys to the bucket, and have the proxy behave."""
    home.mkdir(exist_ok=True)
    wanted = environment(home)
    for name in set(os.environ) - set(wanted):
        monkeypatch.delenv(name)
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    world.proxy.heal()
    world.proxy.forget()


def needed(project: Path) -> dict[str, Needed]:
    """Return the objects that a repository with a whole cache needs, by the paths of their files."""
    with open_proofs(project) as proofs:
        return {one.path: one for one in unique(read_contents(project, (), proofs, None)).values()}


def oid_of(content: bytes) -> str:
    """Return the name of the object with this content."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def rot(project: Path, oid: str, content: bytes | None = None) -> None:
    """Damage an object in the cache as a disk, or root through a link, would: it stays read-only, and the same file."""
    file = cache_path(project, oid)
    file.chmod(0o644)
    spoilt = bytearray(file.read_bytes())
    spoilt[len(spoilt) // 2] ^= 1
    with file.open("r+b") as written:
        written.truncate(0)
        written.write(bytes(spoilt) if content is None else content)
    file.chmod(0o444)


def in_workspace(project: Path) -> dict[str, bytes]:
    """Return the content of each expected file that is in the workspace."""
    return {path: (project / path).read_bytes() for path in EXPECTED if (project / path).is_file()}


def wrong_objects(project: Path) -> list[str]:
    """Return the objects of the cache that are not what their names promise."""
    folder = cache_path(project, "00" * 16).parents[1]
    files = [path for path in folder.glob("??/*") if len(path.name.removesuffix(".dir")) == 30]
    return [path.name for path in files if md5_of(path) != f"{path.parent.name}{path.name}".removesuffix(".dir")]
