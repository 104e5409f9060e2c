"""Random sequences of work, transfers, kills and damage, against a record of what must be there."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import backbeat.cloud.pull as pull_module
import backbeat.cloud.push as push_module
from backbeat.cloud.dvc_program import Ended
from backbeat.cloud.pointers import cache_path
from backbeat.cloud.proofs import md5_of
from backbeat.cloud.pull import pull
from backbeat.cloud.push import push
from backbeat.cloud.verify import verify
from backbeat.errors import CloudError
from cloud_world import EXPECTED, CloudWorld, needed, rot, wrong_objects
from s3_proxy import DENIED
from s3_server import run


class Transfers(RuleBasedStateMachine):
    """One clone that works and pushes, one that pulls, and their folder of the bucket.

    Damage is done only to what is whole on the other side, so that nothing is ever lost by that alone.
    """

    world: CloudWorld
    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=self.world.folder))
        self.project = self.world.repository(self.folder / "a")
        self.clone = self.world.clone(self.project, self.folder / "b")
        self.files = dict(EXPECTED)
        self.versions = set(EXPECTED.values())
        self.objects = {one.oid for one in needed(self.project).values()}

    def teardown(self) -> None:
        """Whatever has happened: the next push, repair and pull put everything right."""
        try:
            self.push()
            self.repair()
            self.pull()
        finally:
            shutil.rmtree(self.folder)

    @rule(size_bytes=st.integers(0, 3000))
    def add(self, size_bytes: int) -> None:
        """A new version of a folder, as `dvc add` makes it."""
        content = hashlib.shake_128(str(next(self.numbers)).encode()).digest(size_bytes)
        path = "data/pair/one"
        if not self.is_whole_here():
            return
        (self.project / path).unlink(missing_ok=True)
        (self.project / path).write_bytes(content)
        run(self.project, "dvc", "add", "--quiet", "data/pair")
        shutil.copy(self.project / "data/pair.dvc", self.clone / "data/pair.dvc")
        self.files[path] = content
        self.versions.add(content)
        self.objects = {one.oid for one in needed(self.project).values()}

    @rule()
    def push(self) -> None:
        before = self.whole_in_the_bucket()
        if all(oid in before or self.is_whole(oid) for oid in self.objects):
            push(self.project)
            assert self.whole_in_the_bucket() >= self.objects
        else:
            with pytest.raises(CloudError):
                push(self.project)

    @rule(puts=st.integers(0, 6))
    def push_that_is_cut(self, puts: int) -> None:
        self.world.proxy.spoil(DENIED, "PUT", first=puts)
        try:
            push(self.project)
        except CloudError:
            pass
        else:
            assert self.whole_in_the_bucket() >= self.objects
        finally:
            self.world.proxy.heal()

    @rule()
    def pull(self) -> None:
        if self.whole_in_the_bucket() >= self.objects:
            pull(self.clone)
            assert {path: (self.clone / path).read_bytes() for path in self.files} == self.files
        else:
            try:
                pull(self.clone)
            except CloudError:
                return
            # What the bucket has lost was here before.
            assert {path: (self.clone / path).read_bytes() for path in self.files} == self.files

    @rule(which=st.integers(0, 20), content=st.sampled_from([b"", b"cut", None]))
    def damage_the_bucket(self, which: int, content: bytes | None) -> None:
        stored = sorted(oid for oid in self.whole_in_the_bucket() if self.is_whole(oid))
        if stored:
            oid = stored[which % len(stored)]
            self.world.delete(self.project, oid) if content is None else self.world.put(self.project, oid, content)

    @rule(which=st.integers(0, 20))
    def rot_in_the_cache(self, which: int) -> None:
        there = self.whole_in_the_bucket()
        here = sorted(oid for oid in self.objects if oid in there and self.is_whole(oid))
        oids = [oid for oid in here if cache_path(self.project, oid).stat().st_size]
        if oids:
            rot(self.project, oids[which % len(oids)])

    @rule()
    def collect_garbage(self) -> None:
        run(self.project, "dvc", "gc", "--workspace", "--force", "--quiet", check=False)

    @rule()
    def repair(self) -> None:
        found = verify(self.project, remote=True, repair=True)
        assert found.wrong == ()
        assert self.whole_in_the_bucket() >= self.objects
        assert {path: (self.project / path).read_bytes() for path in self.files} == self.files

    @invariant()
    def nothing_is_lost(self) -> None:
        there = self.whole_in_the_bucket()
        assert all(oid in there or self.is_whole(oid) for oid in self.objects)

    @invariant()
    def clone_has_nothing_that_is_wrong(self) -> None:
        assert wrong_objects(self.clone) == []
        files = [self.clone / path for path in self.files if (self.clone / path).is_file()]
        assert all(file.read_bytes() in self.versions for file in files)

    def is_whole(self, oid: str) -> bool:
        file = cache_path(self.project, oid)
        return file.is_file() and md5_of(file) == oid.removesuffix(".dir")

    def is_whole_here(self) -> bool:
        return all(self.is_whole(oid) for oid in self.objects)

    def whole_in_the_bucket(self) -> set[str]:
        stored = self.world.stored(self.project)
        return {oid for oid, md5_hex in stored.items() if md5_hex == oid.removesuffix(".dir")}


@pytest.fixture
def machine(world: CloudWorld) -> type[Transfers]:
    return type("TransfersHere", (Transfers,), {"world": world})


def walk(machine: type[Transfers], walks: int, steps: int) -> None:
    # A step is processes and requests: how long it takes says nothing.
    chosen = settings(
        max_examples=walks,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)


@pytest.mark.slow
def test_nothing_is_lost_or_wrong_while_dvc_sends_and_fetches_nothing(
    machine: type[Transfers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC's part left out: what is shown is ours, in many more steps for the time."""
    monkeypatch.setattr(push_module, "_push_by_dvc", lambda *_: None)
    monkeypatch.setattr(pull_module, "run_dvc", lambda *_, **__: Ended(1, "ERROR: nothing"))
    walk(machine, walks=1, steps=6)


@pytest.mark.slow
def test_nothing_is_lost_or_wrong(machine: type[Transfers]) -> None:
    walk(machine, walks=12, steps=15)
