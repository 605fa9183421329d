/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both ends of what bench/net measures.
 *
 *   net-load serve ADDRESS PORT              until it is ended; prints "listening"
 *   net-load WORK ADDRESS PORT SECONDS       prints how much a second
 *
 *   down      bytes that the server sends, in MiB        up        bytes that it takes, in MiB
 *   requests  64 bytes there and back, one at a time, over one connection
 *   connect   a connection for each of these
 *   several   requests over 16 connections at once
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BLOCK   (256 * 1024)
#define REQUEST 64
#define SEVERAL 16

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void no_delay(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* False at the end of the connection. */
static bool read_all(int fd, char *buffer, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = read(fd, buffer + done, bytes - done);
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

/* -- the server -------------------------------------------------------------------------------- */

/* The first byte of a connection says what it is for. */
static void *serve_one(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char *block = calloc(1, BLOCK), what = 0;
    if (block && read(fd, &what, 1) == 1)
        switch (what) {
        case 'd':
            while (send(fd, block, BLOCK, MSG_NOSIGNAL) > 0)
                ;
            break;
        case 'u':
            while (read(fd, block, BLOCK) > 0)
                ;
            break;
        default:
            while (read_all(fd, block, REQUEST) && send(fd, block, REQUEST, MSG_NOSIGNAL) == REQUEST)
                ;
        }
    free(block);
    close(fd);
    return NULL;
}

static int serve(const struct sockaddr_in *address)
{
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd < 0 || bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ||
        listen(fd, 1024) < 0)
        err(1, "listen");
    puts("listening");
    fflush(stdout);
    for (;;) {
        pthread_t thread;
        int connection = accept(fd, NULL, NULL);
        if (connection < 0)
            err(1, "accept");
        no_delay(connection);
        if (pthread_create(&thread, NULL, serve_one, (void *)(intptr_t)connection) != 0)
            errx(1, "no thread");
        pthread_detach(thread);
    }
}

/* -- the client -------------------------------------------------------------------------------- */

static int connect_for(const struct sockaddr_in *address, char what)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
        err(1, "connect");
    no_delay(fd);
    if (write(fd, &what, 1) != 1)
        err(1, "write");
    return fd;
}

static double stream(const struct sockaddr_in *address, char what, double seconds)
{
    static char block[BLOCK];
    int fd = connect_for(address, what);
    double begin = now(), end = begin + seconds, last = begin;
    uint64_t bytes = 0;
    while (last < end) {
        ssize_t n = what == 'd' ? read(fd, block, BLOCK) : write(fd, block, BLOCK);
        if (n <= 0)
            err(1, "transfer");
        bytes += (uint64_t)n;
        last = now();
    }
    close(fd);
    return (double)bytes / 1048576 / (last - begin);
}

static void ask(int fd)
{
    char request[REQUEST] = "ask";
    if (write(fd, request, REQUEST) != REQUEST || !read_all(fd, request, REQUEST))
        err(1, "ask");
}

static double requests(const struct sockaddr_in *address, double seconds, bool connect_each)
{
    int fd = connect_each ? -1 : connect_for(address, 'r');
    double begin = now(), end = begin + seconds, last = begin;
    uint64_t count = 0;
    for (; last < end; count++, last = now()) {
        int one = connect_each ? connect_for(address, 'r') : fd;
        ask(one);
        if (connect_each)
            close(one);
    }
    return (double)count / (last - begin);
}

static double several(const struct sockaddr_in *address, double seconds)
{
    struct pollfd fds[SEVERAL];
    char request[REQUEST] = "ask";
    uint64_t count = 0;
    for (int i = 0; i < SEVERAL; i++)
        fds[i] = (struct pollfd){.fd = connect_for(address, 'r'), .events = POLLIN};
    double begin = now(), end = begin + seconds, last = begin;
    for (int i = 0; i < SEVERAL; i++)
        if (write(fds[i].fd, request, REQUEST) != REQUEST)
            err(1, "ask");
    for (; last < end; last = now()) {
        if (poll(fds, SEVERAL, 10000) <= 0)
            errx(1, "no answer");
        for (int i = 0; i < SEVERAL; i++) {
            if (!fds[i].revents)
                continue;
            if (!read_all(fds[i].fd, request, REQUEST) || write(fds[i].fd, request, REQUEST) != REQUEST)
                err(1, "ask");
            count++;
        }
    }
    return (double)count / (last - begin);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (argc < 4 || inet_pton(AF_INET, argv[2], &address.sin_addr) != 1)
        errx(2, "usage: net-load serve|down|up|requests|connect|several ADDRESS PORT [SECONDS]");
    address.sin_port = htons((uint16_t)atoi(argv[3]));
    double seconds = argc > 4 ? atof(argv[4]) : 5;
    if (strcmp(argv[1], "serve") == 0)
        return serve(&address);
    if (strcmp(argv[1], "down") == 0 || strcmp(argv[1], "up") == 0)
        printf("%.3f\n", stream(&address, argv[1][0], seconds));
    else if (strcmp(argv[1], "several") == 0)
        printf("%.3f\n", several(&address, seconds));
    else
        printf("%.3f\n", requests(&address, seconds, strcmp(argv[1], "connect") == 0));
    return 0;
}
