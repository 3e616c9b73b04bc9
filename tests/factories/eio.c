/* Fails one read, write or fsync of regular files below a folder with EIO: the UMEDFEAT_EIO_NTH-th of UMEDFEAT_EIO_CALL
   on a path that holds UMEDFEAT_EIO_PATH. With UMEDFEAT_EIO_FULL that call and every later one fails with ENOSPC. Leaves
   the file UMEDFEAT_EIO_MARK when it does. Preloaded before libc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int count;

static int fails(const char *call, int fd) {
    const char *wanted = getenv("UMEDFEAT_EIO_CALL"), *part = getenv("UMEDFEAT_EIO_PATH"), *nth = getenv("UMEDFEAT_EIO_NTH");
    const char *full = getenv("UMEDFEAT_EIO_FULL"), *mark = getenv("UMEDFEAT_EIO_MARK");
    int number, descriptor;
    char link[64], path[4096];
    ssize_t length;
    if (!wanted || !part || !nth || strcmp(wanted, call)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    if (!strstr(path, part)) return 0;
    number = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
    if (full ? number < atoi(nth) : number != atoi(nth)) return 0;
    descriptor = mark ? open(mark, O_CREAT | O_WRONLY | O_CLOEXEC, 0600) : -1;
    if (descriptor >= 0) close(descriptor);
    errno = full ? ENOSPC : EIO;
    return 1;
}

ssize_t read(int fd, void *to, size_t size) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    return fails("read", fd) ? -1 : real(fd, to, size);
}

ssize_t pread(int fd, void *to, size_t size, off_t at) {
    static ssize_t (*real)(int, void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pread");
    return fails("read", fd) ? -1 : real(fd, to, size, at);
}

ssize_t pread64(int fd, void *to, size_t size, off64_t at) {
    static ssize_t (*real)(int, void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pread64");
    return fails("read", fd) ? -1 : real(fd, to, size, at);
}

ssize_t preadv64(int fd, const struct iovec *to, int parts, off64_t at) {
    static ssize_t (*real)(int, const struct iovec *, int, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "preadv64");
    return fails("read", fd) ? -1 : real(fd, to, parts, at);
}

ssize_t write(int fd, const void *from, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    return fails("write", fd) ? -1 : real(fd, from, size);
}

ssize_t pwrite(int fd, const void *from, size_t size, off_t at) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite");
    return fails("write", fd) ? -1 : real(fd, from, size, at);
}

ssize_t pwrite64(int fd, const void *from, size_t size, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    return fails("write", fd) ? -1 : real(fd, from, size, at);
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    return fails("fsync", fd) ? -1 : real(fd);
}
