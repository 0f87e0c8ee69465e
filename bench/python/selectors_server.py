"""A server on `selectors`, in the shape of the tutorial's: an object for each connection, which reads
a message step by step, then waits to write its reply, then reads again. Connections stay open.

    python3 selectors_server.py raw|echo|search
"""

import json
import selectors
import socket
import sys

from messages import SERVICES, announce, check, raise_descriptor_limit

sel = selectors.DefaultSelector()


class Message:
    """The tutorial's class: what is kept for a connection."""

    def __init__(self, sock, service):
        self.sock = sock
        self.service = service
        self._recv_buffer = b""
        self._send_buffer = b""
        self._header_length = None
        self._header = None

    def process_events(self, mask):
        if mask & selectors.EVENT_READ:
            self.read()
        if mask & selectors.EVENT_WRITE:
            self.write()

    def _set_selector_events_mask(self, events):
        sel.modify(self.sock, events, data=self)

    def read(self):
        try:
            data = self.sock.recv(4096)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        self._recv_buffer += data
        self.process()
        if self._send_buffer:
            self._set_selector_events_mask(selectors.EVENT_WRITE)

    def process(self):
        """Answers all whole messages."""
        while True:
            if self._header_length is None:
                if len(self._recv_buffer) < 2:
                    return
                self._header_length = int.from_bytes(self._recv_buffer[:2], "big")
                self._recv_buffer = self._recv_buffer[2:]
            if self._header is None:
                length = self._header_length
                if len(self._recv_buffer) < length:
                    return
                self._header = json.loads(self._recv_buffer[:length])
                self._recv_buffer = self._recv_buffer[length:]
            length = check(self._header)
            if len(self._recv_buffer) < length:
                return
            content = self._recv_buffer[:length]
            self._recv_buffer = self._recv_buffer[length:]
            self._send_buffer += self.service(self._header, content)
            self._header_length = self._header = None

    def write(self):
        try:
            sent = self.sock.send(self._send_buffer)
        except BlockingIOError:
            return
        self._send_buffer = self._send_buffer[sent:]
        if not self._send_buffer:
            self._set_selector_events_mask(selectors.EVENT_READ)

    def close(self):
        sel.unregister(self.sock)
        self.sock.close()


class Bytes(Message):
    """Sends back whatever comes."""

    def process(self):
        self._send_buffer += self._recv_buffer
        self._recv_buffer = b""


def accept(listener, service):
    try:
        sock, _ = listener.accept()
    except BlockingIOError:
        return
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    message = Message(sock, service) if service else Bytes(sock, None)
    sel.register(sock, selectors.EVENT_READ, data=message)


def main():
    service = SERVICES.get(sys.argv[1])
    raise_descriptor_limit()
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listener.setblocking(False)
    sel.register(listener, selectors.EVENT_READ, data=None)
    announce(listener.getsockname()[1])
    while True:
        for key, mask in sel.select():
            message = key.data
            if message is None:
                accept(key.fileobj, service)
                continue
            try:
                message.process_events(mask)
            except (OSError, ValueError, KeyError):
                message.close()


main()
