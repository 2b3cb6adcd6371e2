/*
 * Power-cut shim, for LD_PRELOAD: keeps, next to the real directory, a copy that holds only what was synced.
 *
 *   RUNBOOKD_SHIM_ROOT    the directory to watch (must exist)
 *   RUNBOOKD_SHIM_SHADOW  its copy; at the start equal to the root. After SIGKILL this is what a power cut leaves.
 *                         <shadow>.inodes holds the synced content of files by inode number.
 *   RUNBOOKD_SHIM_NAMES   "sync": names (create, rename, unlink) survive once their directory was synced; default, the
 *                         harsher one. "once": names survive at once, content still only when synced.
 *
 * Content: a write, truncation or fallocate is forgotten until fsync or fdatasync of any handle of that file.
 * sync_file_range, sync and O_SYNC count for nothing. Directories themselves (mkdir, rmdir) survive at once.
 * A rename within a directory is atomic; across directories it survives with the sync of the target's directory.
 * Not modelled, and refused by abort() under the root: hard links, symbolic links. Not seen: shared writable mmap,
 * io_uring, raw system calls, other processes (LD_PRELOAD is taken out of the environment at the start).
 * fsync and fdatasync of watched files do not reach the disk: the kernel outlives the killed process.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct range { off_t from, to; struct range *next; };
struct inode { dev_t dev; ino_t ino; struct range *dirty; struct inode *next; };
enum kind { LINK, UNLINK, RENAME };
struct name { enum kind kind; char dir[PATH_MAX], from[PATH_MAX], to[PATH_MAX]; ino_t ino; struct name *next; };

static char root[PATH_MAX], shadow[PATH_MAX];
static size_t root_len;
static int active, at_once;
static struct inode *inodes[1024];
static struct name *names, **last_name = &names;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(ret, fn, ...) \
    static ret (*real)(__VA_ARGS__); \
    if (!real) real = (ret (*)(__VA_ARGS__))dlsym(RTLD_NEXT, fn)

static ssize_t real_pwrite(int fd, const void *buf, size_t n, off_t at) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    return real(fd, buf, n, at);
}
static int real_open(const char *path, int flags, mode_t mode) {
    REAL(int, "open", const char *, int, ...);
    return real(path, flags, mode);
}
static int real_ftruncate(int fd, off_t size) { REAL(int, "ftruncate", int, off_t); return real(fd, size); }
static int real_rename(const char *a, const char *b) { REAL(int, "rename", const char *, const char *); return real(a, b); }
static int real_unlink(const char *path) { REAL(int, "unlink", const char *); return real(path); }
static int real_mkdir(const char *path, mode_t mode) { REAL(int, "mkdir", const char *, mode_t); return real(path, mode); }

static int real_link(const char *from, const char *to) { REAL(int, "link", const char *, const char *); return real(from, to); }

static void die(const char *what, const char *on) {
    fprintf(stderr, "power-cut shim: %s: %s: %s\n", what, on, strerror(errno));
    abort();
}

/* "<base><rest>" */
static void join(char *out, const char *base, const char *rest) {
    if (snprintf(out, PATH_MAX, "%s%s", base, rest) >= PATH_MAX) die("path too long", rest);
}

static void inode_path(char *out, ino_t ino) {
    char number[32];
    snprintf(number, sizeof number, ".inodes/%llu", (unsigned long long)ino);
    join(out, shadow, number);
}

/* The part of an absolute path behind the root ("" for the root itself), or NULL. */
static const char *below(const char *path) {
    if (strncmp(path, root, root_len) || (path[root_len] && path[root_len] != '/')) return NULL;
    return path + root_len;
}

/* Resolves a name whose last part need not exist. Returns the part behind the root, or NULL. */
static const char *resolve(int dirfd, const char *path, char *out) {
    char full[PATH_MAX], parent[PATH_MAX], fd_path[64];
    if (!active || !path || !*path) return NULL;
    if (path[0] == '/' || dirfd == AT_FDCWD) {
        if (snprintf(full, PATH_MAX, "%s", path) >= PATH_MAX) return NULL;
    } else {
        snprintf(fd_path, sizeof fd_path, "/proc/self/fd/%d", dirfd);
        ssize_t n = readlink(fd_path, parent, PATH_MAX - 1);
        if (n < 0) return NULL;
        parent[n] = 0;
        if (snprintf(full, PATH_MAX, "%s/%s", parent, path) >= PATH_MAX) return NULL;
    }
    size_t len = strlen(full);
    while (len > 1 && full[len - 1] == '/') full[--len] = 0;
    char *slash = strrchr(full, '/');
    const char *base = slash ? slash + 1 : full;
    if (!strcmp(base, ".") || !strcmp(base, "..")) return realpath(full, out) ? below(out) : NULL;
    if (slash) {
        char copy[PATH_MAX];
        snprintf(copy, PATH_MAX, "%.*s", slash == full ? 1 : (int)(slash - full), full);
        if (!realpath(copy, parent)) return NULL;
    } else if (!realpath(".", parent)) {
        return NULL;
    }
    if (snprintf(out, PATH_MAX, "%s/%s", strcmp(parent, "/") ? parent : "", base) >= PATH_MAX) return NULL;
    return below(out);
}

static struct inode **find(dev_t dev, ino_t ino) {
    struct inode **at = &inodes[ino % 1024];
    while (*at && ((*at)->ino != ino || (*at)->dev != dev)) at = &(*at)->next;
    return at;
}

static void forget_ranges(struct inode *inode) {
    while (inode->dirty) {
        struct range *next = inode->dirty->next;
        free(inode->dirty);
        inode->dirty = next;
    }
}

/* Begins to watch a file: `created` has no synced content; any other has what the shadow holds under its name. */
static struct inode *watch(const struct stat *st, const char *rel, int created) {
    struct inode **at = find(st->st_dev, st->st_ino);
    char content[PATH_MAX], in_tree[PATH_MAX];
    if (*at && !created) return *at;
    if (!*at) {
        *at = calloc(1, sizeof **at);
        (*at)->dev = st->st_dev;
        (*at)->ino = st->st_ino;
    }
    forget_ranges(*at);
    inode_path(content, st->st_ino);
    real_unlink(content);
    join(in_tree, shadow, rel);
    if (created || real_link(in_tree, content)) {
        if (!created && errno != ENOENT) die("link", in_tree);
        int fd = real_open(content, O_CREAT | O_WRONLY | O_TRUNC, st->st_mode & 07777);
        if (fd < 0) die("create", content);
        close(fd);
        /* Known to the shadow from now on, but nothing of what is in it was synced under our eyes. */
        if (!created && st->st_size) {
            struct range *all = malloc(sizeof *all);
            *all = (struct range){0, st->st_size, NULL};
            (*at)->dirty = all;
        }
    }
    return *at;
}

static struct inode *watched(int fd, struct stat *st) {
    if (!active || fstat(fd, st) || !S_ISREG(st->st_mode)) return NULL;
    return *find(st->st_dev, st->st_ino);
}

static void dirty(struct inode *inode, off_t from, off_t to) {
    if (from >= to) return;
    if (inode->dirty && from <= inode->dirty->to && to >= inode->dirty->from) {
        if (from < inode->dirty->from) inode->dirty->from = from;
        if (to > inode->dirty->to) inode->dirty->to = to;
        return;
    }
    struct range *range = malloc(sizeof *range);
    *range = (struct range){from, to, inode->dirty};
    inode->dirty = range;
}

/* Copies what was written since the last sync. The file may be open for writing only, so it is opened anew. */
static void sync_content(int fd, struct inode *inode) {
    static char buf[1 << 16];
    char content[PATH_MAX], fd_path[64];
    struct stat st;
    snprintf(fd_path, sizeof fd_path, "/proc/self/fd/%d", fd);
    inode_path(content, inode->ino);
    int from = real_open(fd_path, O_RDONLY, 0), to = real_open(content, O_WRONLY, 0);
    if (from < 0 || to < 0 || fstat(from, &st)) die("sync", content);
    if (real_ftruncate(to, st.st_size)) die("size", content);
    fchmod(to, st.st_mode & 07777);
    for (struct range *range = inode->dirty; range; range = range->next) {
        for (off_t at = range->from; at < range->to && at < st.st_size;) {
            size_t want = range->to - at < (off_t)sizeof buf ? (size_t)(range->to - at) : sizeof buf;
            ssize_t n = pread(from, buf, want, at);
            if (n < 0) die("read", content);
            if (n == 0) break;
            if (real_pwrite(to, buf, n, at) != n) die("write", content);
            at += n;
        }
    }
    forget_ranges(inode);
    close(from);
    close(to);
}

static void apply(const struct name *name) {
    char from[PATH_MAX], to[PATH_MAX], content[PATH_MAX];
    join(from, shadow, name->from);
    join(to, shadow, name->to);
    switch (name->kind) {
    case LINK:
        inode_path(content, name->ino);
        real_unlink(to);
        if (real_link(content, to)) die("link", to);
        break;
    case UNLINK:
        if (real_unlink(to) && errno != ENOENT) die("unlink", to);
        break;
    case RENAME:
        if (real_rename(from, to) && errno != ENOENT) die("rename", to);
        break;
    }
}

static void name_change(enum kind kind, const char *from, const char *to, ino_t ino) {
    struct name *name = calloc(1, sizeof *name);
    name->kind = kind;
    name->ino = ino;
    join(name->from, "", from);
    join(name->to, "", to);
    snprintf(name->dir, PATH_MAX, "%.*s", (int)(strrchr(to, '/') - to), to);
    if (at_once) {
        apply(name);
        free(name);
    } else {
        *last_name = name;
        last_name = &name->next;
    }
}

static void sync_names(const char *dir) {
    for (struct name **at = &names; *at;) {
        struct name *name = *at;
        if (strcmp(name->dir, dir)) {
            at = &name->next;
            continue;
        }
        apply(name);
        *at = name->next;
        free(name);
    }
    last_name = &names;
    while (*last_name) last_name = &(*last_name)->next;
}

__attribute__((constructor)) static void start(void) {
    const char *r = getenv("RUNBOOKD_SHIM_ROOT"), *s = getenv("RUNBOOKD_SHIM_SHADOW"), *n = getenv("RUNBOOKD_SHIM_NAMES");
    char dir[PATH_MAX];
    if (!r || !s) return;
    if (!realpath(r, root)) die("root", r);
    if (!realpath(s, shadow)) die("shadow", s);
    root_len = strlen(root);
    at_once = n && !strcmp(n, "once");
    join(dir, shadow, ".inodes");
    if (real_mkdir(dir, 0700) && errno != EEXIST) die("mkdir", dir);
    unsetenv("LD_PRELOAD");
    active = 1;
}

/* After a successful open: `existed` is what was there under the name before. */
static void opened(int fd, int existed) {
    char fd_path[64], path[PATH_MAX];
    struct stat st;
    /* A file without a name (O_TMPFILE) is gone after the cut whatever is done to it. */
    if (!active || fstat(fd, &st) || !S_ISREG(st.st_mode) || !st.st_nlink) return;
    snprintf(fd_path, sizeof fd_path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(fd_path, path, PATH_MAX - 1);
    if (n < 0) return;
    path[n] = 0;
    const char *rel = below(path);
    if (!rel) return;
    watch(&st, rel, !existed);
    if (!existed) name_change(LINK, "", rel, st.st_ino);
}

static int open_any(int dirfd, const char *path, int flags, mode_t mode) {
    REAL(int, "openat", int, const char *, int, ...);
    char out[PATH_MAX];
    struct stat st;
    if (!active) return real(dirfd, path, flags, mode);
    pthread_mutex_lock(&lock);
    int existed = 1;
    if ((flags & O_CREAT) && resolve(dirfd, path, out)) existed = !stat(out, &st);
    int fd = real(dirfd, path, flags, mode);
    int saved = errno;
    if (fd >= 0) opened(fd, existed);
    pthread_mutex_unlock(&lock);
    errno = saved;
    return fd;
}

#define MODE(flags, mode) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { va_list ap; va_start(ap, flags); mode = va_arg(ap, mode_t); va_end(ap); }

int open(const char *path, int flags, ...) { MODE(flags, mode); return open_any(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, mode); return open_any(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE(flags, mode); return open_any(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE(flags, mode); return open_any(dir, path, flags, mode); }
int creat(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

/* Runs a write at the handle's own position and notes what it wrote. */
#define AT_POSITION(call) \
    struct stat st; \
    pthread_mutex_lock(&lock); \
    struct inode *inode = watched(fd, &st); \
    if (!inode) { pthread_mutex_unlock(&lock); return call; } \
    ssize_t n = call; \
    int saved = errno; \
    off_t end = lseek(fd, 0, SEEK_CUR); \
    if (n > 0) dirty(inode, end - n, end); \
    pthread_mutex_unlock(&lock); \
    errno = saved; \
    return n

#define AT_OFFSET(call) \
    struct stat st; \
    pthread_mutex_lock(&lock); \
    struct inode *inode = watched(fd, &st); \
    if (!inode) { pthread_mutex_unlock(&lock); return call; } \
    ssize_t n = call; \
    if (n > 0) dirty(inode, at, at + n); \
    pthread_mutex_unlock(&lock); \
    return n

ssize_t write(int fd, const void *buf, size_t len) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (!active) return real(fd, buf, len);
    AT_POSITION(real(fd, buf, len));
}
ssize_t writev(int fd, const struct iovec *v, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    if (!active) return real(fd, v, count);
    AT_POSITION(real(fd, v, count));
}
ssize_t pwrite(int fd, const void *buf, size_t len, off_t at) { AT_OFFSET(real_pwrite(fd, buf, len, at)); }
ssize_t pwrite64(int fd, const void *buf, size_t len, off_t at) { return pwrite(fd, buf, len, at); }
ssize_t pwritev(int fd, const struct iovec *v, int count, off_t at) {
    REAL(ssize_t, "pwritev", int, const struct iovec *, int, off_t);
    AT_OFFSET(real(fd, v, count, at));
}
ssize_t pwritev64(int fd, const struct iovec *v, int count, off_t at) { return pwritev(fd, v, count, at); }
ssize_t copy_file_range(int in, off_t *in_at, int fd, off_t *out_at, size_t len, unsigned flags) {
    REAL(ssize_t, "copy_file_range", int, off_t *, int, off_t *, size_t, unsigned);
    if (out_at) {
        off_t at = *out_at;
        AT_OFFSET(real(in, in_at, fd, out_at, len, flags));
    }
    AT_POSITION(real(in, in_at, fd, out_at, len, flags));
}
ssize_t sendfile(int fd, int in, off_t *in_at, size_t len) {
    REAL(ssize_t, "sendfile", int, int, off_t *, size_t);
    AT_POSITION(real(fd, in, in_at, len));
}
ssize_t sendfile64(int fd, int in, off_t *in_at, size_t len) { return sendfile(fd, in, in_at, len); }

/* A change of size: what lies between the old and the new end is zero then, and not synced. */
#define RESIZE(call) \
    struct stat st, now; \
    pthread_mutex_lock(&lock); \
    struct inode *inode = watched(fd, &st); \
    int answer = call; \
    int saved = errno; \
    if (inode && !answer && !fstat(fd, &now)) \
        dirty(inode, st.st_size < now.st_size ? st.st_size : now.st_size, \
              st.st_size < now.st_size ? now.st_size : st.st_size); \
    pthread_mutex_unlock(&lock); \
    errno = saved; \
    return answer

int ftruncate(int fd, off_t size) { RESIZE(real_ftruncate(fd, size)); }
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }
int truncate(const char *path, off_t size) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    int answer = ftruncate(fd, size);
    close(fd);
    return answer;
}
int truncate64(const char *path, off_t size) { return truncate(path, size); }
int fallocate(int fd, int mode, off_t at, off_t len) {
    REAL(int, "fallocate", int, int, off_t, off_t);
    RESIZE(real(fd, mode, at, len));
}
int fallocate64(int fd, int mode, off_t at, off_t len) { return fallocate(fd, mode, at, len); }
int posix_fallocate(int fd, off_t at, off_t len) {
    REAL(int, "posix_fallocate", int, off_t, off_t);
    RESIZE(real(fd, at, len));
}
int posix_fallocate64(int fd, off_t at, off_t len) { return posix_fallocate(fd, at, len); }

static int sync_any(int fd, const char *fn) {
    char fd_path[64], path[PATH_MAX];
    struct stat st;
    if (active && !fstat(fd, &st)) {
        pthread_mutex_lock(&lock);
        struct inode *inode = S_ISREG(st.st_mode) ? *find(st.st_dev, st.st_ino) : NULL;
        if (inode) sync_content(fd, inode);
        snprintf(fd_path, sizeof fd_path, "/proc/self/fd/%d", fd);
        ssize_t n = S_ISDIR(st.st_mode) ? readlink(fd_path, path, PATH_MAX - 1) : -1;
        const char *dir = NULL;
        if (n > 0) {
            path[n] = 0;
            if ((dir = below(path))) sync_names(dir);
        }
        pthread_mutex_unlock(&lock);
        if (inode || dir) return 0;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, fn);
    return real(fd);
}
int fsync(int fd) { return sync_any(fd, "fsync"); }
int fdatasync(int fd) { return sync_any(fd, "fdatasync"); }

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
    char a[PATH_MAX], b[PATH_MAX];
    struct stat st;
    if (!active) return real(from_dir, from, to_dir, to, flags);
    pthread_mutex_lock(&lock);
    const char *source = resolve(from_dir, from, a), *target = resolve(to_dir, to, b);
    int known = source && !lstat(a, &st);
    int answer = real(from_dir, from, to_dir, to, flags);
    int saved = errno;
    if (!answer && (source || target)) {
        errno = ENOTSUP;
        if (!known || !target || flags || S_ISDIR(st.st_mode)) die("a rename that is not modelled", to);
        watch(&st, source, 0);
        name_change(RENAME, source, target, st.st_ino);
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
    return answer;
}
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return renameat2(a, from, b, to, 0); }

int unlinkat(int dir, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    char out[PATH_MAX], in_shadow[PATH_MAX];
    if (!active) return real(dir, path, flags);
    pthread_mutex_lock(&lock);
    const char *rel = resolve(dir, path, out);
    int answer = real(dir, path, flags);
    int saved = errno;
    if (!answer && rel) {
        if (flags & AT_REMOVEDIR) {
            sync_names(rel);
            join(in_shadow, shadow, rel);
            real(AT_FDCWD, in_shadow, AT_REMOVEDIR);
        } else {
            name_change(UNLINK, "", rel, 0);
        }
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
    return answer;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int dir, const char *path, mode_t mode) {
    REAL(int, "mkdirat", int, const char *, mode_t);
    char out[PATH_MAX], in_shadow[PATH_MAX];
    const char *rel = resolve(dir, path, out);
    int answer = real(dir, path, mode);
    if (!answer && rel) {
        join(in_shadow, shadow, rel);
        if (real_mkdir(in_shadow, mode) && errno != EEXIST) die("mkdir", in_shadow);
    }
    return answer;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int linkat(int a, const char *from, int b, const char *to, int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    char out[PATH_MAX];
    errno = ENOTSUP;
    if (resolve(b, to, out)) die("a hard link is not modelled", to);
    return real(a, from, b, to, flags);
}
int link(const char *from, const char *to) {
    char out[PATH_MAX];
    errno = ENOTSUP;
    if (resolve(AT_FDCWD, to, out)) die("a hard link is not modelled", to);
    return real_link(from, to);
}
int symlinkat(const char *from, int b, const char *to) {
    REAL(int, "symlinkat", const char *, int, const char *);
    char out[PATH_MAX];
    errno = ENOTSUP;
    if (resolve(b, to, out)) die("a symbolic link is not modelled", to);
    return real(from, b, to);
}
int symlink(const char *from, const char *to) { return symlinkat(from, AT_FDCWD, to); }
