"""`backbeat doctor` and the bucket: a real S3 server, and a proxy before it that refuses and lies."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from backbeat.cloud import doctor
from backbeat.cloud.doctor_service import PROBE, endpoint, explained, lifecycle, versioning
from backbeat.cloud.examination import Line
from backbeat.remote.bucket import Bucket
from backbeat.remote.credentials import Credentials
from backbeat.remote.settings import RemoteSettings, read_remote
from refusing_proxy import RefusingProxy, refusing_proxy
from s3_server import KEY_ID, REPOSITORY, SECRET, S3Server, point_at, s3_server
from template_settings import as_template

OTHER_KEY_ID, OTHER_SECRET = "fedcba9876543210fedcba987", "another-made-up-secret-for-tests"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3") / "buckets") as running:
        yield running


@pytest.fixture
def proxy(server: S3Server) -> Iterator[RefusingProxy]:
    with refusing_proxy(server.endpoint_url) as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The template's settings, right keys, and no other checks than those of the bucket."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "AWS_PROFILE",
                 "AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_SHARED_CREDENTIALS_FILE", "B2_BUCKET_NAME"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    for name, folder in {"HOME": "home", "DVC_GLOBAL_CONFIG_DIR": "global", "DVC_SYSTEM_CONFIG_DIR": "system"}.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("B2_ACCOUNT_ID", KEY_ID)
    monkeypatch.setenv("B2_APPLICATION_KEY", SECRET)
    monkeypatch.setattr(doctor, "checks_here", lambda project: [])
    project = tmp_path / "project"
    (project / ".dvc").mkdir(parents=True)
    for name in (".dvc/config", ".dvc/aws-b2.ini"):
        shutil.copy(REPOSITORY / name, project / name)
    as_template(project)
    # A folder of its own in the bucket that all tests share: the server sees only after a second what is removed there.
    replace_in_config(project, "s3://your-bucket/dvc", f"s3://your-bucket/{tmp_path.name.replace('_', '-')}")
    return project


def replace_in_config(project: Path, old: str, new: str) -> None:
    path = project / ".dvc/config"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def examined(project: Path, endpoint_url: str | None = None, *, offline: bool = False) -> dict[str, Line]:
    if endpoint_url is not None:
        point_at(project, endpoint_url)
    found = doctor.examine(project, offline=offline)
    lines = {line.name: line for line in found}
    assert len(lines) == len(found)
    return lines


def a_bucket(endpoint_url: str) -> Bucket:
    settings = RemoteSettings("b2", "your-bucket", "dvc", endpoint_url, "us-west-004")
    return Bucket(settings, Credentials(KEY_ID, SECRET, "the test"), tries=1)


def test_the_template_as_it_is_is_not_set_up_which_is_no_failure(project: Path) -> None:
    (line,) = examined(project).values()
    assert (line.state, line.next_step) == ("warning", "backbeat init")
    assert "not set up" in line.found


def test_a_key_that_may_do_everything_is_warned_of_for_deleting_alone(project: Path, server: S3Server) -> None:
    lines = examined(project, server.endpoint_url)
    assert {name for name, line in lines.items() if line.state != "ok"} == {"delete"}
    assert "may delete" in lines["delete"].found


def test_a_push_key_that_may_not_delete_is_right(project: Path, proxy: RefusingProxy) -> None:
    proxy.refuses = lambda method, path: method == "DELETE"
    lines = examined(project, proxy.endpoint_url)
    assert {line.state for line in lines.values()} == {"ok"}
    assert "DELETE" in {method for method, _ in proxy.seen}


def test_looking_many_times_leaves_one_object(project: Path, server: S3Server, proxy: RefusingProxy) -> None:
    proxy.refuses = lambda method, path: method == "DELETE"
    for _ in range(3):
        examined(project, proxy.endpoint_url)
    prefix = read_remote(project).prefix
    assert [key for key in server.objects() if key.startswith(f"{prefix}/")] == [f"{prefix}/{PROBE}"]
    # What is overwritten is a hidden version on B2: two the first time, then one for each look.
    assert sum(method == "PUT" for method, _ in proxy.seen) == 4


def test_a_pull_key_is_told_to_be_one_and_is_not_asked_to_delete(project: Path, proxy: RefusingProxy) -> None:
    proxy.refuses = lambda method, path: method in {"PUT", "DELETE"}
    lines = examined(project, proxy.endpoint_url)
    assert (lines["write"].state, lines["read"].state) == ("warning", "ok")
    assert "delete" not in lines
    assert "DELETE" not in {method for method, _ in proxy.seen}


@pytest.mark.parametrize(("readable", "state"), [(True, "ok"), (False, "fails")])
def test_with_a_key_that_may_not_write_an_object_that_is_there_is_read(
    project: Path, server: S3Server, proxy: RefusingProxy, readable: bool, state: str
) -> None:
    prefix = read_remote(project).prefix
    a_bucket(server.endpoint_url).put(f"{prefix}/files/md5/ab/cdef", b"x", hashlib.md5(b"x").hexdigest())
    proxy.refuses = lambda method, path: method == "PUT" or (path.endswith("/ab/cdef") and not readable)
    lines = examined(project, proxy.endpoint_url)
    assert ("GET", f"/your-bucket/{prefix}/files/md5/ab/cdef") in proxy.seen
    assert (lines["write"].state, lines["read"].state) == ("warning", state)


def test_a_key_that_may_not_list_fails_at_that_and_at_nothing_else(project: Path, proxy: RefusingProxy) -> None:
    proxy.refuses = lambda method, path: method == "GET" and "list-type=2" in path
    lines = examined(project, proxy.endpoint_url)
    assert {name for name, line in lines.items() if line.state == "fails"} == {"list"}
    assert "AccessDenied" in lines["list"].found
    assert lines["list"].next_step


def test_a_wrong_key_is_called_wrong_and_not_short_of_rights(
    project: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("B2_APPLICATION_KEY", OTHER_SECRET)
    lines = examined(project, server.endpoint_url)
    for name in ("list", "write"):
        assert lines[name].state == "fails"
        assert "SignatureDoesNotMatch" in lines[name].found
        assert "B2_APPLICATION_KEY" in str(lines[name].next_step)


def test_a_bucket_that_is_not_there_is_named(project: Path, server: S3Server) -> None:
    replace_in_config(project, "s3://your-bucket/", "s3://nobodys-bucket/")
    line = examined(project, server.endpoint_url)["list"]
    assert line.state == "fails"
    assert "nobodys-bucket" in f"{line.found} {line.next_step}"


@pytest.mark.parametrize(("minutes", "state"), [(-20, "fails"), (20, "fails"), (10, "warning"), (1, "ok")])
def test_a_clock_that_is_wrong_is_told_from_the_services_date(
    project: Path, proxy: RefusingProxy, minutes: int, state: str
) -> None:
    proxy.ahead = dt.timedelta(minutes=minutes)
    lines = {line.name: line for line in endpoint(_settings(project, proxy.endpoint_url))}
    assert lines["clock"].state == state
    if state != "ok":
        assert f"{abs(minutes)} minutes {'behind' if minutes > 0 else 'ahead of'} the service's" in lines["clock"].found


def test_nobody_at_the_endpoint_is_one_line_and_not_one_for_each_question(project: Path) -> None:
    lines = examined(project, "http://127.0.0.1:9")
    assert lines["service"].state == "fails"
    assert "list" not in lines
    assert "write" not in lines


def test_a_service_that_hangs_hides_nothing(
    project: Path, proxy: RefusingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.doctor_service, "_ANSWER_S", 0.2)
    proxy.hangs = True
    lines = examined(project, proxy.endpoint_url)
    assert lines["service"].state == "fails"
    assert lines["keys"].state == "ok"


def test_offline_asks_nobody(project: Path, proxy: RefusingProxy) -> None:
    lines = examined(project, proxy.endpoint_url, offline=True)
    assert "--offline" in lines["service"].found
    assert not proxy.seen


RULES = b"""<LifecycleConfiguration>
<Rule><ID>a</ID><Filter><Prefix>%b</Prefix></Filter><Status>%b</Status>
<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration></Rule>
<Rule><ID>b</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>
<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>
</LifecycleConfiguration>"""
NO_RULES = b"<Error><Code>NoSuchLifecycleConfiguration</Code><Message>none</Message></Error>"


@pytest.mark.parametrize(
    ("answer", "state", "found"),
    [
        ((200, RULES % (b"", b"Enabled")), "ok", "are removed"),
        ((200, RULES % (b"dvc/", b"Enabled")), "ok", "are removed"),
        ((200, RULES % (b"other/", b"Enabled")), "warning", "hidden versions are kept"),
        ((200, RULES % (b"", b"Disabled")), "warning", "hidden versions are kept"),
        ((404, NO_RULES), "warning", "hidden versions are kept and unfinished large files are kept"),
        ((403, b"<Error><Code>AccessDenied</Code></Error>"), "warning", "cannot be seen with this key (AccessDenied)"),
    ],
)
def test_the_rule_for_hidden_versions_is_looked_for(
    proxy: RefusingProxy, answer: tuple[int, bytes], state: str, found: str
) -> None:
    proxy.answers["?lifecycle"] = answer
    (line,) = explained(lifecycle, a_bucket(proxy.endpoint_url))
    assert line.state == state
    assert found in line.found


@pytest.mark.parametrize(("status", "state"), [(b"<Status>Enabled</Status>", "ok"), (b"", "warning")])
def test_a_service_that_keeps_no_versions_is_warned_of(proxy: RefusingProxy, status: bytes, state: str) -> None:
    proxy.answers["?versioning"] = (200, b"<VersioningConfiguration>%b</VersioningConfiguration>" % status)
    (line,) = explained(versioning, a_bucket(proxy.endpoint_url))
    assert line.state == state


def test_a_region_that_is_not_the_endpoints_is_explained(project: Path) -> None:
    replace_in_config(project, "s3://your-bucket/", "s3://some-drums/")
    replace_in_config(project, "region = us-west-004", "region = eu-central-003")
    line = examined(project, offline=True)["bucket"]
    assert line.state == "fails"
    assert "region eu-central-003" in line.found
    assert "us-west-004" in line.found


def test_without_verification_doctor_warns(project: Path) -> None:
    replace_in_config(project, "s3://your-bucket/", "s3://some-drums/")
    replace_in_config(project, "    verify = true\n    # dvc-s3", "    # dvc-s3")
    assert examined(project, offline=True)["verification"].state == "warning"


def test_google_drive_as_default_is_told_why_it_will_not_work(project: Path) -> None:
    replace_in_config(project, "remote = b2", "remote = gdrive")
    line = examined(project)["bucket"]
    assert line.state == "fails"
    assert "OAuth client of your own" in str(line.next_step)


def test_google_drive_with_a_client_of_ones_own_is_right(project: Path) -> None:
    replace_in_config(project, "remote = b2", "remote = gdrive")
    (project / ".dvc/config.local").write_text(
        "['remote \"gdrive\"']\n    gdrive_client_id = x\n    gdrive_client_secret = y\n"
    )
    assert examined(project)["bucket"].state == "ok"


@pytest.fixture
def chosen(project: Path) -> Path:
    """A project with a bucket at Backblaze; nobody is asked."""
    replace_in_config(project, "s3://your-bucket/", "s3://some-drums/")
    return project


def test_right_keys_are_named_by_where_they_are_from(chosen: Path) -> None:
    lines = examined(chosen, offline=True)
    assert lines["keys"] == Line("keys", "ok", "from B2_ACCOUNT_ID and B2_APPLICATION_KEY")
    assert "plain dvc" not in lines


def test_no_keys_is_a_failure_with_a_next_step(chosen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("B2_APPLICATION_KEY")
    line = examined(chosen, offline=True)["keys"]
    assert line.state == "fails"
    assert ".env.example" in str(line.next_step)


def test_a_file_of_keys_that_nobody_has_read_is_pointed_to(chosen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("B2_ACCOUNT_ID")
    monkeypatch.delenv("B2_APPLICATION_KEY")
    (chosen / ".env").touch()
    assert ". ./.env" in str(examined(chosen, offline=True)["keys"].next_step)


def test_without_a_default_remote_doctor_says_how_to_have_one(project: Path) -> None:
    replace_in_config(project, "    remote = b2\n", "")
    line = examined(project)["bucket"]
    assert (line.state, "dvc remote default b2" in str(line.next_step)) == ("warning", True)


def test_a_line_end_in_a_key_is_found(chosen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B2_APPLICATION_KEY", f"{SECRET}\n")
    line = examined(chosen, offline=True)["keys"]
    assert line.state == "fails"
    assert "B2_APPLICATION_KEY" in line.found


def test_the_accounts_master_key_is_refused(chosen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B2_ACCOUNT_ID", "0123456789ab")
    assert "master key" in examined(chosen, offline=True)["keys"].found


def test_amazons_variables_that_shadow_the_keys_are_found(chosen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OTHER_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OTHER_SECRET)
    line = examined(chosen, offline=True)["plain dvc"]
    assert line.state == "warning"
    assert "AWS_ACCESS_KEY_ID" in line.found


def test_a_credentials_file_that_shadows_the_keys_is_found(chosen: Path) -> None:
    folder = chosen.parent / "home" / ".aws"
    folder.mkdir(parents=True)
    (folder / "credentials").write_text(
        f"[default]\naws_access_key_id = {OTHER_KEY_ID}\naws_secret_access_key = {OTHER_SECRET}\n"
    )
    line = examined(chosen, offline=True)["plain dvc"]
    assert line.state == "warning"
    assert "~/.aws/credentials" in line.found


def test_keys_of_this_clone_that_win_over_the_environment_are_found(chosen: Path) -> None:
    (chosen / ".dvc/config.local").write_text(
        f"['remote \"b2\"']\n    access_key_id = {OTHER_KEY_ID}\n    secret_access_key = {OTHER_SECRET}\n"
    )
    lines = examined(chosen, offline=True)
    assert lines["keys"].found == "from .dvc/config.local"
    assert lines["plain dvc"].state == "warning"


def test_a_profile_that_plain_dvc_cannot_find_is_told(chosen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert "AWS_PROFILE" in str(examined(chosen, offline=True)["plain dvc"].next_step)


def test_checksums_are_sent_only_when_required(chosen: Path) -> None:
    line = examined(chosen, offline=True)["checksums"]
    assert (line.state, line.found) == ("ok", "only when required, from .dvc/aws-b2.ini")


def test_a_variable_that_brings_checksums_back_fails(chosen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
    line = examined(chosen, offline=True)["checksums"]
    assert line.state == "fails"
    assert line.next_step == "unset AWS_REQUEST_CHECKSUM_CALCULATION"


def test_a_config_file_of_the_users_own_that_brings_checksums_back_fails(
    chosen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.ini"
    own.write_text("[default]\nregion = us-east-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(own))
    lines = examined(chosen, offline=True)
    assert lines["checksums"].state == "fails"
    assert str(own) in lines["checksums"].found
    # The keys came from the file that is now hidden.
    assert lines["plain dvc"].state == "warning"


def _settings(project: Path, endpoint_url: str) -> RemoteSettings:
    return dataclasses.replace(read_remote(project), endpoint_url=endpoint_url)
