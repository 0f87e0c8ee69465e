"""What the tutorial's application programs share: its message, over a selector."""

import json
import selectors
import struct
import sys

REQUIRED = ("byteorder", "content-length", "content-type", "content-encoding")


def json_encode(obj, encoding):
    return json.dumps(obj, ensure_ascii=False).encode(encoding)


class Message:
    """One message in and one out, for one socket; subclasses say what for."""

    def __init__(self, selector, sock, addr):
        self.selector = selector
        self.sock = sock
        self.addr = addr
        self.recv_buffer = b""
        self.send_buffer = b""
        self.jsonheader_len = None
        self.jsonheader = None

    def set_events(self, events):
        self.selector.modify(self.sock, events, data=self)

    def process_events(self, mask):
        if mask & selectors.EVENT_READ:
            self.read()
        if mask & selectors.EVENT_WRITE:
            self.write()

    def read(self):
        try:
            data = self.sock.recv(4096)
        except BlockingIOError:
            return
        if not data:
            raise RuntimeError("Peer closed.")
        self.recv_buffer += data
        if self.jsonheader_len is None and len(self.recv_buffer) >= 2:
            (self.jsonheader_len,) = struct.unpack(">H", self.take(2))
        if self.jsonheader_len is not None and self.jsonheader is None:
            if len(self.recv_buffer) >= self.jsonheader_len:
                self.jsonheader = json.loads(self.take(self.jsonheader_len).decode("utf-8"))
                for key in REQUIRED:
                    if key not in self.jsonheader:
                        raise ValueError(f'Missing required header "{key}".')
        if self.jsonheader and len(self.recv_buffer) >= self.jsonheader["content-length"]:
            content = self.take(self.jsonheader["content-length"])
            if self.jsonheader["content-type"] == "text/json":
                encoding = self.jsonheader["content-encoding"]
                self.process_json(json.loads(content.decode(encoding)))
            else:
                self.process_binary(content)

    def take(self, count):
        taken, self.recv_buffer = self.recv_buffer[:count], self.recv_buffer[count:]
        return taken

    def queue(self, content, content_type, content_encoding):
        header = {
            "byteorder": sys.byteorder,
            "content-type": content_type,
            "content-encoding": content_encoding,
            "content-length": len(content),
        }
        header_bytes = json_encode(header, "utf-8")
        self.send_buffer += struct.pack(">H", len(header_bytes)) + header_bytes + content

    def write(self):
        if not self.send_buffer:
            return
        print("sending", repr(self.send_buffer), "to", self.addr)
        try:
            sent = self.sock.send(self.send_buffer)
        except BlockingIOError:
            return
        self.send_buffer = self.send_buffer[sent:]
        if not self.send_buffer:
            self.all_sent()

    def close(self):
        print("closing connection to", self.addr)
        self.selector.unregister(self.sock)
        self.sock.close()
