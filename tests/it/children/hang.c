// A disk that stops answering: while the file $HANG exists, nothing is ever durable.
#define _GNU_SOURCE
#include <stdlib.h>
#include <unistd.h>
#include <sys/syscall.h>

int fdatasync(int fd) {
  const char *gate = getenv("HANG");
  while (gate && access(gate, F_OK) == 0) usleep(10000);
  return (int)syscall(SYS_fdatasync, fd);
}
