/* Fails one read, write or fsync of regular files below a folder with EIO: the UMEDFEAT_EIO_NTH-th of UMEDFEAT_EIO_CALL
   on a path that holds UMEDFEAT_EIO_PATH. Preloaded before libc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int count;

static int fails(const char *call, int fd) {
    const char *wanted = getenv("UMEDFEAT_EIO_CALL"), *part = getenv("UMEDFEAT_EIO_PATH"), *nth = getenv("UMEDFEAT_EIO_NTH");
    char link[64], path[4096];
    ssize_t length;
    if (!wanted || !part || !nth || strcmp(wanted, call)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    if (!strstr(path, part)) return 0;
    return __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST) == atoi(nth);
}

ssize_t read(int fd, void *to, size_t size) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    if (fails("read", fd)) { errno = EIO; return -1; }
    return real(fd, to, size);
}

ssize_t write(int fd, const void *from, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    if (fails("write", fd)) { errno = EIO; return -1; }
    return real(fd, from, size);
}

ssize_t pwrite(int fd, const void *from, size_t size, off_t at) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite");
    if (fails("write", fd)) { errno = EIO; return -1; }
    return real(fd, from, size, at);
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    if (fails("fsync", fd)) { errno = EIO; return -1; }
    return real(fd);
}
