/* An echo server on select, as many are written: blocking sends, and SIGPIPE as it comes.
 *
 * Usage: select_server PORT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int on = 1, full = 0, highest;
    char buffer[4096];
    fd_set open_fds, ready;
    struct sockaddr_in address = {.sin_family = AF_INET};
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    if (argc != 2 || listener < 0)
        return 2;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((unsigned short)atoi(argv[1]));
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 1024) < 0) {
        perror("bind");
        return 1;
    }
    FD_ZERO(&open_fds);
    highest = listener;
    for (;;) {
        ready = open_fds;
        /* Without a descriptor to spare, those who wait stay in the backlog. */
        if (!full)
            FD_SET(listener, &ready);
        if (select(highest + 1, &ready, NULL, NULL, NULL) < 0)
            continue;
        if (!full && FD_ISSET(listener, &ready)) {
            int client = accept(listener, NULL, NULL);
            if (client < 0 && (errno == EMFILE || errno == ENFILE))
                full = 1;
            /* The wall: select cannot watch it, so it is kept and never looked at. */
            if (client >= 0 && client < FD_SETSIZE) {
                FD_SET(client, &open_fds);
                if (client > highest)
                    highest = client;
            }
        }
        for (int fd = 0; fd <= highest; fd++) {
            if (fd == listener || !FD_ISSET(fd, &ready))
                continue;
            ssize_t count = recv(fd, buffer, sizeof buffer, 0);
            for (ssize_t sent = 0; sent < count;) {
                ssize_t some = send(fd, buffer + sent, (size_t)(count - sent), 0);
                if (some < 0) {
                    count = -1;
                    break;
                }
                sent += some;
            }
            if (count <= 0) {
                FD_CLR(fd, &open_fds);
                close(fd);
                full = 0;
            }
        }
    }
}
