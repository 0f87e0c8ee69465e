"""A server on asyncio: a `Protocol` for each connection, which is what its documentation advises
where streams are too slow. With --uvloop, on uvloop.

    python3 asyncio_server.py raw|echo|search [--uvloop]
"""

import asyncio
import json
import sys

from messages import SERVICES, announce, check, raise_descriptor_limit


class Bytes(asyncio.Protocol):
    """Sends back whatever comes."""

    __slots__ = ("transport",)

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Messages(asyncio.Protocol):
    """Answers messages, all that have come whole with one write."""

    __slots__ = ("transport", "service", "rest")

    def __init__(self, service):
        self.service = service
        self.rest = b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if self.rest:
            data = self.rest + data
        replies = []
        start = 0
        try:
            while True:
                content_start = start + 2 + int.from_bytes(data[start : start + 2], "big")
                if len(data) < start + 2 or len(data) < content_start:
                    break
                header = json.loads(data[start + 2 : content_start])
                end = content_start + check(header)
                if len(data) < end:
                    break
                replies.append(self.service(header, data[content_start:end]))
                start = end
        except (ValueError, KeyError):
            self.transport.close()
            return
        self.rest = data[start:]
        if replies:
            self.transport.write(b"".join(replies))


async def main():
    service = SERVICES.get(sys.argv[1])
    raise_descriptor_limit()
    protocol = Bytes if service is None else lambda: Messages(service)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, backlog=4096)
    announce(server.sockets[0].getsockname()[1])
    await server.serve_forever()


if "--uvloop" in sys.argv[2:]:
    import uvloop

    uvloop.run(main())
else:
    asyncio.run(main())
