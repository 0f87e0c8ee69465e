"""JSON-header messages, and what answers them, for the servers beside this file."""

import json
import sys

REPLIES = {
    "morpheus": "Follow the white rabbit. \U0001f430",
    "ring": "In the caves beneath the Misty Mountains. \U0001f48d",
    "\U0001f436": "\U0001f43e Playing ball! \U0001f3d0",
}

MAX_CONTENT_LENGTH = 1 << 20


def encode(header, content):
    """One message; its header says how long the content is."""
    header["content-length"] = len(content)
    text = json.dumps(header, ensure_ascii=False).encode("utf-8")
    return len(text).to_bytes(2, "big") + text + content


def json_header():
    return {
        "byteorder": sys.byteorder,
        "content-type": "text/json",
        "content-encoding": "utf-8",
        "content-length": 0,
    }


def search(header, content):
    request = json.loads(content.decode(header["content-encoding"]))
    action, value = request.get("action"), request.get("value")
    if action == "search":
        result = REPLIES.get(value) or f"No match for '{value}'."
    else:
        result = f"Error: invalid action '{action}'."
    answer = json.dumps({"result": result}, ensure_ascii=False).encode("utf-8")
    return encode(json_header(), answer)


def echo(header, content):
    return encode(header, content)


SERVICES = {"search": search, "echo": echo}


def check(header):
    """The length of the content, if it is an honest one."""
    length = header["content-length"]
    if not 0 <= length <= MAX_CONTENT_LENGTH:
        raise ValueError(f"content-length {length}")
    return length


def raise_descriptor_limit():
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def announce(port):
    print(f"listening on ('127.0.0.1', {port})", flush=True)
