#!/usr/bin/env python3
"""The tutorial's echo server: one client, and the end.

Usage: echo_server.py HOST PORT
"""

import socket
import sys

with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
    s.bind((sys.argv[1], int(sys.argv[2])))
    s.listen()
    print("listening on", s.getsockname())
    conn, addr = s.accept()
    with conn:
        print("Connected by", addr)
        while data := conn.recv(1024):
            conn.sendall(data)
