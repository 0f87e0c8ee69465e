#!/usr/bin/env python3
"""A client of the JSON-header protocol, made of sockets, struct and json alone.

Usage: client.py HOST PORT

Asks a server of the tests all that the tutorial's client can ask, and some things
more, and prints one line of JSON for each answer: what was asked, the header's own
keys, and the content. A server that breaks the protocol ends it with a traceback.
"""

import json
import socket
import struct
import sys

REQUIRED = ["byteorder", "content-type", "content-encoding", "content-length"]


def encode_json(obj, encoding):
    return json.dumps(obj, ensure_ascii=False).encode(encoding)


def create_message(content, content_type, encoding, byteorder=sys.byteorder, **more):
    header = {
        "byteorder": byteorder,
        "content-type": content_type,
        "content-encoding": encoding,
        "content-length": len(content),
    }
    header_bytes = encode_json({**header, **more}, "utf-8")
    return struct.pack(">H", len(header_bytes)) + header_bytes + content


def create_search(value, encoding="utf-8"):
    content = encode_json({"action": "search", "value": value}, encoding)
    return create_message(content, "text/json", encoding)


def create_binary(content, **more):
    return create_message(content, "binary/custom-client-binary-type", "binary", **more)


class Connection:
    """One connection, from which whole messages are read."""

    def __init__(self, host, port):
        self.sock = socket.create_connection((host, port), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def send(self, data):
        self.sock.sendall(data)

    def take(self, count):
        while len(self.buffer) < count:
            data = self.sock.recv(4096)
            if not data:
                raise RuntimeError("Peer closed.")
            self.buffer += data
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def receive(self):
        (header_len,) = struct.unpack(">H", self.take(2))
        header = json.loads(self.take(header_len).decode("utf-8"))
        if list(header)[:4] != REQUIRED or header["byteorder"] != sys.byteorder:
            raise ValueError(f"Header {header!r}.")
        return header, self.take(header["content-length"])

    def expect_end(self):
        self.sock.shutdown(socket.SHUT_WR)
        if self.buffer or self.sock.recv(4096):
            raise ValueError("More than was asked for.")
        self.sock.close()


def report(asked, answer):
    header, content = answer
    if header["content-type"] == "text/json":
        shown = json.loads(content.decode(header["content-encoding"]))
    else:
        shown = content.decode("latin-1")
    own = {key: value for key, value in header.items() if key not in REQUIRED}
    line = {"asked": asked, "type": header["content-type"], "own": own, "content": shown}
    print(json.dumps(line, ensure_ascii=False))


def one_request_each(host, port):
    for value in ("morpheus", "ring", "\N{DOG FACE}", "needle", "it's \"é\"\n", ""):
        connection = Connection(host, port)
        connection.send(create_search(value))
        report(value, connection.receive())
        connection.expect_end()
    connection = Connection(host, port)
    connection.send(create_binary("binary\N{SMILING FACE WITH OPEN MOUTH}".encode()))
    report("binary", connection.receive())
    connection.expect_end()


def several_on_one_connection(host, port):
    connection = Connection(host, port)
    for value in ("ring", "morpheus"):
        connection.send(create_search(value))
        report(value, connection.receive())
    values = [f"pipelined {n}" for n in range(20)]
    connection.send(b"".join(map(create_search, values)))
    for value in values:
        report(value, connection.receive())
    connection.expect_end()


def split_sends(host, port):
    connection = Connection(host, port)
    # Every byte on its own, so that every state in between is met.
    for byte in create_search("\N{DOG FACE}") + create_binary(b"bytewise"):
        connection.send(bytes([byte]))
    report("split text", connection.receive())
    report("split binary", connection.receive())
    connection.expect_end()


def other_encodings(host, port):
    connection = Connection(host, port)
    for encoding in ("utf-16", "utf-16-be", "utf-32", "latin-1"):
        connection.send(create_search("café", encoding))
        report(encoding, connection.receive())
    connection.expect_end()


def byte_orders(host, port):
    connection = Connection(host, port)
    for byteorder, mark in (("little", "<"), ("big", ">")):
        content = struct.pack(f"{mark}IId", 1, 0xFFFE, -0.5)
        message = create_message(content, "binary/numbers", "binary", byteorder, id=[byteorder])
        connection.send(message)
        report(byteorder, connection.receive())
    connection.expect_end()


def faults(host, port):
    connection = Connection(host, port)
    connection.send(create_message(b"{", "text/json", "utf-8") + create_search("ring"))
    report("no JSON", connection.receive())
    report("ring", connection.receive())
    connection.send(struct.pack(">H", 2) + b"{}")
    report("no header", connection.receive())
    connection.expect_end()


def main():
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} <host> <port>")
    host, port = sys.argv[1], int(sys.argv[2])
    for scenario in (
        one_request_each,
        several_on_one_connection,
        split_sends,
        other_encodings,
        byte_orders,
        faults,
    ):
        scenario(host, port)


main()
