#!/usr/bin/env python3
"""The tutorial's server of many connections, over the selectors module.

Usage: multiconn_server.py HOST PORT
"""

import selectors
import socket
import sys
import types

BOTH = selectors.EVENT_READ | selectors.EVENT_WRITE
sel = selectors.DefaultSelector()


def accept_wrapper(sock):
    conn, addr = sock.accept()
    print("accepted connection from", addr)
    conn.setblocking(False)
    sel.register(conn, BOTH, data=types.SimpleNamespace(addr=addr, outb=b""))


def service_connection(key, mask):
    sock, data = key.fileobj, key.data
    if mask & selectors.EVENT_READ:
        received = sock.recv(1024)
        if not received:
            print("closing connection to", data.addr)
            sel.unregister(sock)
            sock.close()
            return
        data.outb += received
    if mask & selectors.EVENT_WRITE and data.outb:
        print("echoing", repr(data.outb), "to", data.addr)
        data.outb = data.outb[sock.send(data.outb) :]


def main(host, port):
    lsock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    lsock.bind((host, port))
    lsock.listen()
    print("listening on", (host, lsock.getsockname()[1]))
    lsock.setblocking(False)
    sel.register(lsock, selectors.EVENT_READ, data=None)
    while True:
        for key, mask in sel.select(timeout=None):
            if key.data is None:
                accept_wrapper(key.fileobj)
            else:
                service_connection(key, mask)


main(sys.argv[1], int(sys.argv[2]))
