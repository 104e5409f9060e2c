"""DVC's objects in the bucket: listed once, proven where the listing does not prove them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from botocore.exceptions import ClientError

from backbeat.cloud.pointers import DIR_SUFFIX, OBJECTS, object_name
from backbeat.cloud.proofs import Proofs, State
from backbeat.errors import CloudError
from backbeat.remote.bucket import CONNECTIONS, Bucket, StoredObject

# Up to so many objects are asked for one by one; beyond that one listing of a thousand objects a request is less.
FEW = 8

_KeyT = TypeVar("_KeyT")
_ValueT = TypeVar("_ValueT")


class BucketObjects:
    """The objects of DVC's folder in a bucket, by their names in DVC's cache.

    Args:
        bucket: the bucket.
        proofs: what was found whole before.
        listed: all of the objects, if they were listed already.
    """

    def __init__(self, bucket: Bucket, proofs: Proofs, listed: Iterable[StoredObject] | None = None) -> None:
        self.bucket = bucket
        self._proofs = proofs
        self._known: dict[str, StoredObject | None] = {}
        self._is_complete = listed is not None
        self.stored_bytes: int | None = None
        if listed is not None:
            self._take(listed)

    def key(self, oid: str) -> str:
        """Return the key of an object."""
        return self.bucket.settings.key(object_name(oid))

    def list_all(self) -> None:
        """List the whole bucket; `stored_bytes` is what is in it.

        Raises:
            CloudError: if it cannot be listed.
        """
        try:
            listed = list(self.bucket.list())
        except CloudError as error:
            # A key for DVC's folder alone may not list what is beside it.
            if not isinstance(error.__cause__, ClientError) or not self.bucket.settings.prefix:
                raise
            listed = list(self.bucket.list(self.bucket.settings.key(OBJECTS)))
        self._take(listed)
        self.stored_bytes = sum(one.size_bytes for one in listed)
        self._is_complete = True

    def find(self, oids: Iterable[str]) -> None:
        """Find out which of these objects are there, unless that is known.

        Raises:
            CloudError: if the bucket cannot be listed.
        """
        unknown = sorted({oid for oid in oids if oid not in self._known}) if not self._is_complete else []
        if len(unknown) > FEW:
            self._take(self.bucket.list(self.bucket.settings.key(f"{OBJECTS}/")))
            self._is_complete = True
        elif unknown:
            # A listing says more than a HEAD that is refused, and needs no other right.
            for oid, listed in at_once(lambda oid: list(self.bucket.list(self.key(oid))), unknown).items():
                self._known[oid] = next((one for one in listed if one.key == self.key(oid)), None)

    def get(self, oid: str) -> StoredObject | None:
        """Return what the listing says of an object; None if it is not in the bucket."""
        self.find([oid])
        return self._known.get(oid)

    def known(self, oid: str) -> StoredObject | None:
        """Return what the last listing said of an object, without asking."""
        return self._known.get(oid)

    def forget(self) -> None:
        """Have everything listed again."""
        self._known.clear()
        self._is_complete = False

    def read(self, oid: str) -> bytes:
        """Return the content of an object."""
        return self.bucket.read(self.key(oid))

    def states(
        self, oids: Collection[str], whole_bytes: Mapping[str, int] = {}, *, read: Collection[str] = ()
    ) -> dict[str, State]:
        """Return of each object whether it is in the bucket, and whole.

        It is whole if its ETag is the MD5 that its name promises, and its size that of the local one; where they are
        not, all of it is read and hashed: an ETag may be something else.

        Args:
            oids: the objects.
            whole_bytes: the sizes of those that are whole in the cache.
            read: those that are read whatever the listing says.

        Raises:
            CloudError: if the bucket does not answer.
        """
        self.find(oids)
        found: dict[str, State] = {}
        doubtful = []
        for oid in oids:
            stored = self._known.get(oid)
            if stored is None:
                found[oid] = "missing"
            elif oid not in read and self._is_as_listed(oid, stored, whole_bytes.get(oid)):
                found[oid] = "ok"
            else:
                doubtful.append(oid)
        for oid, state in at_once(self._state_by_reading, doubtful).items():
            found[oid] = state
            stored = self._known.get(oid)
            if state == "ok" and stored is not None:
                self._proofs.note_remote(self._url(oid), stored.etag, stored.size_bytes)
        return found

    def is_listed_whole(self, oid: str) -> bool:
        """Return whether the listing alone shows that an object is in the bucket, and whole."""
        stored = self.get(oid)
        return stored is not None and self._is_as_listed(oid, stored, None)

    def _is_as_listed(self, oid: str, stored: StoredObject, size_bytes: int | None) -> bool:
        if size_bytes is not None and stored.size_bytes != size_bytes:
            return False
        return stored.etag == oid.removesuffix(DIR_SUFFIX) or self._proofs.is_proven_remotely(
            self._url(oid), stored.etag, stored.size_bytes
        )

    def _state_by_reading(self, oid: str) -> State:
        try:
            return "ok" if self.bucket.md5(self.key(oid)) == oid.removesuffix(DIR_SUFFIX) else "damaged"
        except CloudError:
            # It may have gone since it was listed; if the service does not answer, this says so.
            if self.bucket.head(self.key(oid)) is None:
                return "missing"
            raise

    def _url(self, oid: str) -> str:
        settings = self.bucket.settings
        return f"{settings.endpoint_url or 's3:'}/{settings.bucket}/{self.key(oid)}"

    def _take(self, listed: Iterable[StoredObject]) -> None:
        folder = re.escape(self.bucket.settings.key(f"{OBJECTS}/"))
        name = re.compile(rf"{folder}([0-9a-f]{{2}})/([0-9a-f]{{30}}(?:{re.escape(DIR_SUFFIX)})?)")
        self._known = {"".join(met.groups()): one for one in listed if (met := name.fullmatch(one.key))}


def sample(oids: Collection[str], most: int) -> list[str]:
    """Return up to so many of these objects, others every time."""
    return sorted(random.sample(sorted(oids), min(most, len(oids))))


def at_once(work: Callable[[_KeyT], _ValueT], items: Iterable[_KeyT]) -> dict[_KeyT, _ValueT]:
    """Do something that waits for the network with each item, as many at once as there are connections."""
    chosen = list(items)
    if not chosen:
        return {}
    with ThreadPoolExecutor(min(CONNECTIONS, len(chosen))) as pool:
        futures = [pool.submit(work, item) for item in chosen]
        try:
            return {item: future.result() for item, future in zip(chosen, futures, strict=True)}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
