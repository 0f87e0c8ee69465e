#!/usr/bin/env python3
"""The tutorial's client of many connections, over the selectors module.

Usage: multiconn_client.py HOST PORT NUM_CONNECTIONS
"""

import selectors
import socket
import sys
import types

MESSAGES = [b"Message 1 from client.", b"Message 2 from client."]
sel = selectors.DefaultSelector()


def start_connections(host, port, num_conns):
    for connid in range(1, num_conns + 1):
        print("starting connection", connid, "to", (host, port))
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.connect_ex((host, port))
        data = types.SimpleNamespace(
            connid=connid,
            msg_total=sum(map(len, MESSAGES)),
            recv_total=0,
            messages=list(MESSAGES),
            outb=b"",
        )
        sel.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, data=data)


def service_connection(key, mask):
    sock, data = key.fileobj, key.data
    if mask & selectors.EVENT_READ:
        received = sock.recv(1024)
        if received:
            print("received", repr(received), "from connection", data.connid)
            data.recv_total += len(received)
        if not received or data.recv_total == data.msg_total:
            print("closing connection", data.connid)
            sel.unregister(sock)
            sock.close()
            return
    if mask & selectors.EVENT_WRITE:
        if not data.outb and data.messages:
            data.outb = data.messages.pop(0)
        if data.outb:
            print("sending", repr(data.outb), "to connection", data.connid)
            data.outb = data.outb[sock.send(data.outb) :]


start_connections(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
while sel.get_map():
    for key, mask in sel.select(timeout=1):
        service_connection(key, mask)
