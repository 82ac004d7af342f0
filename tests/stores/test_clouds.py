"""`gs://` and `az://`, as servers of this machine speak them, and a bucket for everybody."""

import base64
import email.utils
import errno
import hashlib
import hmac
import os
import pickle
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import obstore
import pytest
from obstore.store import AzureStore, S3Store

import ultar_dataloader as ultar
from ultar_dataloader import Dataset, ReadError, raw

from .conftest import rows, tar_bytes
from .server import PUBLIC

ACCOUNT, KEY = "devstoreaccount1", base64.b64encode(b"a key of the tests" * 3).decode()


def all_of_it(url, options, expect, store):
    """What a user does with a bucket."""
    for number in range(3):
        obstore.put(store, f"d/x-{number:03d}.tar", tar_bytes(rows(number * 20, 20)))
    expect(Dataset(f"{url}/d", storage_options=options), range(60))
    assert ultar.index(f"{url}/d/*.tar", storage_options=options).skipped == 3
    ds = Dataset(f"{url}/d/x-{{000..002}}.tar", "require", storage_options=options)
    expect(ds, range(60))
    expect([ds[-1], ds[7]], [59, 7])
    expect(pickle.loads(pickle.dumps(ds))[5:9], range(5, 9))
    texts = [row for batch in ds.shuffle(seed=1).batch(7, collate=list) for row in batch]
    assert sorted(int(row["txt"].split()[1]) for row in texts) == list(range(60))

    for i in range(5):
        obstore.put(store, f"p/{i}.txt", b"%d" % i)
    assert raw.index(f"{url}/p", storage_options=options)["samples"] == 5
    assert [row["txt"] for row in Dataset(f"{url}/p", storage_options=options)] == [b"%d" % i for i in range(5)]

    changed = rows(20, 20)
    changed["000020"][".txt"] = b"text xx"
    obstore.put(store, "d/x-001.tar", tar_bytes(changed))
    with pytest.raises(ReadError, match="the object was changed while it was in use") as failure:
        list(ds)
    assert failure.value.errno == errno.ESTALE
    is_missing(f"{url}/no.tar", options)


def is_missing(url, options):
    with pytest.raises(ReadError) as failure:
        Dataset(url, storage_options=options)
    assert failure.value.errno == errno.ENOENT and url in str(failure.value)


def test_google(bucket, proxy, expect):
    """Its protocol for objects is near to S3, so the same server answers; there is none of its own to be had."""
    given = {name: bucket.options[name] for name in ("endpoint", "region", "access_key_id", "secret_access_key")}
    store = S3Store(PUBLIC, prefix=bucket.name, **given, client_options={"allow_http": True})
    options = {"base_url": proxy.endpoint, "anonymous": True, "timeout": 5, "deadline": 10}
    all_of_it(f"gs://{PUBLIC}/{bucket.name}", options, expect, store)
    with pytest.raises(ReadError, match="access is denied"):
        Dataset("gs://tests/x.tar", storage_options=options)


def test_a_bucket_for_everybody(bucket, expect):
    given = {"endpoint": bucket.options["endpoint"], "region": "us-east-1"}
    store = S3Store(PUBLIC, prefix=bucket.name, **given, client_options={"allow_http": True}, skip_signature=True)
    all_of_it(f"s3://{PUBLIC}/{bucket.name}", {**given, "anonymous": True, "deadline": 10}, expect, store)
    is_missing("s3://no-such-bucket/no.tar", bucket.options)


@pytest.fixture(scope="module")
def azurite():
    """The endpoint of a server of Azure's, from npm, with an empty container."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("there is no Azurite here: npm install -g azurite")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [program, "--inMemoryPersistence", "--blobPort", str(port), "--skipApiVersionCheck", "--silent"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}", "PATH": os.environ["PATH"]}
    running = subprocess.Popen([*command, "--disableTelemetry"], env=environment, **quiet)
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    try:
        until = time.monotonic() + 30
        while True:
            try:
                make_container(endpoint, "tests")
                break
            except urllib.error.URLError:
                assert running.poll() is None and time.monotonic() < until, "Azurite does not start"
                time.sleep(0.1)
        yield endpoint
    finally:
        running.terminate()
        running.wait()


def make_container(endpoint, name):
    """What obstore cannot do."""
    date = email.utils.formatdate(usegmt=True)
    blanks = "\n" * 11
    text = f"PUT{blanks}\nx-ms-date:{date}\nx-ms-version:2021-08-06\n/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signature = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
    headers = {
        "x-ms-date": date,
        "x-ms-version": "2021-08-06",
        "Authorization": f"SharedKey {ACCOUNT}:{signature}",
    }
    request = urllib.request.Request(f"{endpoint}/{name}?restype=container", method="PUT", headers=headers)
    urllib.request.urlopen(request, timeout=5).close()


def test_azure(azurite, expect):
    given = {"account_name": ACCOUNT, "account_key": KEY, "endpoint": azurite}
    store = AzureStore("tests", **given, client_options={"allow_http": True})
    all_of_it("az://tests", {**given, "timeout": 5, "deadline": 10}, expect, store)
    is_missing("az://no-such-container/no.tar", given)
    wrong = {**given, "account_key": base64.b64encode(b"no" * 30).decode()}
    with pytest.raises(ReadError, match="access is denied"):
        Dataset("az://tests/d", storage_options=wrong)
