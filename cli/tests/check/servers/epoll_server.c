/* An echo server on epoll with one mistake, chosen by name:
 *
 *   once    edge-triggered, and one recv for each event
 *   drain   edge-triggered; reads one client until nothing is left, drops what send does not take
 *   level   level-triggered; drops what send does not take
 *
 * Usage: epoll_server once|drain|level PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS 4096

/* What send did not take, for `once` alone. */
static char *rest[CLIENTS];
static size_t rest_len[CLIENTS];
/* Whom nobody waits for a second time. */
static char is_slow[CLIENTS];
static int epoll, listener, full;

static void watch_listener(int on)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(epoll, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, listener, &event);
    full = !on;
}

static void forget(int fd)
{
    free(rest[fd]);
    rest[fd] = NULL;
    rest_len[fd] = 0;
    is_slow[fd] = 0;
    close(fd);
    if (full)
        watch_listener(1);
}

/* Sends all that the kernel takes within some milliseconds; -1 if the client is gone. */
static ssize_t send_some(int fd, const char *bytes, size_t len, int tries)
{
    size_t sent = 0;
    while (sent < len) {
        ssize_t some = send(fd, bytes + sent, len - sent, MSG_NOSIGNAL);
        if (some >= 0) {
            sent += (size_t)some;
            continue;
        }
        if (errno != EAGAIN)
            return -1;
        if (tries-- == 0)
            break;
        struct pollfd writable = {.fd = fd, .events = POLLOUT};
        poll(&writable, 1, 5);
    }
    return (ssize_t)sent;
}

static void accept_all(unsigned events)
{
    for (;;) {
        int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (client < 0) {
            if (errno == EMFILE || errno == ENFILE)
                watch_listener(0);
            return;
        }
        if (client >= CLIENTS) {
            close(client);
            continue;
        }
        struct epoll_event event = {.events = events, .data.fd = client};
        epoll_ctl(epoll, EPOLL_CTL_ADD, client, &event);
    }
}

/* One recv for each event; nothing is lost, but what does not fit the buffer waits for ever. */
static void once(int fd)
{
    static char buffer[4096];
    if (rest_len[fd] > 0) {
        ssize_t sent = send_some(fd, rest[fd], rest_len[fd], 0);
        if (sent < 0) {
            forget(fd);
            return;
        }
        rest_len[fd] -= (size_t)sent;
        memmove(rest[fd], rest[fd] + sent, rest_len[fd]);
        if (rest_len[fd] > 0)
            return;
    }
    ssize_t count = recv(fd, buffer, sizeof buffer, 0);
    if (count < 0 && errno == EAGAIN)
        return;
    ssize_t sent = count > 0 ? send_some(fd, buffer, (size_t)count, 0) : -1;
    if (sent < 0) {
        forget(fd);
        return;
    }
    if (sent < count) {
        if (rest[fd] == NULL)
            rest[fd] = malloc(sizeof buffer);
        rest_len[fd] = (size_t)(count - sent);
        memcpy(rest[fd], buffer + sent, rest_len[fd]);
    }
}

/* Whether it may be called again for the same event. */
static int echo(int fd)
{
    static char buffer[256];
    ssize_t count = recv(fd, buffer, sizeof buffer, 0);
    if (count < 0 && errno == EAGAIN)
        return 0;
    ssize_t sent = count > 0 ? send_some(fd, buffer, (size_t)count, is_slow[fd] ? 0 : 2) : -1;
    if (sent < 0) {
        forget(fd);
        return 0;
    }
    is_slow[fd] = sent < count;
    return 1;
}

int main(int argc, char **argv)
{
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct epoll_event events[64];

    if (argc != 3)
        return 2;
    int is_once = !strcmp(argv[1], "once"), is_drain = !strcmp(argv[1], "drain");
    unsigned wanted = is_once ? EPOLLIN | EPOLLOUT | EPOLLET : is_drain ? EPOLLIN | EPOLLET : EPOLLIN;
    signal(SIGPIPE, SIG_IGN);
    epoll = epoll_create1(0);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((unsigned short)atoi(argv[2]));
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 1024) < 0) {
        perror("bind");
        return 1;
    }
    watch_listener(1);
    for (;;) {
        int count = epoll_wait(epoll, events, 64, -1);
        for (int at = 0; at < count; at++) {
            int fd = events[at].data.fd;
            if (fd == listener)
                accept_all(wanted);
            else if (events[at].events & (EPOLLERR | EPOLLHUP))
                forget(fd);
            else if (is_once)
                once(fd);
            else if (is_drain)
                while (echo(fd))
                    ;
            else
                echo(fd);
        }
    }
}
