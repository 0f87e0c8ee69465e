/*
 * An echo server on libevent: a bufferevent for each connection, its input moved to its output
 * without a copy.
 *
 *   cc -O2 -o libevent_echo libevent_echo.c -levent && ./libevent_echo
 */
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>

static void on_read(struct bufferevent *peer, void *unused)
{
    (void)unused;
    evbuffer_add_buffer(bufferevent_get_output(peer), bufferevent_get_input(peer));
}

static void on_event(struct bufferevent *peer, short what, void *unused)
{
    (void)unused;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        bufferevent_free(peer);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
                      struct sockaddr *address, int len, void *unused)
{
    (void)address;
    (void)len;
    (void)unused;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct bufferevent *peer = bufferevent_socket_new(evconnlistener_get_base(listener), fd,
                                                      BEV_OPT_CLOSE_ON_FREE);
    if (!peer) {
        evutil_closesocket(fd);
        return;
    }
    bufferevent_setcb(peer, on_read, NULL, on_event, NULL);
    bufferevent_enable(peer, EV_READ | EV_WRITE);
}

int main(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    struct event_base *base = event_base_new();
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof address;
    struct evconnlistener *listener = base ? evconnlistener_new_bind(
        base, on_accept, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE, 4096,
        (struct sockaddr *)&address, sizeof address) : NULL;
    if (!listener) {
        perror("listen");
        return 1;
    }
    getsockname(evconnlistener_get_fd(listener), (struct sockaddr *)&address, &len);
    printf("listening on ('127.0.0.1', %d)\n", ntohs(address.sin_port));
    fflush(stdout);
    return event_base_dispatch(base);
}
