/* Stands between the server and the kernel, for files below one folder: makes calls fail, slow or deadly as a
 * test says, and writes down what was written and what was made to last (see shim.py, which says what the words
 * below mean). Loaded with LD_PRELOAD. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { AOF = 1, SIDE_LOG = 2, MANIFEST = 4, SLOT_MAP = 8, FOLDER = 16 };

struct rules {
    int64_t kinds, write_errno, room, sync_errno, sync_delay_us, calls, dies_at, failed, torn_percent;
};

enum { FDS = 4096 };

static struct rules *rules;
static const char *folder, *graves;
static int trace = -1;
static unsigned char kind_of[FDS];

__attribute__((constructor)) static void begin(void) {
    folder = getenv("SHIM_FOLDER") ? strdup(getenv("SHIM_FOLDER")) : NULL; /* titles of processes are written over it */
    graves = getenv("SHIM_GRAVES") ? strdup(getenv("SHIM_GRAVES")) : NULL;
    const char *path = getenv("SHIM_RULES");
    if (!folder || !path) return;
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    void *at = mmap(NULL, sizeof *rules, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (at == MAP_FAILED) abort();
    rules = at;
    path = getenv("SHIM_TRACE");
    if (path) trace = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CLOEXEC);
}

static int kind(const char *path) {
    if (!rules || strncmp(path, folder, strlen(folder)) || strstr(path, ".lock")) return 0;
    if (strstr(path, ".manifest")) return MANIFEST;
    if (strstr(path, ".aof")) return AOF;
    if (strstr(path, "/prepared.")) return SIDE_LOG;
    if (strstr(path, "slots.json")) return SLOT_MAP;
    return FOLDER;
}

static int kind_at(int fd) { return rules && fd >= 0 && fd < FDS ? kind_of[fd] : 0; }

static int meant(int kind) { return kind & rules->kinds; }

static void note(const char *format, ...) {
    if (trace < 0) return;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    char line[4096];
    int size = snprintf(line, sizeof line, "%lld ", (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000);
    va_list words;
    va_start(words, format);
    size += vsnprintf(line + size, sizeof line - size, format, words);
    va_end(words);
    line[size++] = '\n';
    syscall(SYS_write, trace, line, size);
}

static struct stat status(int fd) {
    struct stat found = {0};
    fstat(fd, &found);
    return found;
}

/* Whether the process is to die at this call. */
static int deadly(int kind) {
    return meant(kind) && __atomic_add_fetch(&rules->calls, 1, __ATOMIC_SEQ_CST) == rules->dies_at;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static int fail(int error) {
    __atomic_add_fetch(&rules->failed, 1, __ATOMIC_SEQ_CST);
    errno = error;
    return -1;
}

static int opened(const char *path, int flags, mode_t mode) {
    int kind_here = kind(path), made = 0;
    if (kind_here && flags & O_CREAT) {
        if (deadly(kind_here)) die();
        if (meant(kind_here) && !rules->room) return fail(ENOSPC);
        made = access(path, F_OK) != 0;
    }
    int fd = syscall(SYS_openat, AT_FDCWD, path, flags | O_LARGEFILE, mode);
    if (fd < 0 || fd >= FDS) return fd;
    kind_of[fd] = kind_here;
    if (kind_here && flags & O_CREAT) {
        struct stat found = status(fd);
        if (made && graves) {
            char grave[4096];
            snprintf(grave, sizeof grave, "%s/%llu", graves, (unsigned long long)found.st_ino);
            unlink(grave);
            if (link(path, grave)) abort();
            note("made %s %llu", path, (unsigned long long)found.st_ino);
        } else if (flags & O_TRUNC) {
            note("size %llu 0", (unsigned long long)found.st_ino);
        }
    }
    return fd;
}

#define OPEN(name)                                      \
    int name(const char *path, int flags, ...) {        \
        va_list words;                                  \
        va_start(words, flags);                         \
        mode_t mode = flags & O_CREAT ? va_arg(words, mode_t) : 0; \
        va_end(words);                                  \
        return opened(path, flags, mode);               \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    if (fd >= 0 && fd < FDS) kind_of[fd] = 0;
    return syscall(SYS_close, fd);
}

ssize_t writev(int fd, const struct iovec *buffers, int count) {
    int kind = kind_at(fd);
    if (!kind) return syscall(SYS_writev, fd, buffers, count);
    size_t size = 0;
    for (int i = 0; i < count; i++) size += buffers[i].iov_len;
    char *data = malloc(size + 1), *end = data;
    for (int i = 0; i < count; i++) end = mempcpy(end, buffers[i].iov_base, buffers[i].iov_len);
    int last = deadly(kind);
    if (last) size = size * rules->torn_percent / 100;
    ssize_t written;
    if (meant(kind) && rules->write_errno) {
        written = fail(rules->write_errno);
    } else if (meant(kind) && rules->room == 0 && size) {
        written = fail(ENOSPC);
    } else {
        if (meant(kind) && rules->room > 0) {
            if ((int64_t)size > rules->room) size = rules->room;
            rules->room -= size;
        }
        written = syscall(SYS_write, fd, data, size);
    }
    free(data);
    if (last) die();
    if (written > 0) {
        struct stat found = status(fd);
        note("size %llu %llu", (unsigned long long)found.st_ino, (unsigned long long)found.st_size);
    }
    return written;
}

ssize_t write(int fd, const void *data, size_t size) {
    if (!kind_at(fd)) return syscall(SYS_write, fd, data, size);
    struct iovec buffer = {(void *)data, size};
    return writev(fd, &buffer, 1);
}

int ftruncate(int fd, off_t size) {
    int kind = kind_at(fd);
    if (kind && deadly(kind)) die();
    int result = syscall(SYS_ftruncate, fd, size);
    if (kind && !result) note("size %llu %llu", (unsigned long long)status(fd).st_ino, (unsigned long long)size);
    return result;
}

int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

static int synced(int fd, int number) {
    int kind = kind_at(fd);
    if (!kind) return syscall(number, fd);
    if (deadly(kind)) die();
    if (meant(kind) && rules->sync_delay_us) usleep(rules->sync_delay_us);
    if (meant(kind) && rules->sync_errno) return fail(rules->sync_errno);
    struct stat before = status(fd);
    int result = syscall(number, fd);
    if (result) return result;
    if (S_ISDIR(before.st_mode)) {
        char link[64], path[4096];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t size = readlink(link, path, sizeof path - 1);
        if (size < 0) abort();
        path[size] = 0;
        note("folder-lasts %s", path);
    } else {
        note("lasts %llu %llu", (unsigned long long)before.st_ino, (unsigned long long)before.st_size);
    }
    return result;
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

int rename(const char *old, const char *new) {
    int kind_here = kind(new);
    if (kind_here && deadly(kind_here)) die();
    int result = syscall(SYS_rename, old, new);
    if (kind_here && !result) note("renamed %s %s", old, new);
    return result;
}

int unlink(const char *path) {
    int kind_here = kind(path);
    if (kind_here && deadly(kind_here)) die();
    int result = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (kind_here && !result) note("removed %s", path);
    return result;
}

int mkdir(const char *path, mode_t mode) {
    int kind_here = kind(path);
    int result = syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    if (kind_here && !result) note("folder %s", path);
    return result;
}
