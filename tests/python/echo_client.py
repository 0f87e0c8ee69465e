#!/usr/bin/env python3
"""The tutorial's echo client: sends a greeting and receives once.

Usage: echo_client.py HOST PORT
"""

import socket
import sys

with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
    s.connect((sys.argv[1], int(sys.argv[2])))
    s.sendall(b"Hello, world")
    data = s.recv(1024)

print("Received", repr(data))
