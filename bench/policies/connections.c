/* New TCP connections as fast as they come: connect, a byte there, a byte back, reset. Two programs in one:
 *   connections serve ADDRESS PORT
 *   connections call ADDRESS PORT SECONDS PARALLEL     prints how many, and their p50 and p99 in microseconds
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 65536
#define SAMPLES (1 << 22)

static struct sockaddr_storage address;
static socklen_t length;

static void parse(const char *text, const char *port) {
    struct sockaddr_in *four = (void *)&address;
    struct sockaddr_in6 *six = (void *)&address;
    if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
        four->sin_family = AF_INET, four->sin_port = htons(atoi(port)), length = sizeof *four;
    } else if (inet_pton(AF_INET6, text, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6, six->sin6_port = htons(atoi(port)), length = sizeof *six;
    } else {
        fprintf(stderr, "not an address: %s\n", text), exit(2);
    }
}

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static int made(void) {
    int descriptor = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    if (descriptor < 0) perror("socket"), exit(1);
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return descriptor;
}

static void serve(void) {
    int listener = made(), poll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    if (bind(listener, (void *)&address, length) || listen(listener, 4096)) perror("listen"), exit(1);
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    puts("ready"), fflush(stdout);
    for (;;) {
        int count = epoll_wait(poll, events, 256, -1);
        for (int each = 0; each < count; each++) {
            int descriptor = events[each].data.fd;
            char byte;
            if (descriptor == listener) {
                int accepted;
                while ((accepted = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0) {
                    event.data.fd = accepted;
                    epoll_ctl(poll, EPOLL_CTL_ADD, accepted, &event);
                }
            } else if (read(descriptor, &byte, 1) == 1) {
                if (write(descriptor, &byte, 1) < 0) close(descriptor);
            } else {
                close(descriptor);
            }
        }
    }
}

static double began[MOST];
static float took[SAMPLES];
static long done, failed;

static void begin(int poll) {
    int descriptor = made();
    struct epoll_event event = {.events = EPOLLOUT, .data.fd = descriptor};
    if (descriptor >= MOST) fprintf(stderr, "too many\n"), exit(1);
    began[descriptor] = now();
    if (connect(descriptor, (void *)&address, length) && errno != EINPROGRESS) perror("connect"), exit(1);
    epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event);
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void call(double seconds, int parallel) {
    struct linger at_once = {1, 0};
    int poll = epoll_create1(0);
    struct epoll_event event, events[256];
    double until = now() + seconds;
    for (int each = 0; each < parallel; each++) begin(poll);
    while (now() < until) {
        int count = epoll_wait(poll, events, 256, 100);
        for (int each = 0; each < count; each++) {
            int descriptor = events[each].data.fd;
            char byte = 'x';
            if (!(events[each].events & (EPOLLERR | EPOLLHUP))) {
                if (events[each].events & EPOLLOUT) {
                    event.events = EPOLLIN, event.data.fd = descriptor;
                    if (write(descriptor, &byte, 1) == 1) {
                        epoll_ctl(poll, EPOLL_CTL_MOD, descriptor, &event);
                        continue;
                    }
                } else if (read(descriptor, &byte, 1) == 1) {
                    if (done < SAMPLES) took[done] = (now() - began[descriptor]) * 1e6;
                    done++, failed--;
                }
            }
            failed++;
            setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
            close(descriptor);
            begin(poll);
        }
    }
    long kept = done < SAMPLES ? done : SAMPLES;
    qsort(took, kept, sizeof *took, by_size);
    printf("%ld %ld %.1f %.1f\n", done, failed, kept ? took[kept / 2] : 0, kept ? took[kept * 99 / 100] : 0);
}

int main(int count, char **arguments) {
    if (count == 4 && !strcmp(arguments[1], "serve")) parse(arguments[2], arguments[3]), serve();
    if (count != 6) return fprintf(stderr, "see the source\n"), 2;
    parse(arguments[2], arguments[3]);
    call(atof(arguments[4]), atoi(arguments[5]));
    return 0;
}
