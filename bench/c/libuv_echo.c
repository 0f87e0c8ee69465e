/*
 * An echo server on libuv: one buffer for all connections, since a read is answered before the next;
 * uv_try_write first, a queued write for what the socket does not take.
 *
 *   cc -O2 -o libuv_echo libuv_echo.c -luv && ./libuv_echo
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <arpa/inet.h>
#include <uv.h>

static char buffer[64 << 10];

struct rest {
    uv_write_t request;
    char bytes[];
};

static void check(int result, const char *call)
{
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", call, uv_strerror(result));
        exit(1);
    }
}

static void on_close(uv_handle_t *handle)
{
    free(handle);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)handle;
    (void)suggested;
    *out = uv_buf_init(buffer, sizeof buffer);
}

static void on_written(uv_write_t *request, int status)
{
    if (status < 0 && !uv_is_closing((uv_handle_t *)request->handle))
        uv_close((uv_handle_t *)request->handle, on_close);
    free(request);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *in)
{
    if (len < 0) {
        uv_close((uv_handle_t *)stream, on_close);
        return;
    }
    if (len == 0)
        return;
    uv_buf_t out = uv_buf_init(in->base, (unsigned)len);
    int sent = uv_try_write(stream, &out, 1);
    if (sent == len)
        return;
    if (sent < 0 && sent != UV_EAGAIN) {
        uv_close((uv_handle_t *)stream, on_close);
        return;
    }
    if (sent < 0)
        sent = 0;
    size_t left = (size_t)(len - sent);
    struct rest *rest = malloc(sizeof *rest + left);
    if (!rest)
        exit(1);
    memcpy(rest->bytes, in->base + sent, left);
    out = uv_buf_init(rest->bytes, (unsigned)left);
    check(uv_write(&rest->request, stream, &out, 1, on_written), "uv_write");
}

static void on_connection(uv_stream_t *listener, int status)
{
    check(status, "listen");
    uv_tcp_t *peer = malloc(sizeof *peer);
    if (!peer)
        exit(1);
    check(uv_tcp_init(listener->loop, peer), "uv_tcp_init");
    if (uv_accept(listener, (uv_stream_t *)peer) < 0) {
        uv_close((uv_handle_t *)peer, on_close);
        return;
    }
    uv_tcp_nodelay(peer, 1);
    check(uv_read_start((uv_stream_t *)peer, on_alloc, on_read), "uv_read_start");
}

int main(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    uv_loop_t *loop = uv_default_loop();
    uv_tcp_t listener;
    struct sockaddr_in address;
    int len = sizeof address;
    check(uv_ip4_addr("127.0.0.1", 0, &address), "uv_ip4_addr");
    check(uv_tcp_init(loop, &listener), "uv_tcp_init");
    check(uv_tcp_bind(&listener, (struct sockaddr *)&address, 0), "uv_tcp_bind");
    check(uv_listen((uv_stream_t *)&listener, 4096, on_connection), "uv_listen");
    check(uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &len), "uv_tcp_getsockname");
    printf("listening on ('127.0.0.1', %d)\n", ntohs(address.sin_port));
    fflush(stdout);
    return uv_run(loop, UV_RUN_DEFAULT);
}
