"""A push after which the bucket has everything, whole; beside it what DVC alone does, to notice a better DVC."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import backbeat.cloud.push as push_module
from backbeat.cloud.backup import backup
from backbeat.cloud.bucket_objects import BucketObjects
from backbeat.cloud.dvc_program import Ended
from backbeat.cloud.pointers import cache_path
from backbeat.cloud.proofs import open_proofs
from backbeat.cloud.push import push
from backbeat.errors import CloudError
from cloud_world import EXPECTED, FILE_BYTES, MODEL, CloudWorld, needed, oid_of, rot
from s3_proxy import DENIED, Fault
from s3_server import SECRET, run

A, B = (oid_of(EXPECTED[f"data/kits/{name}"]) for name in ("a.h5", "b.h5"))


def require_everything_there(world: CloudWorld, project: Path) -> None:
    stored = world.stored(project)
    wanted = {one.oid: one.md5_hex for one in needed(project).values()}
    assert {oid: stored.get(oid) for oid in wanted} == wanted


def without_dvc(*_: object, **__: object) -> None:
    raise AssertionError("DVC was started")


@pytest.fixture
def lame_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    """A DVC that sends nothing and says that all is well, at no cost."""
    monkeypatch.setattr(push_module, "_push_by_dvc", lambda *_: None)


def test_push_sends_everything_and_says_so(world: CloudWorld, tmp_path: Path) -> None:
    project = world.repository(tmp_path / "a")
    done = push(project)
    assert (done.sent, done.by_us, done.read_back) == (9, 0, 8)
    require_everything_there(world, project)
    assert run(project, "git", "status", "--porcelain").stdout == ""


def test_pushing_what_is_there_is_a_handful_of_requests_without_dvc(
    world: CloudWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = world.pushed_repository(tmp_path / "a")
    monkeypatch.setattr(push_module, "run_dvc", without_dvc)
    assert push(project).sent == 0
    assert dict(world.proxy.counts) == {"LIST": 1}


def test_push_of_a_target_sends_that_alone(world: CloudWorld, tmp_path: Path, lame_dvc: None) -> None:
    project = world.repository(tmp_path / "a")
    push(project, ["kits"])
    listing = needed(project)["data/kits"].oid
    assert set(world.stored(project)) == {
        listing,
        *(oid_of(EXPECTED[p]) for p in EXPECTED if p.startswith("data/kits")),
    }


def test_push_of_a_part_of_a_folder_sends_all_of_it(world: CloudWorld, tmp_path: Path, lame_dvc: None) -> None:
    """With its list alone, everybody would believe that the rest is there as well."""
    project = world.repository(tmp_path / "a")
    assert push(project, ["data/kits/more", "data/kits/a.h5"]).sent == 5


def test_bucket_that_lacks_what_dvc_believes_is_in_sync_is_completed(world: CloudWorld, tmp_path: Path) -> None:
    """The state that a push leaves that was killed while it collected."""
    project = world.pushed_repository(tmp_path / "a")
    world.delete(project, A)
    world.delete(project, B)
    # What DVC alone does: it sees the folder's list, and is content.
    assert run(project, "dvc", "push").stdout == "Everything is up to date.\n"
    assert A not in world.stored(project)
    done = push(project)
    assert (done.sent, done.by_us) == (2, 2)
    require_everything_there(world, project)


@pytest.mark.parametrize(
    "damage", [b"", MODEL[:1000], bytes([MODEL[0] ^ 1]) + MODEL[1:]], ids=["emptied", "cut", "bit"]
)
def test_damaged_object_in_the_bucket_is_replaced(damage: bytes, world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    world.put(project, oid_of(MODEL), damage)
    if not damage:
        # What DVC alone does: the name is there.
        assert run(project, "dvc", "push").returncode == 0
        assert world.stored(project)[oid_of(MODEL)] == oid_of(damage)
    assert push(project).sent == 1
    require_everything_there(world, project)


def test_rotten_object_is_refused_by_name_and_nothing_is_sent(world: CloudWorld, tmp_path: Path) -> None:
    project = world.repository(tmp_path / "a")
    rot(project, A)
    with pytest.raises(CloudError, match=r"data/kits/a\.h5") as refused:
        push(project)
    assert "dvc repro" in str(refused.value)
    assert (world.proxy.counts["PUT"], world.stored(project)) == (0, {})
    # What DVC alone does: it sends rot under the name of what was once there.
    assert run(project, "dvc", "push").returncode == 0
    assert world.stored(project)[A] != A


def test_object_written_through_a_link_in_the_workspace_is_refused(world: CloudWorld, tmp_path: Path) -> None:
    project = world.repository(tmp_path / "a")
    linked = project / "model.bin"
    linked.unlink()
    linked.hardlink_to(cache_path(project, oid_of(MODEL)))
    linked.chmod(0o644)
    linked.write_bytes(MODEL[:-1] + b"!")
    linked.chmod(0o444)
    with pytest.raises(CloudError, match=r"model\.bin"):
        push(project)
    assert world.stored(project) == {}


def test_rotten_object_that_is_whole_in_the_bucket_stands_in_nobodys_way(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    rot(project, A, b"something shorter")
    world.delete(project, B)
    push(project)
    require_everything_there(world, project)


def test_what_is_missing_on_both_sides_is_an_error_with_path_and_stage(world: CloudWorld, tmp_path: Path) -> None:
    project = world.repository(tmp_path / "a")
    cache_path(project, A).unlink()
    # What DVC alone does: a warning, and success.
    alone = run(project, "dvc", "push", "data/kits", check=False)
    assert (alone.returncode, "does not exist" in alone.stderr or "issing" in alone.stderr) == (0, True)
    with pytest.raises(CloudError, match=r"data/kits/a\.h5") as refused:
        push(project)
    assert "data/kits.dvc" in str(refused.value)


def test_missing_list_of_files_is_an_error_with_the_artifact(world: CloudWorld, tmp_path: Path) -> None:
    project = world.repository(tmp_path / "a")
    cache_path(project, needed(project)["data/kits"].oid).unlink()
    with pytest.raises(CloudError, match="data/kits"):
        push(project)
    assert world.proxy.counts["PUT"] == 0


def test_what_is_here_no_more_and_whole_in_the_bucket_is_fine(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    cache_path(project, A).unlink()
    cache_path(project, needed(project)["data/kits"].oid).unlink()
    assert push(project).sent == 0


def test_what_dvc_cannot_send_is_sent_by_us(world: CloudWorld, tmp_path: Path) -> None:
    project = world.repository(tmp_path / "a")
    # As often as DVC tries.
    world.proxy.spoil(DENIED, "PUT", key=A[2:], times=1)
    done = push(project)
    assert done.by_us >= 1
    require_everything_there(world, project)


def test_lists_are_sent_after_their_files(world: CloudWorld, tmp_path: Path, lame_dvc: None) -> None:
    project = world.repository(tmp_path / "a")
    assert push(project).by_us == 9
    sent = [asked.key.endswith(".dir") for asked in world.proxy.asked if asked.kind == "PUT"]
    assert sent == [False] * 7 + [True] * 2


def test_what_reads_back_wrong_is_sent_again_although_its_listing_is_right(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    world.delete(project, A)
    world.proxy.forget()
    world.proxy.spoil(Fault(flip_at=7), "GET", key=A[2:], times=1)
    done = push(project, full=True)
    assert (done.by_us, [a.key.endswith(A[2:]) for a in world.proxy.asked if a.kind == "PUT"].count(True)) == (1, 2)


def test_what_stays_wrong_is_an_error(world: CloudWorld, tmp_path: Path, lame_dvc: None) -> None:
    project = world.repository(tmp_path / "a")
    world.proxy.spoil(Fault(flip_at=7), "GET", key=A[2:])
    with pytest.raises(CloudError, match=r"not whole in the bucket: data/kits/a\.h5"):
        push(project, full=True)


def test_etag_that_is_no_md5_is_proven_by_reading_once(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    bucket = world.bucket(project)
    key, client = world.key(project, A), bucket.client
    upload = client.create_multipart_upload(Bucket="your-bucket", Key=key)["UploadId"]
    part = {"Bucket": "your-bucket", "Key": key, "UploadId": upload, "PartNumber": 1}
    etag = client.upload_part(**part, Body=EXPECTED["data/kits/a.h5"])["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    client.complete_multipart_upload(Bucket="your-bucket", Key=key, UploadId=upload, MultipartUpload=parts)
    monkey = {one.key: one.etag for one in bucket.list(key)}
    reads = []
    for _ in range(2):
        world.proxy.forget()
        assert push(project).sent == 0
        reads.append(world.proxy.counts["GET"])
    assert reads == ([0, 0] if monkey[key] == A else [1, 0])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("push_gb: 10 ", "push_gb"),
        ("stored_gb: 10 ", "stored_gb"),
    ],
)
def test_budget_stops_a_push_before_its_first_byte(change: str, named: str, world: CloudWorld, tmp_path: Path) -> None:
    project = world.repository(tmp_path / "a")
    policy = project / "configs/cloud.yaml"
    text = policy.read_text()
    assert change in text
    policy.write_text(text.replace(change, change.replace("10", "0.00001")))
    with pytest.raises(CloudError, match="budget") as refused:
        push(project)
    assert (named in str(refused.value), world.proxy.counts["PUT"]) == (True, 0)


def test_max_gb_stops_a_push_before_its_first_byte(world: CloudWorld, tmp_path: Path) -> None:
    project = world.repository(tmp_path / "a")
    with pytest.raises(CloudError, match="more than was allowed"):
        push(project, max_gb=5 * FILE_BYTES / 1e9)
    assert push(project, max_gb=1, dry_run=True).bill.to_move == 9
    assert push(project, agree=lambda _: False).was_declined
    assert world.proxy.counts["PUT"] == 0


def test_bill_says_objects_bytes_time_and_money(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    world.delete(project, A)
    bill = push(project, dry_run=True, mbps=0.16).bill
    assert (bill.objects, bill.objects_there, bill.to_move, bill.to_move_bytes) == (9, 8, 1, FILE_BYTES)
    assert bill.duration_s == pytest.approx(1.0)
    assert (bill.usd_now, bill.usd_per_month) == (0, 0)


def test_key_without_the_right_to_delete_is_enough(world: CloudWorld, tmp_path: Path, lame_dvc: None) -> None:
    project = world.repository(tmp_path / "a")
    world.proxy.refused = {"DELETE"}
    push(project)
    world.put(project, A, b"damage")
    push(project)
    assert world.proxy.methods["DELETE"] == 0
    require_everything_there(world, project)


def test_read_only_key_is_told_apart(world: CloudWorld, tmp_path: Path, lame_dvc: None) -> None:
    project = world.repository(tmp_path / "a")
    world.proxy.refused = {"PUT", "POST"}
    with pytest.raises(CloudError, match="write"):
        push(project)


def test_bucket_of_the_environment_takes_the_place_of_the_placeholder_for_dvc_too(
    world: CloudWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = world.repository(tmp_path / "a")
    world.connect(project, "other")
    bucket = world.bucket(project)
    bucket.client.create_bucket(Bucket="my-own-bucket")
    monkeypatch.setenv("B2_BUCKET_NAME", "my-own-bucket")
    assert (push(project).by_us, world.bucket(project).settings.bucket) == (0, "my-own-bucket")
    require_everything_there(world, project)
    assert list(bucket.list("other/")) == []


def test_keys_are_on_no_command_line_and_in_no_file(
    world: CloudWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    project = world.repository(tmp_path / "a")
    seen = []
    original = push_module.run_dvc

    def look(*arguments: object, **options: object) -> object:
        def find() -> None:
            seen.extend(text for text in texts() if SECRET.encode() in text)
            seen.append(b"looked")

        def texts() -> list[bytes]:
            lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
            return lines + [path.read_bytes() for path in tmp_path.rglob("*config*") if path.is_file()]

        return original(*arguments, **{**options, "look": find})

    monkeypatch.setattr(push_module, "run_dvc", look)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    push(project)
    assert set(seen) == {b"looked"}
    assert SECRET not in caplog.text


def test_log_says_how_much_has_arrived(
    world: CloudWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = world.pushed_repository(tmp_path / "a")
    monkeypatch.setattr("backbeat.cloud.arriving.PLAIN_INTERVAL_S", 0)
    monkeypatch.setattr("backbeat.progress.PLAIN_INTERVAL_S", 0)

    def look_often(*_: object, look: Callable[[], None], **__: object) -> Ended:
        for _ in range(2):
            look()
        return Ended(1, "ERROR: failed")

    monkeypatch.setattr(push_module, "run_dvc", look_often)
    world.delete(project, needed(project)["data/pair"].oid)
    world.delete(project, A)
    push(project)
    assert "push: " in capsys.readouterr().err
    with open_proofs(project) as proofs:
        remote = BucketObjects(world.bucket(project), proofs)
        assert push_module._arrived_bytes(remote, {A, B, "0" * 32}) == 2 * FILE_BYTES


NEVER = 'stages:\n  train:\n    cmd: "true"\n    outs: [models]\n'


def test_what_was_never_made_is_no_success(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    (project / "dvc.yaml").write_text(NEVER)
    with pytest.raises(CloudError, match="models was never made"):
        push(project, ["train"])
    # The rest is pushed, and said not to be all.
    world.delete(project, A)
    done = run(project, "backbeat", "cloud", "push", check=False)
    assert (done.returncode, "models was never made: dvc repro train" in done.stderr) == (1, True)
    require_everything_there(world, project)
    for pointer in [project / "model.bin.dvc", *project.glob("data/*.dvc")]:
        pointer.unlink()
    with pytest.raises(CloudError, match="models was never made"):
        push(project)


def test_damaged_list_in_the_cache_stands_in_no_backups_way(world: CloudWorld, tmp_path: Path) -> None:
    project = world.pushed_repository(tmp_path / "a")
    rot(project, needed(project)["data/kits"].oid)
    assert len(backup(project, dry_run=True).files) == len(EXPECTED)
