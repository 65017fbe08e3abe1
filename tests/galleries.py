"""Reading the data of a gallery, as a program other than its page would, and serving it."""

import base64
import json
import os
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

# Set where a missing browser is a mistake, as in .ci/run.
NEEDED = "GALFIG_NEEDS_BROWSER"
TYPES = {"Int8Array": "i1", "Int16Array": "<i2", "Float32Array": "<f4", "Float64Array": "<f8"}


def do_without(reason):
    """Skip what needs a browser, or fail where there must be one."""
    if os.environ.get(NEEDED):
        pytest.fail(f"{reason}, and {NEEDED} is set")
    pytest.skip(reason)


def read_script(path, function):
    """Return the arguments of the one call in a script."""
    words = path.read_text(encoding="utf-8")
    assert words.startswith(f"{function}(")
    assert words.endswith(");\n")
    return json.loads(f"[{words[len(function) + 1 : -3]}]")


def read_core(folder):
    """Return what a page knows of its store, and its decoded columns by name."""
    meta, values = read_script(folder / "data" / "core.js", "galfigGallery.open")
    return meta, {name: decode(encoded) for name, encoded in values.items()}


def decode(encoded):
    """Return the values of a column."""
    if isinstance(encoded, list):
        return encoded
    return np.frombuffer(base64.b64decode(encoded["data"]), TYPES[encoded["type"]])


@contextmanager
def serve(folder, asked=None):
    """Serve a folder, and give its address; a list takes note of what is asked for."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words):
            if asked is not None:
                asked.append(words)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
