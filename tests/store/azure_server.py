"""A server with Azure's protocol, azurite, with one container, which obstore finds through the environment."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from unittest import mock

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
