/*
 * The yardstick for rooms: the least that a server on epoll can do that passes what one peer says
 * on to all of them. It sends the bytes of each recv as they came to every socket that is open,
 * the speaker's too, one after another, without looking for messages, without rooms, limits,
 * deadlines or counters. What a socket does not take at once it waits for, which no client of the
 * benchmark makes it do.
 *
 *   cc -O2 -o fan_out fan_out.c && ./fan_out
 *
 * prints the port that it listens on.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 1024, BUFFER = 64 << 10, PEERS = 1 << 20 };

static int peers[PEERS];
static int count_of_peers;

static void die(const char *call)
{
    perror(call);
    exit(1);
}

static void send_all(int fd, const char *bytes, ssize_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, bytes, (size_t)len, MSG_NOSIGNAL);
        if (sent >= 0) {
            bytes += sent;
            len -= sent;
        } else if (errno == EAGAIN) {
            struct pollfd writable = { .fd = fd, .events = POLLOUT };
            poll(&writable, 1, -1);
        } else {
            return;
        }
    }
}

static void forget(int fd)
{
    for (int at = 0; at < count_of_peers; at++) {
        if (peers[at] == fd) {
            peers[at] = peers[--count_of_peers];
            break;
        }
    }
    close(fd);
}

static void accept_all(int listener, int epoll)
{
    for (;;) {
        int peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (peer < 0) return;
        if (count_of_peers == PEERS) {
            close(peer);
            continue;
        }
        struct epoll_event watch = { .events = EPOLLIN, .data.fd = peer };
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, peer, &watch) < 0) die("epoll_ctl");
        peers[count_of_peers++] = peer;
    }
}

int main(void)
{
    static char buffer[BUFFER];
    static struct epoll_event events[EVENTS];
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof address;
    int on = 1;
    /* Accepted sockets inherit it. */
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, len) < 0) die("bind");
    if (listen(listener, 1 << 20) < 0) die("listen");
    if (getsockname(listener, (struct sockaddr *)&address, &len) < 0) die("getsockname");
    printf("listening on ('127.0.0.1', %d)\n", ntohs(address.sin_port));
    fflush(stdout);

    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event watch = { .events = EPOLLIN, .data.fd = listener };
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &watch) < 0) die("epoll");
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int at = 0; at < count; at++) {
            int fd = events[at].data.fd;
            if (fd == listener) {
                accept_all(listener, epoll);
                continue;
            }
            ssize_t received = recv(fd, buffer, sizeof buffer, 0);
            if (received > 0) {
                /* Whoever was there before the message hears it. */
                accept_all(listener, epoll);
                for (int peer = 0; peer < count_of_peers; peer++) {
                    send_all(peers[peer], buffer, received);
                }
            } else if (received == 0 || errno != EAGAIN) {
                forget(fd);
            }
        }
    }
}
