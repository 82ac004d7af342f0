"""Objects in stores: what URLs mean, and requests that are sent until they are answered.

`obstore` speaks the protocols. It is imported when the first URL is used.
"""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ._asking import EndedError, apart

if TYPE_CHECKING:
    from datetime import datetime

    from obstore.store import MemoryStore

SCHEMES = ("s3", "gs", "az", "https", "http", "memory")

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)/?(.*)", re.DOTALL)
_LOGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/?#]*)@", re.DOTALL)
_STATUS = re.compile(r"status code: (\d{3})")
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_T = TypeVar("_T")


class StoreError(Exception):
    """A store cannot do what is asked of it, for all that was tried."""

    def __init__(self, number: int, text: str, again: bool = False, retries: int = 0) -> None:
        super().__init__(text)
        self.number = number
        """Of `errno`, the nearest; 0 where none fits."""
        self.text = text
        self.again = again
        """Another try may help."""
        self.retries = retries
        """Times that it was asked again."""


@dataclass(frozen=True, slots=True)
class Version:
    """What is known of an object. Reads are of this version, or fail."""

    size: int
    e_tag: str | None
    modified: datetime

    @staticmethod
    def of(meta: Mapping[str, Any]) -> Version:
        e_tag = meta["e_tag"]
        if e_tag is not None and not e_tag.startswith("W/"):
            e_tag = '"' + e_tag.strip('"') + '"'  # Some stores list them without quotes.
        return Version(meta["size"], e_tag, meta["last_modified"])

    def differs(self, other: Version) -> str | None:
        """In what, in words."""
        if self.size != other.size:
            return f"size {self.size} before, {other.size} now"
        if self.e_tag is not None and other.e_tag is not None:
            return None if self.e_tag == other.e_tag else f"ETag {self.e_tag} before, {other.e_tag} now"
        # Lists have fractions of a second, and headers have none.
        if int(self.modified.timestamp()) != int(other.modified.timestamp()):
            return f"changed {self.modified} before, {other.modified} now"
        return None


@dataclass(frozen=True, slots=True)
class Options:
    """`storage_options`, checked."""

    given: dict[str, Any] = field(repr=False)
    """What is for the store itself; credentials are among it."""
    requests: int = 32
    deadline: float = 60.0
    timeout: float = 20.0
    backoff: float = 0.1
    cache: str | None = None

    @staticmethod
    def parse(given: Mapping[str, Any] | None) -> Options:
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"storage_options must be a mapping or None, got {type(given).__name__}")
        rest = dict(given or {})
        own: dict[str, Any] = {}
        for name, low, high in (("deadline", 0.0, 86400.0), ("timeout", 0.0, 86400.0), ("backoff", 0.0, 60.0)):
            if name in rest:
                own[name] = _number(name, rest.pop(name), low, high)
        if "requests" in rest:
            own["requests"] = int(_number("requests", rest.pop("requests"), 1, 1024))
        if "cache" in rest:
            own["cache"] = os.path.abspath(rest.pop("cache"))
        return Options(rest, **own)


def _number(name: str, value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"storage_options[{name!r}] must be a number, got {type(value).__name__}: {value!r}")
    if not low <= value <= high:
        raise ValueError(f"storage_options[{name!r}] must be from {low:g} to {high:g}, got {value!r}")
    return value


def is_url(path: object) -> bool:
    """Whether a path names an object rather than a file."""
    return isinstance(path, str) and "://" in path and _URL.fullmatch(path) is not None


def without_login(url: str) -> tuple[str, str]:
    """A URL as it may be shown, and the ``user:password`` that was before its host, or ""."""
    match = _LOGIN.match(url)
    return (match[1] + url[match.end() :], match[2]) if match else (url, "")


def split(url: str) -> tuple[str, str, str]:
    """Scheme, bucket or host, and the object's path there.

    Raises:
        ValueError: There is no such scheme, or no bucket.
    """
    url, _ = without_login(url)  # Here, as messages have it.
    match = _URL.fullmatch(url)
    scheme = match[1].lower() if match else ""
    if match is None or scheme not in SCHEMES:
        raise ValueError(f"{url}: URLs of objects begin with {', '.join(f'{name}://' for name in SCHEMES)}")
    if scheme in ("http", "https") and "?" in url:
        raise ValueError(f"{url.partition('?')[0]}: it has a query, as signed URLs have: those are not understood")
    if not match[2]:
        raise ValueError(f"{url}: there is no bucket or host in it")
    return scheme, match[2], match[3]


_memory: dict[str, MemoryStore] = {}
_memory_lock = threading.Lock()
_process: int | None = None
"""Which one uses obstore."""


def memory_store(name: str) -> MemoryStore:
    """The store behind ``memory://name/``, of this process, for tests and examples."""
    obstore = _obstore(f"memory://{name}")
    with _memory_lock:
        if name not in _memory:
            _memory[name] = obstore.store.MemoryStore()
        return _memory[name]


def _obstore(url: str) -> Any:
    try:
        import obstore
        import obstore.store
    except ImportError as error:
        raise ImportError(f"{url}: objects in stores need obstore: pip install 'ultar-dataloader[stores]'") from error
    global _process
    if _process is None:
        _process = os.getpid()
    elif _process != os.getpid():
        # The threads of its runtime are not here: whoever asks it would wait for ever.
        text = "stores that were used before a fork cannot be used after it: start processes with 'spawn'"
        raise StoreError(errno.EINVAL, text)
    return obstore


class Stores:
    """Stores by bucket, and what is known of their objects. For any thread."""

    def __init__(self, options: Options, logins: Mapping[str, str] | None = None) -> None:
        self.options = options
        self.logins = dict(logins or {})
        """What URLs had before their host, by host."""
        self._lock = threading.Lock()
        self._stores: dict[tuple[str, str], Any] = {}
        self._versions: dict[str, Version] = {}
        self.ending = threading.Event()

    def is_used(self) -> bool:
        return bool(self._stores)

    def bare(self, url: str) -> str:
        """A URL without user and password, which are kept for its host.

        Raises:
            ValueError: It is no URL of an object, or of a store where there is no such thing.
        """
        plain, login = without_login(url)
        if login:
            scheme, place, _ = split(plain)
            if scheme not in ("http", "https"):
                raise ValueError(f"{plain}: keys stand in storage_options, not in the URL")
            with self._lock:
                if self.logins.get(place) != login:
                    self.logins[place] = login
                    self._stores.pop((scheme, place), None)
        return plain

    def store(self, url: str) -> tuple[Any, str]:
        """The store of a URL, and the object's path there."""
        scheme, place, path = split(self.bare(url))
        if scheme in ("http", "https"):
            from urllib.parse import unquote

            path = unquote(path)  # The store encodes it. Keys of buckets are as they are written.
        with self._lock:
            found = self._stores.get((scheme, place))
        if found is None:
            found = self._open(scheme, place)
            with self._lock:
                found = self._stores.setdefault((scheme, place), found)
        return found, path

    def _open(self, scheme: str, place: str) -> Any:
        if scheme == "memory":
            return memory_store(place)
        from datetime import timedelta  # These are of use only here.

        from ._profile import basic, endpoint_of, s3_profile

        url = f"{scheme}://{place}"
        obstore = _obstore(url)
        options = dict(self.options.given)
        client = {"timeout": timedelta(seconds=self.options.timeout), **options.pop("client_options", {})}
        client.setdefault("connect_timeout", client["timeout"])
        # One way to try again: here, where it is counted and has a deadline.
        options["retry_config"] = {"max_retries": 0, "retry_timeout": timedelta(seconds=self.options.timeout)}
        if options.pop("anonymous", False):
            options["skip_signature"] = True
        elif scheme == "s3":
            options = {**s3_profile(options), **options}
        options.pop("profile", None)
        if scheme == "http" or endpoint_of(scheme, options).startswith("http://"):
            client.setdefault("allow_http", True)
        if scheme in ("http", "https"):
            options = {"retry_config": options["retry_config"]}
            if login := self.logins.get(place):
                client["default_headers"] = {**client.get("default_headers", {}), "authorization": basic(login)}
        try:
            return obstore.store.from_url(url, client_options=client, **options)
        except Exception as error:
            raise ValueError(f"{url}: storage_options: {_first_line(error)}") from error

    def version(self, url: str) -> Version:
        """What is known of an object; asked for once.

        Raises:
            StoreError: It is not there, or cannot be reached.
        """
        with self._lock:
            known = self._versions.get(url)
        if known is not None:
            return known
        store, path = self.store(url)
        found = Version.of(_obstore(url).head(store, path))
        return self.remember(url, found)

    def known(self, url: str) -> Version | None:
        with self._lock:
            return self._versions.get(url)

    def look(self, url: str) -> Version:
        """`version`, asked for as long as it takes.

        Raises:
            StoreError: It cannot be had.
        """
        return self.known(url) or self.ask(partial(self.version, url))[0]

    def size(self, url: str) -> int:
        """In bytes. Raises what `look` does."""
        return self.look(url).size

    def remember(self, url: str, version: Version) -> Version:
        """The version that counts: what was known first."""
        with self._lock:
            return self._versions.setdefault(url, version)

    def forget(self, url: str) -> None:
        with self._lock:
            self._versions.pop(url, None)

    def read(self, url: str, offset: int, size: int, object_size: int | None = None) -> Any:
        """Bytes of the object's version that is known, or else becomes so, in one request.

        Args:
            object_size: In bytes, that the object must have.

        Raises:
            StoreError: Something else came, or the object was changed.
        """
        known = self.known(url)
        store, path = self.store(url)
        if known is not None and offset + size > known.size:
            raise StoreError(0, f"the object ends after {known.size} bytes")
        options: dict[str, Any] = {"range": (offset, offset + size)}
        if known is not None and known.e_tag is not None and not known.e_tag.startswith("W/"):
            options["if_match"] = known.e_tag
        result = _obstore(url).get(store, path, options=options)
        found = Version.of(result.meta)
        if difference := self.remember(url, found).differs(found):
            raise StoreError(errno.ESTALE, f"the object was changed while it was in use: {difference}")
        if object_size not in (None, found.size):
            raise StoreError(errno.ESTALE, f"the object has {found.size} bytes now, and had {object_size}")
        if tuple(result.range) != (offset, offset + size):
            first, end = result.range
            raise StoreError(errno.EIO, f"the store answered with bytes {first} to {end}", again=True)
        data = result.bytes()
        if len(data) != size:
            raise StoreError(errno.EIO, f"the store answered with {len(data)} bytes", again=True)
        return data

    def put(self, url: str, data: bytes) -> None:
        store, path = self.store(url)
        _obstore(url).put(store, path, data)
        self.forget(url)

    def ask(self, work: Callable[[], _T]) -> tuple[_T, int]:
        """`insist`, for threads of users: Ctrl-C and `ending` do not wait for a request.

        Raises:
            StoreError: As `insist`, or it was given up.
        """
        try:
            return apart(partial(self.insist, work), self.ending)
        except EndedError:
            raise StoreError(errno.ECANCELED, "the store was closed") from None

    def insist(self, work: Callable[[], _T]) -> tuple[_T, int]:
        """Try until it succeeds, cannot, or the deadline is over; and how many tries were in vain.

        Raises:
            StoreError: It came to nothing.
        """
        import random

        begin, tries, pause = time.monotonic(), 0, self.options.backoff
        while True:
            try:
                return work(), tries
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # obstore's own faults are no Exception.
                failure = _failure(error)
                tries += 1
                left = self.options.deadline - (time.monotonic() - begin)
                wait = pause * random.uniform(0.5, 1.0)
                if not failure.again:
                    raise failure from error
                if left <= wait or self.ending.is_set():
                    times = f"{tries} {'try' if tries == 1 else 'tries'} in {time.monotonic() - begin:.1f} s"
                    text = f"given up after {times}: {failure.text}"
                    raise StoreError(failure.number, text, retries=tries - 1) from error
            self.ending.wait(wait)
            pause = min(pause * 2, 5.0)


def _failure(error: BaseException) -> StoreError:
    """What an exception of obstore means."""
    if isinstance(error, StoreError):
        return error
    name, text = type(error).__name__, _first_line(error)
    if isinstance(error, FileNotFoundError):
        return StoreError(errno.ENOENT, "no such object")
    if name in ("PermissionDeniedError", "UnauthenticatedError"):
        return StoreError(errno.EACCES, f"access is denied: {text}")
    if name == "PreconditionError":
        return StoreError(errno.ESTALE, "the object was changed while it was in use")
    if "non-partial response" in text or "Range request not supported" in text:
        return StoreError(errno.EINVAL, "the server sends whole objects and no ranges of them")
    if name == "GenericError":
        status = _STATUS.search(str(error))
        if status and status[1] == "404":
            return StoreError(errno.ENOENT, text)  # The bucket, or what has no name of its own.
        again = int(status[1]) in _AGAIN if status else "builder error" not in text
        return StoreError(errno.EIO, text, again)
    if isinstance(error, (ValueError, ImportError, NotImplementedError)) or name == "NotSupportedError":
        return StoreError(errno.EINVAL, text)
    return StoreError(errno.EIO, f"{name}: {text}")


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0].strip()
