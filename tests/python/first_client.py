#!/usr/bin/env python3
"""The tutorial's first client: three greetings, Enter between them, and a goodbye.

Usage: first_client.py HOST PORT

It makes the calls that the text's listing makes: header and text are sent apart, and
one recv has to bring the whole answer.
"""

import socket
import sys

HEADER = 64
FORMAT = "utf-8"

client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
client.connect((sys.argv[1], int(sys.argv[2])))


def send(text):
    message = text.encode(FORMAT)
    client.send(str(len(message)).encode(FORMAT).ljust(HEADER))
    client.send(message)
    print(client.recv(2048).decode(FORMAT))


send("Hello World!")
input()
send("Hello Everyone!")
input()
send("Hello Tim!")

send("!DISCONNECT")
