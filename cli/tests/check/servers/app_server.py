"""The tutorial's application server: one message in, one out, then the end of the connection.

Its test `if self.request` takes an empty request for none.

Usage: app_server.py HOST PORT
"""

import json
import selectors
import socket
import struct
import sys
import traceback

ANSWERS = {
    "morpheus": "Follow the white rabbit. \N{RABBIT FACE}",
    "ring": "In the caves beneath the Misty Mountains. \N{RING}",
}
REQUIRED = ("byteorder", "content-length", "content-type", "content-encoding")
sel = selectors.DefaultSelector()


class Message:
    def __init__(self, selector, sock, addr):
        self.selector = selector
        self.sock = sock
        self.addr = addr
        self.recv_buffer = b""
        self.send_buffer = b""
        self.jsonheader_len = None
        self.jsonheader = None
        self.request = None
        self.response_created = False

    def process_events(self, mask):
        if mask & selectors.EVENT_READ:
            self.read()
        if mask & selectors.EVENT_WRITE:
            self.write()

    def read(self):
        try:
            data = self.sock.recv(4096)
        except BlockingIOError:
            pass
        else:
            if not data:
                raise RuntimeError("Peer closed.")
            self.recv_buffer += data
        if self.jsonheader_len is None and len(self.recv_buffer) >= 2:
            self.jsonheader_len = struct.unpack(">H", self.take(2))[0]
        if self.jsonheader_len is not None and self.jsonheader is None:
            self.process_jsonheader()
        if self.jsonheader and self.request is None:
            self.process_request()

    def write(self):
        if self.request and not self.response_created:
            self.create_response()
        if self.send_buffer:
            try:
                sent = self.sock.send(self.send_buffer)
            except BlockingIOError:
                return
            self.send_buffer = self.send_buffer[sent:]
            if sent and not self.send_buffer:
                self.close()

    def process_jsonheader(self):
        if len(self.recv_buffer) < self.jsonheader_len:
            return
        self.jsonheader = json.loads(self.take(self.jsonheader_len).decode("utf-8"))
        for name in REQUIRED:
            if name not in self.jsonheader:
                raise ValueError(f'Missing required header "{name}".')

    def process_request(self):
        content_len = self.jsonheader["content-length"]
        if not len(self.recv_buffer) >= content_len:
            return
        data = self.take(content_len)
        if self.jsonheader["content-type"] == "text/json":
            self.request = json.loads(data.decode(self.jsonheader["content-encoding"]))
        else:
            self.request = data
        self.selector.modify(self.sock, selectors.EVENT_WRITE, data=self)

    def take(self, count):
        taken, self.recv_buffer = self.recv_buffer[:count], self.recv_buffer[count:]
        return taken

    def create_response(self):
        if self.jsonheader["content-type"] == "text/json":
            if self.request.get("action") == "search":
                query = self.request.get("value")
                answer = ANSWERS.get(query) or f'No match for "{query}".'
            else:
                answer = f'Error: invalid action "{self.request.get("action")}".'
            content = json.dumps({"result": answer}, ensure_ascii=False).encode("utf-8")
            self.queue(content, "text/json", "utf-8")
        else:
            content = b"First 10 bytes of request: " + self.request[:10]
            self.queue(content, "binary/custom-server-binary-type", "binary")
        self.response_created = True

    def queue(self, content, content_type, content_encoding):
        header = {
            "byteorder": sys.byteorder,
            "content-type": content_type,
            "content-encoding": content_encoding,
            "content-length": len(content),
        }
        header = json.dumps(header).encode("utf-8")
        self.send_buffer += struct.pack(">H", len(header)) + header + content

    def close(self):
        self.selector.unregister(self.sock)
        self.sock.close()


def accept_wrapper(sock):
    conn, addr = sock.accept()
    print("accepted connection from", addr)
    conn.setblocking(False)
    sel.register(conn, selectors.EVENT_READ, data=Message(sel, conn, addr))


lsock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
lsock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
lsock.bind((sys.argv[1], int(sys.argv[2])))
lsock.listen()
lsock.setblocking(False)
sel.register(lsock, selectors.EVENT_READ, data=None)
while True:
    for key, mask in sel.select(timeout=None):
        if key.data is None:
            accept_wrapper(key.fileobj)
            continue
        try:
            key.data.process_events(mask)
        except Exception:
            print("main: error: exception for", f"{key.data.addr}:\n{traceback.format_exc()}")
            key.data.close()
