/* Records or fails the system calls of a process on files at or below one folder; loaded with LD_PRELOAD.

Python controls it with ctypes: `watch` starts, `fail` makes calls of some kinds fail, `mark` writes a marker into the
log, `unwatch` stops. See helpers/system_calls.py for the names of kinds and helpers/power_loss.py for the log. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { OPEN_READ, OPEN_WRITE, READ, WRITE, SYNC, TRUNCATE, RENAME, REMOVE, MKDIR, LINK, LOCK, STAT, LIST, MAP, KINDS };

#define CLONE 0x40049409 /* FICLONE of linux/fs.h */

static char root[PATH_MAX];
static size_t root_size;
static int log_fd = -1;
static int watching;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static __thread int inside; /* a call of this file's own code: neither recorded nor failed */

static unsigned failing; /* bits of the kinds that fail */
static int failing_with;
static long first_failing, last_failing, seen, failed;
static long counts[KINDS];

/* ---- control ---- */

void watch(const char *folder, const char *log)
{
    snprintf(root, sizeof root, "%s", folder);
    root_size = strlen(root);
    memset(counts, 0, sizeof counts);
    failing = 0;
    seen = failed = 0;
    log_fd = log ? (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644) : -1;
    watching = 1;
}

void fail(unsigned kinds, int number, long first, long last)
{
    failing = kinds;
    failing_with = number;
    first_failing = first;
    last_failing = last;
    seen = failed = 0;
}

void unwatch(void)
{
    watching = 0;
    failing = 0;
    if (log_fd >= 0)
        syscall(SYS_close, log_fd);
    log_fd = -1;
}

long calls_of(int kind) { return counts[kind]; }

long failures(void) { return failed; }

/* ---- the log ---- */

static void record(char op, const char *path, const char *other, uint64_t offset, const struct iovec *parts, int n_parts,
                   uint64_t size)
{
    if (log_fd < 0)
        return;
    uint32_t path_size = path ? strlen(path) : 0, other_size = other ? strlen(other) : 0;
    uint64_t data_size = 0;
    for (int n = 0; n < n_parts; n++)
        data_size += parts[n].iov_len;
    size_t total = 1 + 4 + 4 + 8 + 8 + 8 + path_size + other_size + data_size;
    char *text = malloc(total), *at = text;
#define PUT(from, bytes) (memcpy(at, from, bytes), at += (bytes))
    PUT(&op, 1);
    PUT(&path_size, 4);
    PUT(&other_size, 4);
    PUT(&offset, 8);
    PUT(&size, 8);
    PUT(&data_size, 8);
    PUT(path, path_size);
    PUT(other, other_size);
    for (int n = 0; n < n_parts; n++)
        PUT(parts[n].iov_base, parts[n].iov_len);
    for (size_t done = 0; done < total;) {
        long written = syscall(SYS_write, log_fd, text + done, total - done);
        if (written <= 0)
            abort();
        done += written;
    }
    free(text);
}

void mark(const char *text, size_t size)
{
    struct iovec part = {(void *)text, size};
    pthread_mutex_lock(&mutex);
    record('M', "", "", 0, &part, 1, 0);
    pthread_mutex_unlock(&mutex);
}

/* ---- which calls concern the folder ---- */

static int is_below(const char *path)
{
    return !strncmp(path, root, root_size) && (path[root_size] == '/' || !path[root_size]);
}

static int path_of_fd(int fd, char *out)
{
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    long size = syscall(SYS_readlinkat, AT_FDCWD, name, out, PATH_MAX - 1);
    out[size < 0 ? 0 : size] = 0;
    return size > 0;
}

static int is_watched_fd(int fd, char *out) { return watching && !inside && fd > 2 && path_of_fd(fd, out) && is_below(out); }

static int is_watched(int folder, const char *path, char *out)
{
    if (!watching || inside || !path)
        return 0;
    if (path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
    } else {
        char base[PATH_MAX];
        if (folder == AT_FDCWD ? syscall(SYS_getcwd, base, sizeof base) < 0 : !path_of_fd(folder, base))
            return 0;
        snprintf(out, PATH_MAX, "%s/%s", base, path);
    }
    return is_below(out);
}

/* Count a call, with the mutex held; returns whether it is to fail, and sets errno then. */
static int fails(enum kind kind)
{
    counts[kind]++;
    if (!(failing & (1u << kind)))
        return 0;
    seen++;
    if (seen < first_failing || seen > last_failing)
        return 0;
    failed++;
    errno = failing_with;
    return 1;
}

#define REAL(result, name, ...)                                                                                        \
    static result (*real)(__VA_ARGS__);                                                                                \
    if (!real)                                                                                                         \
        real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

/* Run `call` and then `then` if it succeeded, as one step; `failed` is what the function returns on failure. */
#define STEP(watched, kind, failed_value, call, succeeded, then)                                                       \
    if (!(watched))                                                                                                    \
        return call;                                                                                                   \
    pthread_mutex_lock(&mutex);                                                                                        \
    if (fails(kind)) {                                                                                                 \
        pthread_mutex_unlock(&mutex);                                                                                  \
        return failed_value;                                                                                           \
    }                                                                                                                  \
    inside = 1;                                                                                                        \
    __typeof__(call) done = call;                                                                                      \
    int kept = errno;                                                                                                  \
    if (succeeded) {                                                                                                   \
        then;                                                                                                          \
    }                                                                                                                  \
    inside = 0;                                                                                                        \
    pthread_mutex_unlock(&mutex);                                                                                      \
    errno = kept;                                                                                                      \
    return done

/* ---- files ---- */

static void written(int fd, const char *path, const struct iovec *parts, int n_parts, ssize_t size, off64_t offset)
{
    if (offset < 0)
        offset = lseek64(fd, 0, SEEK_CUR) - size;
    struct iovec *taken = malloc(n_parts * sizeof *taken);
    int n = 0;
    for (ssize_t left = size; left > 0 && n < n_parts; n++) {
        taken[n] = parts[n];
        if ((ssize_t)taken[n].iov_len > left)
            taken[n].iov_len = left;
        left -= taken[n].iov_len;
    }
    record('w', path, "", offset, taken, n, size);
    free(taken);
}

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    char path[PATH_MAX];
    struct iovec part = {(void *)data, size};
    STEP(is_watched_fd(fd, path), WRITE, -1, real(fd, data, size), done >= 0, written(fd, path, &part, 1, done, -1));
}

ssize_t writev(int fd, const struct iovec *parts, int n_parts)
{
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    char path[PATH_MAX];
    STEP(is_watched_fd(fd, path), WRITE, -1, real(fd, parts, n_parts), done >= 0, written(fd, path, parts, n_parts, done, -1));
}

#define PWRITE(name, offset_type)                                                                                      \
    ssize_t name(int fd, const void *data, size_t size, offset_type offset)                                            \
    {                                                                                                                  \
        REAL(ssize_t, #name, int, const void *, size_t, offset_type);                                                  \
        char path[PATH_MAX];                                                                                           \
        struct iovec part = {(void *)data, size};                                                                      \
        STEP(is_watched_fd(fd, path), WRITE, -1, real(fd, data, size, offset), done >= 0,                              \
             written(fd, path, &part, 1, done, offset));                                                               \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t read(int fd, void *data, size_t size)
{
    REAL(ssize_t, "read", int, void *, size_t);
    char path[PATH_MAX];
    STEP(is_watched_fd(fd, path), READ, -1, real(fd, data, size), 0, );
}

#define PREAD(name, offset_type)                                                                                       \
    ssize_t name(int fd, void *data, size_t size, offset_type offset)                                                  \
    {                                                                                                                  \
        REAL(ssize_t, #name, int, void *, size_t, offset_type);                                                        \
        char path[PATH_MAX];                                                                                           \
        STEP(is_watched_fd(fd, path), READ, -1, real(fd, data, size, offset), 0, );                                    \
    }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

static int synced(int fd, const char *path)
{
    struct stat status;
    record(fstat(fd, &status) == 0 && S_ISDIR(status.st_mode) ? 'd' : 's', path, "", 0, NULL, 0, 0);
    return 0;
}

#define FSYNC(name)                                                                                                    \
    int name(int fd)                                                                                                   \
    {                                                                                                                  \
        REAL(int, #name, int);                                                                                         \
        char path[PATH_MAX];                                                                                           \
        STEP(is_watched_fd(fd, path), SYNC, -1, real(fd), done == 0, synced(fd, path));                                \
    }
FSYNC(fsync)
FSYNC(fdatasync)

#define FTRUNCATE(name, offset_type)                                                                                   \
    int name(int fd, offset_type size)                                                                                 \
    {                                                                                                                  \
        REAL(int, #name, int, offset_type);                                                                            \
        char path[PATH_MAX];                                                                                           \
        STEP(is_watched_fd(fd, path), TRUNCATE, -1, real(fd, size), done == 0, record('t', path, "", size, NULL, 0, 0)); \
    }
FTRUNCATE(ftruncate, off_t)
FTRUNCATE(ftruncate64, off64_t)

#define FALLOCATE(name, offset_type)                                                                                   \
    int name(int fd, int mode, offset_type offset, offset_type size)                                                   \
    {                                                                                                                  \
        REAL(int, #name, int, int, offset_type, offset_type);                                                          \
        char path[PATH_MAX];                                                                                           \
        STEP(is_watched_fd(fd, path), TRUNCATE, -1, real(fd, mode, offset, size), done == 0,                           \
             record(mode & FALLOC_FL_PUNCH_HOLE ? 'z' : 'g', path, "", offset, NULL, 0, size));                        \
    }
FALLOCATE(fallocate, off_t)
FALLOCATE(fallocate64, off64_t)

/* Copies within the kernel are refused, so that the callers write the bytes themselves. */
int ioctl(int fd, unsigned long request, ...)
{
    REAL(int, "ioctl", int, unsigned long, ...);
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    char path[PATH_MAX];
    if (request == CLONE && is_watched_fd(fd, path)) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return real(fd, request, argument);
}

#define SENDFILE(name, offset_type)                                                                                    \
    ssize_t name(int out, int in, offset_type *offset, size_t size)                                                    \
    {                                                                                                                  \
        REAL(ssize_t, #name, int, int, offset_type *, size_t);                                                         \
        char path[PATH_MAX];                                                                                           \
        if (is_watched_fd(out, path)) {                                                                                \
            errno = EINVAL;                                                                                            \
            return -1;                                                                                                 \
        }                                                                                                              \
        return real(out, in, offset, size);                                                                            \
    }
SENDFILE(sendfile, off_t)
SENDFILE(sendfile64, off64_t)

ssize_t copy_file_range(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t size, unsigned flags)
{
    REAL(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
    char path[PATH_MAX];
    if (is_watched_fd(out, path)) {
        errno = ENOSYS;
        return -1;
    }
    return real(in, in_offset, out, out_offset, size, flags);
}

#define OPEN_TAIL(call)                                                                                                \
    char path[PATH_MAX];                                                                                               \
    int is_ours = is_watched(folder, name, path);                                                                      \
    struct stat before;                                                                                                \
    int is_new = is_ours && (flags & O_CREAT) && syscall(SYS_newfstatat, AT_FDCWD, path, &before, 0) < 0;              \
    int is_cut = is_ours && !is_new && (flags & O_TRUNC);                                                              \
    STEP(is_ours, (flags & (O_CREAT | O_ACCMODE)) ? OPEN_WRITE : OPEN_READ, -1, call, done >= 0 && (is_new || is_cut),  \
         record(is_new ? 'c' : 't', path, "", 0, NULL, 0, 0))

#define MODE()                                                                                                         \
    va_list rest;                                                                                                      \
    va_start(rest, flags);                                                                                             \
    mode_t mode = va_arg(rest, mode_t);                                                                                \
    va_end(rest)

#define OPEN(symbol)                                                                                                   \
    int symbol(const char *name, int flags, ...)                                                                       \
    {                                                                                                                  \
        REAL(int, #symbol, const char *, int, ...);                                                                    \
        MODE();                                                                                                        \
        const int folder = AT_FDCWD;                                                                                   \
        OPEN_TAIL(real(name, flags, mode));                                                                            \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(symbol)                                                                                                 \
    int symbol(int folder, const char *name, int flags, ...)                                                           \
    {                                                                                                                  \
        REAL(int, #symbol, int, const char *, int, ...);                                                               \
        MODE();                                                                                                        \
        OPEN_TAIL(real(folder, name, flags, mode));                                                                    \
    }
OPENAT(openat)
OPENAT(openat64)

/* Streams of C write through functions of libc that cannot be replaced; so they get our own. */
static ssize_t stream_write(void *cookie, const char *data, size_t size)
{
    return write((int)(intptr_t)cookie, data, size); /* glibc's own loop handles a short count; an error gives -1 */
}
static ssize_t stream_read(void *cookie, char *data, size_t size) { return read((int)(intptr_t)cookie, data, size); }
static int stream_seek(void *cookie, off64_t *offset, int whence)
{
    off64_t at = lseek64((int)(intptr_t)cookie, *offset, whence);
    if (at < 0)
        return -1;
    *offset = at;
    return 0;
}
static int stream_close(void *cookie) { return close((int)(intptr_t)cookie); }

static const cookie_io_functions_t streams = {stream_read, stream_write, stream_seek, stream_close};

FILE *fdopen(int fd, const char *mode)
{
    REAL(FILE *, "fdopen", int, const char *);
    char path[PATH_MAX];
    return is_watched_fd(fd, path) ? fopencookie((void *)(intptr_t)fd, mode, streams) : real(fd, mode);
}

#define FOPEN(symbol)                                                                                                  \
    FILE *symbol(const char *name, const char *mode)                                                                   \
    {                                                                                                                  \
        REAL(FILE *, #symbol, const char *, const char *);                                                             \
        char path[PATH_MAX];                                                                                           \
        if (!is_watched(AT_FDCWD, name, path))                                                                         \
            return real(name, mode);                                                                                   \
        int plus = strchr(mode, '+') != NULL;                                                                          \
        int flags = mode[0] == 'r' ? (plus ? O_RDWR : O_RDONLY)                                                        \
                                   : (plus ? O_RDWR : O_WRONLY) | O_CREAT | (mode[0] == 'w' ? O_TRUNC : O_APPEND);     \
        int fd = open(name, flags | O_CLOEXEC, 0666);                                                                  \
        return fd < 0 ? NULL : fopencookie((void *)(intptr_t)fd, mode, streams);                                       \
    }
FOPEN(fopen)
FOPEN(fopen64)

#define MMAP(symbol, offset_type)                                                                                      \
    void *symbol(void *address, size_t size, int protection, int flags, int fd, offset_type offset)                    \
    {                                                                                                                  \
        REAL(void *, #symbol, void *, size_t, int, int, int, offset_type);                                             \
        char path[PATH_MAX];                                                                                           \
        STEP(is_watched_fd(fd, path), MAP, MAP_FAILED, real(address, size, protection, flags, fd, offset), 0, );       \
    }
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)

/* ---- names ---- */

static int renamed(char op, const char *from, const char *to)
{
    record(op, from, to, 0, NULL, 0, 0);
    return 0;
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
    char path[PATH_MAX], other[PATH_MAX];
    int is_ours = is_watched(from_folder, from, path) | is_watched(to_folder, to, other);
    STEP(is_ours, RENAME, -1, real(from_folder, from, to_folder, to, flags), done == 0,
         renamed(flags & RENAME_EXCHANGE ? 'x' : 'r', path, other));
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    REAL(int, "renameat", int, const char *, int, const char *);
    char path[PATH_MAX], other[PATH_MAX];
    int is_ours = is_watched(from_folder, from, path) | is_watched(to_folder, to, other);
    STEP(is_ours, RENAME, -1, real(from_folder, from, to_folder, to), done == 0, renamed('r', path, other));
}

int rename(const char *from, const char *to)
{
    REAL(int, "rename", const char *, const char *);
    char path[PATH_MAX], other[PATH_MAX];
    int is_ours = is_watched(AT_FDCWD, from, path) | is_watched(AT_FDCWD, to, other);
    STEP(is_ours, RENAME, -1, real(from, to), done == 0, renamed('r', path, other));
}

#define ON_PATH(symbol, kind, op, parameters, arguments, folder, name, types)                                          \
    int symbol parameters                                                                                              \
    {                                                                                                                  \
        static int(*real) types;                                                                                       \
        if (!real)                                                                                                     \
            real = (int(*) types)dlsym(RTLD_NEXT, #symbol);                                                            \
        char path[PATH_MAX];                                                                                           \
        STEP(is_watched(folder, name, path), kind, -1, real arguments, done == 0 && (op) != 0,                            \
             record(op, path, "", 0, NULL, 0, 0));                                                                     \
    }
ON_PATH(unlink, REMOVE, 'u', (const char *name), (name), AT_FDCWD, name, (const char *))
ON_PATH(remove, REMOVE, 'u', (const char *name), (name), AT_FDCWD, name, (const char *)) /* of files, as DuckDB does */
ON_PATH(rmdir, REMOVE, 'k', (const char *name), (name), AT_FDCWD, name, (const char *))
ON_PATH(unlinkat, REMOVE, flags & AT_REMOVEDIR ? 'k' : 'u', (int folder, const char *name, int flags),
        (folder, name, flags), folder, name, (int, const char *, int))
ON_PATH(mkdir, MKDIR, 'm', (const char *name, mode_t mode), (name, mode), AT_FDCWD, name, (const char *, mode_t))
ON_PATH(mkdirat, MKDIR, 'm', (int folder, const char *name, mode_t mode), (folder, name, mode), folder, name,
        (int, const char *, mode_t))
ON_PATH(stat, STAT, 0, (const char *name, struct stat *out), (name, out), AT_FDCWD, name, (const char *, struct stat *))
ON_PATH(lstat, STAT, 0, (const char *name, struct stat *out), (name, out), AT_FDCWD, name, (const char *, struct stat *))
ON_PATH(stat64, STAT, 0, (const char *name, struct stat64 *out), (name, out), AT_FDCWD, name,
        (const char *, struct stat64 *))
ON_PATH(lstat64, STAT, 0, (const char *name, struct stat64 *out), (name, out), AT_FDCWD, name,
        (const char *, struct stat64 *))
ON_PATH(fstatat, STAT, 0, (int folder, const char *name, struct stat *out, int flags), (folder, name, out, flags), folder,
        name, (int, const char *, struct stat *, int))
ON_PATH(fstatat64, STAT, 0, (int folder, const char *name, struct stat64 *out, int flags), (folder, name, out, flags),
        folder, name, (int, const char *, struct stat64 *, int))
ON_PATH(__xstat, STAT, 0, (int version, const char *name, struct stat *out), (version, name, out), AT_FDCWD, name,
        (int, const char *, struct stat *))
ON_PATH(__xstat64, STAT, 0, (int version, const char *name, struct stat64 *out), (version, name, out), AT_FDCWD, name,
        (int, const char *, struct stat64 *))
ON_PATH(__lxstat64, STAT, 0, (int version, const char *name, struct stat64 *out), (version, name, out), AT_FDCWD, name,
        (int, const char *, struct stat64 *))
ON_PATH(__fxstatat64, STAT, 0, (int version, int folder, const char *name, struct stat64 *out, int flags),
        (version, folder, name, out, flags), folder, name, (int, int, const char *, struct stat64 *, int))
ON_PATH(access, STAT, 0, (const char *name, int mode), (name, mode), AT_FDCWD, name, (const char *, int))

static int linked(char op, const char *path, const char *target)
{
    record(op, path, target, 0, NULL, 0, 0);
    return 0;
}

int symlink(const char *target, const char *name)
{
    REAL(int, "symlink", const char *, const char *);
    char path[PATH_MAX];
    STEP(is_watched(AT_FDCWD, name, path), LINK, -1, real(target, name), done == 0, linked('l', path, target));
}

int link(const char *target, const char *name)
{
    REAL(int, "link", const char *, const char *);
    char path[PATH_MAX];
    STEP(is_watched(AT_FDCWD, name, path), LINK, -1, real(target, name), done == 0, linked('h', path, target));
}

DIR *opendir(const char *name)
{
    REAL(DIR *, "opendir", const char *);
    char path[PATH_MAX];
    STEP(is_watched(AT_FDCWD, name, path), LIST, NULL, real(name), 0, );
}

/* ---- locks ---- */

int flock(int fd, int operation)
{
    REAL(int, "flock", int, int);
    char path[PATH_MAX];
    STEP(!(operation & LOCK_UN) && is_watched_fd(fd, path), LOCK, -1, real(fd, operation), 0, );
}

#define FCNTL(symbol)                                                                                                  \
    int symbol(int fd, int command, ...)                                                                               \
    {                                                                                                                  \
        REAL(int, #symbol, int, int, ...);                                                                             \
        va_list rest;                                                                                                  \
        va_start(rest, command);                                                                                       \
        void *argument = va_arg(rest, void *);                                                                         \
        va_end(rest);                                                                                                  \
        char path[PATH_MAX];                                                                                           \
        int is_lock = command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW;  \
        STEP(is_lock && is_watched_fd(fd, path), LOCK, -1, real(fd, command, argument), 0, );                          \
    }
FCNTL(fcntl)
FCNTL(fcntl64)
