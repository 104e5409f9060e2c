"""One look over everything that a pull, a push and a training need, each finding with its next step.

Nothing is changed but one small object in the bucket, written to see what the key may do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from backbeat.cloud import doctor_bucket, doctor_data, doctor_machine, doctor_service
from backbeat.cloud.examination import Check, Line, Running, line_of
from backbeat.errors import BackbeatError
from backbeat.remote.bucket import Bucket
from backbeat.remote.credentials import Credentials, find_credentials, redacted
from backbeat.remote.settings import RemoteSettings

# A person waits for this: the first silence counts.
_CONNECT_S, _READ_S, _TRIES = 5.0, 15.0, 2


def examine(project: Path, *, offline: bool = False) -> list[Line]:
    """Look at the machine, the data, the bucket's settings and, unless `offline`, the bucket.

    Checks run side by side and never raise: what goes wrong with one is its line.
    """
    here = [Running(check) for check in checks_here(project)]
    try:
        settings, about_bucket = doctor_bucket.chosen(project)
    except BackbeatError as error:
        settings, about_bucket = None, [line_of("bucket", error)]
    keys = _keys(project, settings) if settings is not None else None
    if settings is not None:
        about_bucket += _lines(
            Check("keys", partial(doctor_bucket.credentials, project, settings)),
            Check("checksums", partial(doctor_bucket.checksums, project, settings)),
        )
        about_bucket += [Line("service", "ok", "not asked (--offline)")] if offline else _asked(settings, keys)
    found = [line for running in here for line in running.lines()] + about_bucket
    return [_without_keys(line, keys) for line in found] if keys is not None else found


def checks_here(project: Path) -> list[Check]:
    """Return the checks that need neither bucket nor network, in the order in which they are shown."""
    return [
        Check("python", doctor_machine.python),
        Check("packages", partial(doctor_machine.lock, project)),
        Check("GPU", doctor_machine.gpu),
        Check("FUSE", doctor_machine.fuse),
        Check("disks", partial(doctor_machine.disks, project)),
        Check("cache", partial(doctor_data.cache, project)),
        Check("links", partial(doctor_data.links, project)),
        Check("DVC's lock", partial(doctor_data.dvc_lock, project)),
        Check("pipeline", partial(doctor_data.pipeline, project)),
        Check("dvc.lock", partial(doctor_data.current, project)),
        Check("secrets", partial(doctor_machine.secrets, project)),
    ]


def _asked(settings: RemoteSettings, keys: Credentials | None) -> list[Line]:
    found = _lines(Check("service", partial(doctor_service.endpoint, settings)))
    # What does not answer once need not be waited for five times more; without keys there is nothing to ask.
    if keys is None or any(line.name == "service" and line.state == "fails" for line in found):
        return found
    patient = dataclasses.replace(settings, connect_timeout_s=_CONNECT_S, read_timeout_s=_READ_S)
    bucket = Bucket(patient, keys, tries=_TRIES)
    looks = {
        "list": doctor_service.listing,
        "write": doctor_service.rights,
        # A rehearsal has neither, and its bucket is a folder.
        **(
            {}
            if settings.is_loopback
            else {"lifecycle": doctor_service.lifecycle, "versions": doctor_service.versioning}
        ),
    }
    return found + _lines(
        *(Check(name, partial(doctor_service.explained, look, bucket)) for name, look in looks.items())
    )


def _lines(*checks: Check) -> list[Line]:
    started: Sequence[Running] = [Running(check) for check in checks]
    return [line for running in started for line in running.lines()]


def _keys(project: Path, settings: RemoteSettings) -> Credentials | None:
    try:
        return find_credentials(project, settings)
    except BackbeatError:
        # The check of the keys says so.
        return None


def _without_keys(line: Line, keys: Credentials) -> Line:
    """Return a line without the keys, should a service or a library have repeated them in a message."""
    step = redacted(line.next_step, keys) if line.next_step is not None else None
    return dataclasses.replace(line, found=redacted(line.found, keys), next_step=step)
