/* How long a program takes from its start to the first byte of its answer, and how much memory it has at most.
 *
 *     cc -O3 first_byte.c -o first_byte && ./first_byte MARK COMMAND ...
 *
 * The answer is what the command writes to its standard output behind the first occurrence of MARK, say the prompt that
 * it repeats. Prints the seconds until its first byte, the seconds until the process has ended, and the peak of its
 * resident memory in bytes. Its messages are left out; it gets no input. Exits 1 when it fails or says nothing.
 *
 * A program and not a few lines of Python because Linux starts the peak of a child at the size of its parent, which for
 * Python is more than a small model needs. Pages of a file that the command has mapped and touched count as memory. */
#define _DEFAULT_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1 << 16 }; /* of the output that the mark is looked for in */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}
static void become(char **command, int output) { /* in the child */
    int nothing = open("/dev/null", O_RDWR);
    dup2(nothing, 0), dup2(output, 1), dup2(nothing, 2);
    execvp(command[0], command);
    _exit(127);
}
int main(int argc, char **argv) {
    static char text[MOST + 1];
    int pipe_ends[2], status;
    if (argc < 3 || pipe(pipe_ends)) return fputs("usage: first_byte MARK COMMAND ...\n", stderr), 2;
    double start = now(), first = 0;
    pid_t child = fork();
    if (child < 0) return perror("first_byte"), 1;
    if (!child) close(pipe_ends[0]), become(argv + 2, pipe_ends[1]);
    close(pipe_ends[1]);
    ssize_t got;
    size_t size = 0;
    char spill[4096]; /* what does not fit is read all the same, or the command would wait */
    for (;;) {
        int room = size < MOST;
        got = room ? read(pipe_ends[0], text + size, MOST - size) : read(pipe_ends[0], spill, sizeof spill);
        if (got <= 0) break;
        if (room) size += (size_t)got;
        const char *mark = first ? NULL : strstr(text, argv[1]);
        if (mark && mark + strlen(argv[1]) < text + size) first = now();
    }
    struct rusage used;
    if (wait4(child, &status, 0, &used) < 0) return perror("first_byte"), 1;
    double end = now();
    if (!WIFEXITED(status) || WEXITSTATUS(status) || !first)
        return fprintf(stderr, "%s failed or said nothing behind the mark\n", argv[2]), 1;
#ifdef __APPLE__
    long unit = 1;
#else
    long unit = 1024;
#endif
    return printf("%.6f %.6f %ld\n", first - start, end - start, used.ru_maxrss * unit), 0;
}
