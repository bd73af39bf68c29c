"""The address of the event log's server, and clients for it: a Redis or Valkey server, or the master that Sentinels
name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, Sentinel
from redis.credentials import CredentialProvider

from komputer.domain.errors import Invalid

SCHEMES: Final = ("redis", "rediss", "unix")
SENTINEL_SCHEMES: Final = {"redis+sentinel": False, "rediss+sentinel": True}
SENTINEL_PORT: Final = 26379


@dataclass(frozen=True)
class Address:
    """The address of a server: `redis://host:port/db`, `rediss://…` (TLS), `unix:///path?db=0`, or
    `redis+sentinel://host:port,host:port/master/db` (`rediss+sentinel` uses TLS to the Sentinels and the master).
    `password_file` is read at each new connection, so that a rotated password needs no restart. `ca_file` (PEM)
    replaces the system's certificate authorities."""

    url: str
    username: str | None = None
    password_file: Path | None = None
    sentinel_password_file: Path | None = None
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        """Raise `Invalid` (`redis_address`) for an invalid address. The message contains no password."""
        parts = urlsplit(self.url)
        if parts.scheme not in (*SCHEMES, *SENTINEL_SCHEMES):
            known = ", ".join((*SCHEMES, *SENTINEL_SCHEMES))
            raise _invalid(f"it begins with {parts.scheme or 'nothing'}:// and not with one of {known}")
        if self.password_file is not None and parts.password is not None:
            raise _invalid("it holds a password, and a password file is given too")
        if parts.scheme in SENTINEL_SCHEMES:
            self._sentinels()

    def client(self, *, connections: int | None = None, **options: Any) -> Any:
        """Return a client. With `connections` it opens at most so many, and further callers wait up to `timeout`
        seconds for one. The number of connections to a master that Sentinels name is not limited."""
        options |= self._credentials(self.password_file)
        if urlsplit(self.url).scheme in SENTINEL_SCHEMES:
            return self._from_sentinels(options)
        if self.ca_file and self.url.startswith("rediss:"):
            options["ssl_ca_certs"] = str(self.ca_file)
        if connections is None:
            options.pop("timeout", None)
            return Redis.from_url(self.url, **options)
        return Redis.from_pool(BlockingConnectionPool.from_url(self.url, max_connections=connections, **options))

    def _credentials(self, password_file: Path | None) -> dict[str, Any]:
        if password_file is None:
            return {"username": self.username} if self.username else {}
        return {"credential_provider": _PasswordFile(self.username, password_file)}

    def _from_sentinels(self, options: dict[str, Any]) -> Any:
        hosts, master, db = self._sentinels()
        tls: dict[str, Any] = {"ssl": True} if SENTINEL_SCHEMES[urlsplit(self.url).scheme] else {}
        if tls and self.ca_file:
            tls["ssl_ca_certs"] = str(self.ca_file)
        parts = urlsplit(self.url)
        if parts.password is not None:
            options |= {"username": unquote(parts.username or "") or None, "password": unquote(parts.password)}
        options.pop("timeout", None)
        asked: dict[str, Any] = {
            key: options[key] for key in ("socket_timeout", "socket_connect_timeout") if key in options
        }
        asked |= tls | self._credentials(self.sentinel_password_file) | {"username": None}
        asked = {key: value for key, value in asked.items() if value is not None}
        sentinel: Any = Sentinel(hosts, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
        return sentinel.master_for(master, redis_class=_Named, db=db, **options, **tls)

    def _sentinels(self) -> tuple[list[tuple[str, int]], str, int]:
        parts = urlsplit(self.url)
        hosts = []
        for host in parts.netloc.rpartition("@")[2].split(","):
            name, _, port = host.partition(":") if not host.startswith("[") else _bracketed(host)
            if not name or (port and not port.isdigit()):
                raise _invalid(f"{host!r} is no sentinel's host:port")
            hosts.append((name, int(port or SENTINEL_PORT)))
        master, _, db = parts.path.strip("/").partition("/")
        db = db or next(iter(parse_qs(parts.query).get("db", ())), "0")
        if not master or not db.isdigit():
            raise _invalid("it names no master: redis+sentinel://host:port,host:port/master/db")
        return hosts, master, int(db)


class _Named(Redis):
    """A client of the master that Sentinels name. Closing it also closes the connections to the Sentinels."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        pool: Any = self.connection_pool
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()


class _PasswordFile(CredentialProvider):
    """The credentials with the password in a file, which is read at each new connection."""

    def __init__(self, username: str | None, path: Path) -> None:
        self._username = username
        self._path = path

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._path.read_text("utf-8").rstrip("\n")
        return (self._username, password) if self._username else (password,)


def _bracketed(host: str) -> tuple[str, str, str]:
    name, _, port = host[1:].partition("]")
    return name, "", port.lstrip(":")


def _invalid(why: str) -> Invalid:
    return Invalid(f"The address of the event log cannot be used: {why}.", code="redis_address")
