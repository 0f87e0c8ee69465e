#!/usr/bin/env python3
"""The tutorial's first server: a thread for each connection, a length in 64 bytes.

Usage: first_server.py HOST PORT

It makes the calls that the text's listing makes, no more: one recv for a length and
one for a text. Only the address is an argument, and port 0 prints the real one.
"""

import socket
import sys
import threading

HEADER = 64
FORMAT = "utf-8"
DISCONNECT_MESSAGE = "!DISCONNECT"


def tell(line):
    # In one write, so that no thread's line comes into another's.
    print(line + "\n", end="")


def handle_client(conn, addr):
    tell(f"[NEW CONNECTION] {addr} connected.")
    connected = True
    while connected:
        length = conn.recv(HEADER).decode(FORMAT)
        if length:
            text = conn.recv(int(length)).decode(FORMAT)
            connected = text != DISCONNECT_MESSAGE
            tell(f"[{addr}] {text}")
            conn.send("Msg received".encode(FORMAT))
    conn.close()


def main(host, port):
    print("[STARTING] server is starting...")
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.bind((host, port))
    server.listen()
    print(f"[LISTENING] Server is listening on {host}:{server.getsockname()[1]}")
    while True:
        conn, addr = server.accept()
        threading.Thread(target=handle_client, args=(conn, addr), daemon=True).start()
        tell(f"[ACTIVE CONNECTIONS] {threading.active_count() - 1}")


main(sys.argv[1], int(sys.argv[2]))
