"""A server with the protocol of S3, moto, with one bucket, which obstore finds through the environment."""

from __future__ import annotations

import logging
import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import obstore


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
