#!/usr/bin/env python3
"""Echoes over TLS by Python's own ssl, against `myriapod serve --service raw`.

    .ci/tls.py COMMAND CONNECTIONS MESSAGES

Each connection sends so many messages of 1 byte to 100 kB, cut at random, and compares what comes
back. The seed is printed; a wrong byte ends with status 1.
"""
import os
import random
import socket
import ssl
import subprocess
import sys
import tempfile
import threading

PAGE = bytes(range(251)) * 500


def serve(command, *flags):
    server = subprocess.Popen(
        [command, "serve", "127.0.0.1", "0", "--service", "raw", *flags],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = server.stdout.readline()
    return server, int(line.rsplit(", ", 1)[1].rstrip(")\n"))


def talk(context, port, messages, seed, faults):
    dice = random.Random(seed)
    try:
        plain = socket.create_connection(("127.0.0.1", port), timeout=120)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_hostname="localhost") as peer:
            for _ in range(messages):
                length = dice.choice([1, 2, 146, 1000, 16384, 16385, dice.randint(1, 100_000)])
                start = dice.randint(0, len(PAGE) - length)
                sent = PAGE[start:start + length]
                at = 0
                while at < length:
                    cut = length if length < 2000 else dice.randint(1, length)
                    peer.sendall(sent[at:at + cut])
                    at += cut
                got = bytearray()
                while len(got) < length:
                    piece = peer.recv(length - len(got))
                    if not piece:
                        raise EOFError("the server has ended the stream")
                    got += piece
                if got != sent:
                    raise ValueError(f"wrong bytes among {length}")
            # Both ends say close_notify, or this raises.
            peer.unwrap()
    except Exception as error:  # noqa: BLE001: whatever it is, it is told
        faults.append(f"seed {seed}: {error!r}")


def main():
    command, connections, messages = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    folder = tempfile.mkdtemp()
    certificate, key = os.path.join(folder, "c.pem"), os.path.join(folder, "k.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, stderr=subprocess.DEVNULL)
    context = ssl.create_default_context(cafile=certificate)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    first = random.randrange(1 << 30)
    print(f"seeds from {first}", flush=True)
    wrong = 0
    for awake in ("64", "0"):
        server, port = serve(
            command, "--tls-cert", certificate, "--tls-key", key, "--tls-awake", awake)
        faults, seeds = [], list(range(first, first + connections))
        lock = threading.Lock()

        def work():
            while True:
                with lock:
                    if not seeds:
                        return
                    seed = seeds.pop()
                talk(context, port, messages, seed, faults)

        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.terminate()
        said = server.stderr.read()
        server.wait()
        for fault in faults:
            print(fault)
        wrong += len(faults)
        counts = [word for word in said.split() if word.startswith(("messages", "cipher", "link_"))]
        print(f"awake {awake}: {connections} connections of {messages} messages,",
              f"{len(faults)} faults; {' '.join(counts)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
