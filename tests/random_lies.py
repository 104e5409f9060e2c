"""A server's bad days, drawn at random, and a child process that downloads until it is killed."""

from __future__ import annotations

import random
from pathlib import Path

# Imported late by what is tested; a child that is forked from here has them already.
import dvc.fs
import dvc_http

import backbeat.datasets.transport.transfer
from backbeat.datasets.download import download
from backbeat.errors import BackbeatError
from misbehaving_server import GOOD, Answer
from one_dataset import BODY, HASTY, OTHER_BODY

PRELOADED = (dvc.fs, dvc_http, backbeat.datasets.transport.transfer)
HTML = b"<!DOCTYPE html><html><body>Quota exceeded</body></html>"


def random_answer(dice: random.Random, quota_page: str) -> Answer:
    """Return an answer that is good one time in four, and else does one kind of damage."""
    place = dice.randrange(len(BODY))
    return dice.choice(
        [
            GOOD,
            GOOD,
            GOOD,
            GOOD,
            Answer(drop_after=place),
            Answer(drop_after=0),
            Answer(ignore_range=True),
            Answer(ignore_range=True, drop_after=place),
            Answer(headers={"Content-Length": str(place)}, drop_after=place),
            Answer(headers={"Content-Length": str(len(BODY) + 7)}, drop_after=place),
            Answer(headers={"Content-Range": f"bytes {place}-{len(BODY) - 1}/{len(BODY)}"}),
            Answer(body=OTHER_BODY, drop_after=place),
            Answer(body=OTHER_BODY, ignore_if_range=True),
            Answer(body=BODY, ignore_if_range=True),
            Answer(headers={"ETag": None}, drop_after=place),
            Answer(headers={"ETag": 'W/"weak"'}, drop_after=place),
            Answer(headers={"Content-Length": None}, drop_after=place),
            Answer(status=429, headers={"Retry-After": "0"}),
            Answer(status=503, headers={"Retry-After": "86400"}),
            Answer(status=416, headers={"Content-Range": f"bytes */{place}"}),
            Answer(status=302, headers={"Location": quota_page}),
            Answer(status=200, body=HTML, headers={"Content-Type": "text/html"}),
            Answer(flip_byte=place),
        ]
    )


def download_once(project: Path) -> None:
    """What the child process does; that it fails is as good a reason to repeat it as that it is killed."""
    try:
        download(project, "lies", patience=HASTY)
    except BackbeatError:
        raise SystemExit(1) from None
