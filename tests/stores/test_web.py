"""Web servers: passwords that nobody is shown, versions without ETags, and https."""

import errno
import os
import pickle
import shutil
import subprocess
from pathlib import Path

import pytest

import ultar_dataloader as ultar
from ultar_dataloader import DataLoader, Dataset, ReadError, ScriptError, UltarError

from .conftest import rows, tar_bytes
from .web import Web

LOGIN = "somebody:pass%20word"
WORDS = ("somebody", "pass word", "pass%20word", "c29tZWJvZHk")  # The last as it is sent.
SCRIPT = """
local loader = require("ultar.loader")
return {
  init_ctx = function(_, _, config) return config end,
  row_generator = function(config)
    loader:add_entry(loader:open_file(config.url), "start", config.offset, 5)
    loader:finish_row()
  end,
}
"""


@pytest.fixture
def served(tmp_path):
    """Starts a server over a folder with one shard."""
    folder = tmp_path / "www"
    folder.mkdir()
    (folder / "a.tar").write_bytes(tar_bytes(rows(0, 10)))
    started = []

    def start(**how):
        started.append(Web(folder, **how))
        return folder, started[-1]

    yield start
    for web in started:
        web.stop()


def is_secret_kept(text: object) -> bool:
    return not any(word in str(text) for word in WORDS)


def test_a_password_in_a_url_is_used_and_not_shown(served, expect, caplog, monkeypatch, tmp_path):
    _, web = served(login="somebody:pass word")
    secret = f"http://{LOGIN}@{web.host}"
    ds = Dataset(f"{secret}/a.tar")
    expect(ds, range(10))
    assert ds.shards == (f"{web.url}/a.tar",)
    assert is_secret_kept((ds, ds.shards, ds.record(0), ds[0].sources(), ds.stats() if hasattr(ds, "stats") else ""))
    expect(pickle.loads(pickle.dumps(ds)), range(10))
    expect(Dataset(f"{secret}/{{a,a}}.tar"), range(10))

    loader = DataLoader(SCRIPT, {"url": f"{secret}/a.tar", "offset": 0})
    (row,) = loader
    assert row.sources()[0][0] == f"{web.url}/a.tar"
    (row,) = pickle.loads(pickle.dumps(loader))

    failures = []
    for call in (
        lambda: Dataset(f"{secret}/no.tar"),
        lambda: Dataset(f"{secret}/*.tar"),
        lambda: Dataset(f"{secret.replace('pass', 'Pass')}/a.tar"),
        lambda: Dataset(f"ftp://{LOGIN}@{web.host}/a.tar"),
        lambda: Dataset(f"s3://{LOGIN}@bucket/a.tar"),
        lambda: Dataset(f"https://{LOGIN}@/a.tar"),
        lambda: Dataset(f"{web.url}/a.tar?signature={LOGIN}"),
        lambda: list(DataLoader(SCRIPT, {"url": f"{web.url}/a.tar?signature={LOGIN}", "offset": 0})),
        lambda: Dataset(f"http://{LOGIN}@127.0.0.1:1/a.tar", storage_options={"deadline": 0.1}),
        lambda: Dataset(f"{secret}/a.tar", storage_options={"no_such": 1}),
        lambda: ultar.index(f"{secret}/no.tar"),
        lambda: ultar.check(f"{secret}/a.tar"),
        lambda: list(DataLoader(SCRIPT, {"url": f"{secret}/no.tar", "offset": 0})),
        lambda: list(DataLoader(SCRIPT, {"url": f"{secret}/a.tar", "offset": 1 << 40})),
        lambda: list(DataLoader(SCRIPT, {"url": f"s3://{LOGIN}@bucket/a.tar", "offset": 0})),
    ):
        try:
            call()
        except (UltarError, OSError, ValueError, ScriptError) as error:
            failures.append(error)
    assert len(failures) >= 13
    for error in failures:
        shown = [str(error), repr(error), getattr(error, "filename", ""), *getattr(error, "__notes__", [])]
        assert is_secret_kept(shown), shown
    skipped = ultar.index(f"{secret}/no.tar", on_error="skip")
    assert is_secret_kept(skipped)
    assert is_secret_kept(caplog.text)


def test_what_a_pickle_holds(served, monkeypatch, tmp_path):
    """What was given by name, and nothing that the environment or a profile has."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-environment")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-the-environment")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-the-environment")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = key-of-the-profile\naws_secret_access_key = of-the-profile\n"
    )
    _, web = served()
    ds = Dataset(f"{web.url}/a.tar", storage_options={"secret_access_key": "of-the-call", "deadline": 5})
    for profile in (None, "default"):
        options = {"profile": profile} if profile else {}
        ds._store.fetching.stores.options.given.update(options)
        ds._store.fetching.stores.store("s3://bucket/x")  # Which looks for keys.
    loader = DataLoader(SCRIPT, {}, storage_options={"secret_access_key": "of-the-call"})
    for data in (pickle.dumps(ds), pickle.dumps(loader)):
        assert b"of-the-call" in data
        assert b"of-the-environment" not in data and b"of-the-profile" not in data
    assert "of-the-call" not in repr((ds, loader, ds._store.fetching.stores.options))


@pytest.mark.parametrize(
    ("says", "same_second", "is_noticed"),
    [
        (("ETag",), True, True),
        (("ETag", "Last-Modified"), True, True),
        (("Last-Modified",), False, True),
        (("Last-Modified",), True, False),
        ((), False, False),
    ],
)
def test_an_object_that_is_replaced_by_one_of_the_same_size(served, expect, says, same_second, is_noticed):
    """It is noticed as far as the server says something of versions."""
    folder, web = served(says=says)
    shard = folder / "a.tar"
    os.utime(shard, (1e9, 1e9))
    ds = Dataset(f"{web.url}/a.tar")
    expect(ds, range(10))
    data = shard.read_bytes()
    shard.write_bytes(data.replace(b"text 3", b"text x"))
    os.utime(shard, (1e9, 1e9) if same_second else (1e9 + 2, 1e9 + 2))
    if not is_noticed:
        assert [row["txt"] for row in ds][3] == b"text x"
        return
    with pytest.raises(ReadError, match="the object was changed while it was in use") as failure:
        list(ds)
    assert failure.value.errno == errno.ESTALE


def test_https(served, expect, tmp_path):
    """With a certificate that is not trusted, and then is."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl here, to make a certificate with")
    pem = tmp_path / "server.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(pem), "-out", str(tmp_path / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    pem.write_text(pem.read_text() + Path(tmp_path / "cert.pem").read_text())
    _, web = served(certificate=pem, login="somebody:pass word")
    with pytest.raises(ReadError, match="given up after"):
        Dataset(f"{web.url}/a.tar", storage_options={"deadline": 0.3})
    trusting = {"client_options": {"allow_invalid_certificates": True}, "deadline": 5}
    with pytest.raises(ReadError, match="access is denied"):
        Dataset(f"{web.url}/a.tar", storage_options=trusting)
    expect(Dataset(f"https://{LOGIN}@{web.host}/a.tar", storage_options=trusting), range(10))
