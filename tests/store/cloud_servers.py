"""Servers with the protocols of S3 (moto) and Azure (azurite), which obstore finds through the environment."""

import base64
import hashlib
import hmac
import logging
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from unittest import mock

import obstore
import pytest

ACCOUNT = "devstoreaccount1"  # the account and key of every azurite
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@contextmanager
def azure_container() -> Iterator[str]:
    """Start a server with an empty container and yield its URL; skip the test if azurite is not installed."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite-blob is not on the PATH: npm install --global azurite")
    options = ["--inMemoryPersistence", "--skipApiVersionCheck", "--silent", "--disableTelemetry", "--blobPort", "0"]
    command = [program, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as azurite:
        try:
            assert azurite.stdout is not None
            url = next(line.split()[-1] for line in azurite.stdout if "successfully listens on" in line)
            make_container(url, "container")
            settings = {
                "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
                "AZURE_STORAGE_ACCOUNT_KEY": KEY,
                "AZURE_STORAGE_USE_EMULATOR": "true",
                "AZURITE_BLOB_STORAGE_URL": url,
            }
            with mock.patch.dict(os.environ, settings):
                yield "az://container"
        finally:
            azurite.terminate()


def make_container(url: str, name: str) -> None:
    """Create a container, for which obstore has no function.

    The request is signed as in https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key.
    """
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    signed = "".join(f"{header}:{value}\n" for header, value in headers.items())
    text = "PUT" + "\n" * 12 + f"{signed}/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    request = urllib.request.Request(f"{url}/{ACCOUNT}/{name}?restype=container", method="PUT", headers=headers)  # noqa: S310
    urllib.request.urlopen(request, timeout=20).close()  # noqa: S310


@contextmanager
def s3_bucket() -> Iterator[str]:
    """Start a server with an empty bucket; yield its URL."""
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs each request
    settings = {
        "AWS_ACCESS_KEY_ID": "name",
        "AWS_SECRET_ACCESS_KEY": "very secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
    }
    try:
        urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/bucket", method="PUT"), timeout=20).close()
        with mock.patch.dict(os.environ, settings):
            yield "s3://bucket"
    finally:
        moto.stop()


def objects_at(url: str) -> dict[str, bytes]:
    """Return the objects below a URL by key."""
    store = obstore.store.from_url(url)
    keys = [found["path"] for page in obstore.list(store) for found in page]
    return {key: bytes(obstore.get(store, key).bytes()) for key in keys}
