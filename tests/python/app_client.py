#!/usr/bin/env python3
"""The tutorial's application client: one request, one answer.

Usage: app_client.py HOST PORT ACTION VALUE
"""

import selectors
import socket
import sys

from application import Message, json_encode

sel = selectors.DefaultSelector()


class Request(Message):
    def queue_request(self, action, value):
        if action == "search":
            content = json_encode({"action": action, "value": value}, "utf-8")
            self.queue(content, "text/json", "utf-8")
        else:
            content = bytes(action + value, encoding="utf-8")
            self.queue(content, "binary/custom-client-binary-type", "binary")

    def all_sent(self):
        self.set_events(selectors.EVENT_READ)

    def process_json(self, response):
        print("received response", repr(response), "from", self.addr)
        print("got result:", response.get("result"))
        self.close()

    def process_binary(self, response):
        print(f"received {self.jsonheader['content-type']} response from", self.addr)
        print("got response:", repr(response))
        self.close()


def main(host, port, action, value):
    addr = (host, port)
    print("starting connection to", addr)
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.connect_ex(addr)
    request = Request(sel, sock, addr)
    request.queue_request(action, value)
    sel.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, data=request)
    while sel.get_map():
        for key, mask in sel.select(timeout=1):
            key.data.process_events(mask)


main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
