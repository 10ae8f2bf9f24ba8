"""A server that speaks S3, with a bucket."""

import contextlib
import urllib.request

from moto.server import ThreadedMotoServer

KEYS = {"access_key_id": "key", "secret_access_key": "secret", "region": "us-east-1"}


@contextlib.contextmanager
def s3_server(bucket):
    """The URL of a server with this bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    request = urllib.request.Request(f"{url}/{bucket}", method="PUT")
    request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/x")
    urllib.request.urlopen(request).close()
    try:
        yield url
    finally:
        server.stop()


def options_of(s3):
    """What an obstore store needs to reach it."""
    return {"endpoint": s3, "client_options": {"allow_http": True}, **KEYS}


def environment_of(s3):
    """The same as environment variables."""
    names = {**KEYS, "endpoint": s3, "allow_http": "true"}
    return {f"AWS_{name}".upper(): value for name, value in names.items()}
