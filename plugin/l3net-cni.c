/*
 * l3net-cni: the executable a container runtime calls (CNI specification 1.1.0).
 *
 * It hands its CNI_* environment, its standard input and an open descriptor of CNI_NETNS (SCM_RIGHTS) to
 * l3net's agent over a Unix socket, prints the agent's answer and exits as the agent says. It knows no JSON
 * beyond finding the value of "cniVersion". A configuration with its own "ipam" is handed to the program
 * l3net-standalone beside this one, if there is one. The frame is described in l3net/cni/frame.py.
 *
 * That program takes long to start, so the first call leaves a helper, a process of its own that takes calls on
 * a socket for a while (l3net/attach/helper.py). The helper says whether it begins a call: what was not begun is
 * carried out by a process of its own, as if there were no helper.
 *
 * Without an agent: ADD, CHECK and GC fail with code 11 (try again later), STATUS with 50; DEL is written to
 * the spool, which the agent carries out when it is back, and succeeds; VERSION always works.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAGIC 0x31334E43u
#define MAX_STDIN (8u << 20)
#define MAX_ENVIRONMENT (1u << 18)
#define ANSWER_SECONDS 60 /* CRI-O gives a call 60 s, kubelet two minutes */
#ifndef SOCKET_PATH
#define SOCKET_PATH "/run/l3net/cni.sock"
#endif
#ifndef SPOOL_DIR
#define STATUS_WAIT 10 /* seconds */
#define SPOOL_DIR "/var/lib/l3net/spool"
#endif
#ifndef HELPERS_DIR
#define HELPERS_DIR "/run/l3net/helpers"
#endif
#define BEGUN 0x474E4742u     /* a helper's first word: it carries the call out */
#define ELSEWHERE 0x45534C45u /* or it does not */
#define BEGIN_SECONDS 5       /* for that word; then the call is carried out without the helper */
#define START_MILLISECONDS 3000 /* for a helper that another call is starting */
#define INITIAL_USER_NAMESPACE 0xEFFFFFFDu /* PROC_USER_INIT_INO, include/linux/proc_ns.h */

extern char **environ;

static char *input;
static size_t input_length;
static char version[16] = "0.1.0";

/* Prints the error object of the specification and leaves. `message` and `why` hold no quote or backslash. */
static void fail(int code, const char *message, const char *why) __attribute__((noreturn));
static void fail(int code, const char *message, const char *why) {
    printf("{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"%s\",\"details\":\"%s\"}\n", version, code, message, why);
    fflush(stdout);
    _exit(1);
}

static void read_input(void) {
    size_t room = 0;
    for (;;) {
        if (input_length == room) {
            room = room ? room * 2 : 16384;
            if (room > 2 * (size_t)MAX_STDIN || !(input = realloc(input, room + 1)))
                fail(6, "network configuration is larger than 8 MiB", "");
        }
        ssize_t got = read(STDIN_FILENO, input + input_length, room - input_length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        input_length += (size_t)got;
        if (input_length > MAX_STDIN)
            fail(6, "network configuration is larger than 8 MiB", "");
    }
    input[input_length] = 0;
}

/* The value of "cniVersion", if it is made of digits and dots; only to shape the answers made here. */
static int find_version(void) {
    char *at = memmem(input, input_length, "\"cniVersion\"", 12);
    if (!at)
        return 0;
    at += 12 + strspn(at + 12, " \t\r\n");
    if (*at != ':')
        return 0;
    at += 1 + strspn(at + 1, " \t\r\n");
    size_t length = *at == '"' ? strspn(at + 1, "0123456789.") : 0;
    if (!length || length >= sizeof version || at[1 + length] != '"')
        return 0;
    memcpy(version, at + 1, length);
    version[length] = 0;
    return 1;
}

static int write_all(int fd, const char *data, size_t length) {
    while (length) {
        ssize_t put = send(fd, data, length, MSG_NOSIGNAL);
        if (put < 0 && errno == ENOTSOCK)
            put = write(fd, data, length);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return -1;
        data += put;
        length -= (size_t)put;
    }
    return 0;
}

/* Whether a variable goes with the call: those of CNI, the trace context, and PATH where plugins are executed. */
static int goes_along(const char *variable, int with_path) {
    return !strncmp(variable, "CNI_", 4) || !strncmp(variable, "TRACE", 5) ||
           (with_path && !strncmp(variable, "PATH=", 5));
}

/* The request frame: header, the variables, standard input. */
static char *build_frame(int netns_errno, size_t *length, int with_path) {
    char plugin[64];
    size_t block = (size_t)snprintf(plugin, sizeof plugin, "L3NET_PLUGIN=%.32s", program_invocation_short_name) + 1;
    for (char **each = environ; *each; each++)
        if (goes_along(*each, with_path))
            block += strlen(*each) + 1;
    if (block > MAX_ENVIRONMENT)
        fail(4, "the environment is too large", "");
    char *frame = malloc(16 + block + input_length), *at = frame + 16;
    if (!frame)
        fail(11, "out of memory", "");
    uint32_t header[4] = {MAGIC, (uint32_t)block, (uint32_t)input_length, (uint32_t)netns_errno};
    memcpy(frame, header, 16);
    at = stpcpy(at, plugin) + 1;
    for (char **each = environ; *each; each++)
        if (goes_along(*each, with_path))
            at = stpcpy(at, *each) + 1;
    memcpy(at, input, input_length);
    *length = 16 + block + input_length;
    return frame;
}

/* A connection to a Unix socket, or -1 with errno. */
static int dial(const char *path, time_t patience) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strcpy(name.sun_path, path); /* its length is checked by the callers */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = {.tv_sec = patience};
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0 ||
        connect(fd, (struct sockaddr *)&name, sizeof name) < 0) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

/* Sends the frame, with the descriptor if there is one. */
static int send_call(int fd, const char *frame, size_t length, int netns) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {{0}};
    struct iovec part = {(void *)frame, length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (netns >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control.space;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        memcpy(CMSG_DATA(&control.header), &netns, sizeof netns);
    }
    ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    return sent < 0 ? -1 : write_all(fd, frame + sent, length - (size_t)sent);
}

/* Reads so many octets within so many seconds (0: for ever). Returns -1 with errno. */
static int take(int fd, void *into, size_t length, time_t seconds) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    time_t deadline = now.tv_sec + seconds;
    for (size_t got = 0; got < length;) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        int left = now.tv_sec < deadline ? (int)(deadline - now.tv_sec) * 1000 : 0;
        if (poll(&ready, 1, seconds ? left : -1) == 0) {
            errno = ETIMEDOUT;
            return -1;
        }
        ssize_t more = recv(fd, (char *)into + got, length - got, 0);
        if (more < 0 && errno == EINTR)
            continue;
        if (more <= 0) {
            errno = more ? errno : ECONNRESET;
            return -1;
        }
        got += (size_t)more;
    }
    return 0;
}

/* Reads an answer. Returns the exit code, or -1 with errno. */
static int take_answer(int fd, char **answer, uint32_t *size, time_t seconds) {
    uint32_t header[3];
    if (take(fd, header, sizeof header, seconds) < 0)
        return -1;
    if (header[0] != MAGIC || !(*answer = malloc((size_t)header[2] + 1))) {
        errno = EPROTO;
        return -1;
    }
    *size = header[2];
    return take(fd, *answer, *size, seconds) < 0 ? -1 : (int)header[1];
}

/* Gives the call to the agent. Returns the exit code, or -1 with errno. */
static int converse(const char *frame, size_t length, int netns, char **answer, uint32_t *size) {
    const char *path = getenv("L3NET_CNI_SOCKET");
    if (!path || !*path)
        path = SOCKET_PATH;
    if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path)
        fail(4, "L3NET_CNI_SOCKET is too long", "");
    int fd = dial(path, 10);
    if (fd < 0)
        return -1;
    int code = send_call(fd, frame, length, netns) < 0 ? -1 : take_answer(fd, answer, size, ANSWER_SECONDS);
    int why = errno;
    close(fd);
    errno = why;
    return code;
}

/* Writes the call to the spool so that it outlives a power cut: temp, fsync, rename, fsync of the directory. */
static int spool(const char *frame, size_t length) {
    const char *directory = getenv("L3NET_CNI_SPOOL");
    char temp[PATH_MAX], final[PATH_MAX];
    struct timespec now;
    if (!directory || !*directory)
        directory = SPOOL_DIR;
    char boot[37] = "";
    int id = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (id < 0 || read(id, boot, 36) != 36)
        return -1;
    close(id);
    clock_gettime(CLOCK_BOOTTIME, &now); /* the agent leaves a lease younger than the call alone */
    if (snprintf(temp, sizeof temp, "%s/.%d", directory, (int)getpid()) >= (int)sizeof temp ||
        snprintf(final, sizeof final, "%s/%s.%019lld.%d.del", directory, boot,
                 (long long)now.tv_sec * 1000000000 + now.tv_nsec, (int)getpid()) >= (int)sizeof final)
        return -1;
    if (mkdir(directory, 0700) < 0 && errno != EEXIST)
        return -1;
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -1;
    if (write_all(fd, frame, length) < 0 || fsync(fd) < 0 || rename(temp, final) < 0) {
        int why = errno;
        unlink(temp);
        errno = why;
        return -1;
    }
    close(fd);
    fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -1 : fsync(fd);
}

/* CNI_NETNS, open, or -1 with errno; -1 and 0 where there is none. */
static int open_netns(void) {
    const char *path = getenv("CNI_NETNS");
    errno = 0;
    return path && *path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
}

/* Seconds without a call after which a helper ends; 0: none is wanted. */
static long helper_idle(void) {
    const char *given = getenv("L3NET_CNI_HELPER_IDLE");
    if (given && *given)
        return strtol(given, NULL, 10);
    char *at = memmem(input, input_length, "\"helperIdle\"", 12);
    if (!at)
        return 1;
    at += 12 + strspn(at + 12, " \t\r\n");
    return *at == ':' ? (long)strtod(at + 1 + strspn(at + 1, " \t\r\n"), NULL) : 1;
}

/* Whether a namespace of this process is its parent's, too; its number. */
static int shares(const char *kind, ino_t *number) {
    char path[64];
    struct stat own, parents;
    snprintf(path, sizeof path, "/proc/self/ns/%s", kind);
    if (stat(path, &own) < 0)
        return 0;
    snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)getppid(), kind);
    *number = own.st_ino;
    return stat(path, &parents) == 0 && own.st_ino == parents.st_ino && own.st_dev == parents.st_dev;
}

/* Writes the name that callers find each other's helper by: the same namespaces and root, program, and store
 * where the configuration names none. 0 where there is to be none: a namespace that is not the runtime's own goes
 * with the call, and a helper would hold on to it; in a user namespace of its own root is somebody else. */
static int helper_name(const char *program, char *name, size_t size) {
    ino_t net, mount, user;
    struct stat found, root;
    char told[2 * PATH_MAX];
    const char *state = getenv("L3NET_CNI_STATE");
    if (geteuid() || getuid() || !shares("net", &net) || !shares("mnt", &mount) || !shares("user", &user) ||
        user != INITIAL_USER_NAMESPACE || stat("/", &root) < 0 || stat(program, &found) < 0 ||
        (state && *state && *state != '/'))
        return 0;
    int length = snprintf(told, sizeof told, "%lu %lu:%lu %lu:%lu %ld.%09ld %s %s", (unsigned long)mount,
                          (unsigned long)root.st_dev, (unsigned long)root.st_ino, (unsigned long)found.st_dev,
                          (unsigned long)found.st_ino, (long)found.st_mtim.tv_sec, found.st_mtim.tv_nsec, program,
                          state ? state : "");
    if (length < 0 || length >= (int)sizeof told)
        return 0;
    uint64_t digest = 0xcbf29ce484222325u; /* FNV-1a: told apart, not kept secret */
    for (int at = 0; at < length; at++)
        digest = (digest ^ (unsigned char)told[at]) * 0x100000001b3u;
    snprintf(name, size, "%lu-%016llx", (unsigned long)net, (unsigned long long)digest);
    return 1;
}

/* The directory of the helpers' sockets, made where it is missing; -1 unless it is root's alone. All above it is
 * root's, so that nobody else can put another in its place. */
static int helpers_directory(void) {
    const char *path = getenv("L3NET_CNI_HELPERS");
    char parent[PATH_MAX];
    struct stat found;
    if (!path || !*path)
        path = HELPERS_DIR;
    if (*path != '/' || strlen(path) >= sizeof parent)
        return -1;
    int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, fd = open(path, flags);
    if (fd < 0 && errno == ENOENT) {
        strcpy(parent, path);
        *strrchr(parent, '/') = 0;
        if ((*parent && mkdir(parent, 0700) < 0 && errno != EEXIST) || (mkdir(path, 0700) < 0 && errno != EEXIST))
            return -1;
        fd = open(path, flags);
    }
    if (fd >= 0 && (fstat(fd, &found) < 0 || found.st_uid != geteuid() || found.st_mode & 077)) {
        close(fd);
        return -1;
    }
    return fd;
}

enum { ABSENT = -1, REFUSED = -2, DIED = -3 };

/* Gives the call to the helper. Returns the exit code; ABSENT and REFUSED: it has not begun; DIED: it had. */
static int ask_helper(const char *path, const char *frame, size_t length, int netns, char **answer, uint32_t *size) {
    struct ucred peer;
    socklen_t room = sizeof peer;
    uint32_t word = 0;
    int fd = dial(path, BEGIN_SECONDS), code = ABSENT;
    if (fd < 0)
        return ABSENT;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &room) < 0 || peer.uid != geteuid()) {
        code = REFUSED;
    } else if (send_call(fd, frame, length, netns) == 0) {
        if (take(fd, &word, sizeof word, BEGIN_SECONDS) < 0) {
            if (errno == ETIMEDOUT)
                code = REFUSED;
            shutdown(fd, SHUT_RDWR); /* from here on it cannot say that it begins */
            if (recv(fd, &word, sizeof word, MSG_DONTWAIT) == sizeof word && word == BEGUN)
                code = DIED;
        } else if (word != BEGUN) {
            code = REFUSED;
        } else if ((code = take_answer(fd, answer, size, 0)) < 0) {
            code = DIED;
        }
    }
    close(fd);
    return code;
}

/* Has a helper carry out the call and leaves; returns where it is to be done without one. If there is no helper,
 * and nobody starts one, the standalone plugin is told to (L3NET_CNI_HELPER_START). */
static void by_helper(const char *program, const char *command) {
    char name[64], path[128], file[80];
    unsetenv("L3NET_CNI_HELPER_START");
    if (helper_idle() == 0 || !helper_name(program, name, sizeof name))
        return;
    int directory = helpers_directory();
    if (directory < 0)
        return;
    size_t length;
    uint32_t size = 0;
    int netns = open_netns();
    char *answer = NULL, *frame = build_frame(netns < 0 ? errno : 0, &length, 1);
    snprintf(path, sizeof path, "/proc/self/fd/%d/%s.sock", directory, name);
    snprintf(file, sizeof file, "%s.pid", name);
    for (int waited = 0;; waited += 5) {
        int code = ask_helper(path, frame, length, netns, &answer, &size);
        if (code >= 0)
            _exit(write(STDOUT_FILENO, answer, size) == (ssize_t)size ? code : 1);
        if (code == DIED && !strcmp(command, "ADD")) /* what it has made goes with the DEL that follows */
            fail(11, "the helper of the plugin ended amid the call", "");
        if (code != ABSENT || waited > START_MILLISECONDS)
            break;
        int lock = openat(directory, file, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (lock < 0)
            break;
        if (flock(lock, LOCK_EX | LOCK_NB) == 0) { /* the helper holds it as long as it lives */
            if (lock <= STDERR_FILENO || directory <= STDERR_FILENO)
                break; /* called without standard streams: their numbers will be taken */
            struct stat held;
            if (fstat(lock, &held) < 0 || !held.st_nlink) { /* of one that has ended meanwhile, and took it away */
                close(lock);
                continue;
            }
            char start[128];
            snprintf(start, sizeof start, "%d %d %s", lock, directory, name);
            fcntl(lock, F_SETFD, 0);
            fcntl(directory, F_SETFD, 0);
            setenv("L3NET_CNI_HELPER_START", start, 1);
            break;
        }
        close(lock);
        nanosleep(&(struct timespec){.tv_nsec = 5 * 1000 * 1000}, NULL);
    }
    if (netns >= 0)
        close(netns);
    free(frame);
}

/* Replaces this process by the standalone plugin, with standard input rewound; returns if there is none. */
static void become_standalone(const char *command) {
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 32);
    if (length <= 0)
        return;
    path[length] = 0;
    char *slash = strrchr(path, '/');
    strcpy(slash ? slash + 1 : path, "l3net-standalone");
    if (access(path, X_OK) < 0)
        return;
    by_helper(path, command);
    int fd = memfd_create("stdin", 0);
    if (fd < 0 || write_all(fd, input, input_length) < 0 || lseek(fd, 0, SEEK_SET) < 0 || dup2(fd, 0) < 0)
        fail(11, "cannot hand over standard input", strerror(errno));
    if (fd > 0)
        close(fd);
    setenv("L3NET_PLUGIN", program_invocation_short_name, 1);
    execl(path, path, (char *)NULL);
    fail(5, "cannot execute l3net-standalone", strerror(errno));
}

/* Milliseconds that STATUS waits for an agent that does not answer. */
static long status_wait(void) {
    const char *given = getenv("L3NET_CNI_STATUS_WAIT");
    return 1000 * (given && *given ? strtol(given, NULL, 10) : STATUS_WAIT);
}

int main(void) {
    const char *command = getenv("CNI_COMMAND");
    if (!command || !*command) {
        fprintf(stderr, "l3net-cni: CNI plugin of l3net, CNI 0.1.0 to 1.1.0; container runtimes execute it\n");
        return 0;
    }
    read_input();
    int versioned = find_version();
    if (!strcmp(command, "VERSION")) {
        printf("{\"cniVersion\":\"%s\",\"supportedVersions\":[\"0.1.0\",\"0.2.0\",\"0.3.0\",\"0.3.1\","
               "\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n", versioned ? version : "1.1.0");
        return fflush(stdout) ? 1 : 0;
    }
    size_t first = strspn(input, " \t\r\n"), last = input_length;
    while (last > first && strchr(" \t\r\n", input[last - 1]))
        last--;
    if (last - first < 2 || input[first] != '{' || input[last - 1] != '}')
        fail(6, "network configuration is not a JSON object", "");
    int for_ipam = !strcmp(program_invocation_short_name, "l3net-ipam");
    if (for_ipam ? memmem(input, input_length, "\"subnet\"", 8) != NULL
                 : memmem(input, input_length, "\"ipam\"", 6) != NULL)
        become_standalone(command);
    int netns = open_netns();
    size_t length;
    char *answer = NULL, *frame = build_frame(netns < 0 ? errno : 0, &length, 0);
    uint32_t size = 0;
    int code = converse(frame, length, netns, &answer, &size);
    /* An agent that is restarted is back in seconds; one failed STATUS makes a node, and its pods, not ready. */
    for (long left = !strcmp(command, "STATUS") ? status_wait() : 0; code < 0 && left > 0; left -= 100) {
        nanosleep(&(struct timespec){.tv_nsec = 100 * 1000 * 1000}, NULL);
        code = converse(frame, length, netns, &answer, &size);
    }
    if (code >= 0)
        return write(STDOUT_FILENO, answer, size) == (ssize_t)size ? code : 1;
    const char *why = strerror(errno);
    if (!strcmp(command, "DEL")) {
        if (spool(frame, length) == 0)
            return 0;
        fail(11, "the agent does not answer and the call cannot be spooled", strerror(errno));
    }
    fail(!strcmp(command, "STATUS") ? 50 : 11, "the l3net agent does not answer; is it running?", why);
}
