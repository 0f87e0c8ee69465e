#!/usr/bin/env python3
"""The tutorial's application server.

Usage: app_server.py HOST PORT
"""

import selectors
import socket
import sys
import traceback

from application import Message, json_encode

ANSWERS = {
    "morpheus": "Follow the white rabbit. \N{RABBIT FACE}",
    "ring": "In the caves beneath the Misty Mountains. \N{RING}",
    "\N{DOG FACE}": "\N{PAW PRINTS} Playing ball! \N{VOLLEYBALL}",
}
sel = selectors.DefaultSelector()


class Answer(Message):
    def process_json(self, request):
        print("received request", repr(request), "from", self.addr)
        action, value = request.get("action"), request.get("value")
        if action == "search":
            result = ANSWERS.get(value) or f"No match for '{value}'."
        else:
            result = f"Error: invalid action '{action}'."
        self.queue(json_encode({"result": result}, "utf-8"), "text/json", "utf-8")
        self.set_events(selectors.EVENT_WRITE)

    def process_binary(self, request):
        print(f"received {self.jsonheader['content-type']} request from", self.addr)
        content = b"First 10 bytes of request: " + request[:10]
        self.queue(content, "binary/custom-server-binary-type", "binary")
        self.set_events(selectors.EVENT_WRITE)

    def all_sent(self):
        self.close()


def accept_wrapper(sock):
    conn, addr = sock.accept()
    print("accepted connection from", addr)
    conn.setblocking(False)
    sel.register(conn, selectors.EVENT_READ, data=Answer(sel, conn, addr))


def main(host, port):
    lsock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    lsock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    lsock.bind((host, port))
    lsock.listen()
    print("listening on", (host, lsock.getsockname()[1]))
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


main(sys.argv[1], int(sys.argv[2]))
