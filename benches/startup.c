/* What a preloaded library adds to the life of a small process.
 *
 *   startup [-n ROUNDS] [-c PROGRAM] BASE LIBRARY...
 *
 * Each round starts PROGRAM (default: /bin/true) once with BASE preloaded, a library with nothing in
 * it, and once with each LIBRARY, all pinned to one processor and in an order drawn anew for each round,
 * because a process pays for the caches that the one before it left. The table tells the median of the differences to BASE of the same round, of the time
 * until the process is gone and of its processor time, and half the width of their 95 % intervals.
 *
 * PROGRAM `-` is this one: it allocates 1 KiB. `startup -d` says how many KiB of memory are resident
 * and how many dirty then. The environment of the processes is LD_PRELOAD alone, so that a library is measured as it
 * is without settings.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_LIBRARIES = 32, WARM_UP = 20 };

struct sample {
    double wall_us, cpu_us, faults;
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "startup: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double micros(struct timeval t)
{
    return t.tv_sec * 1e6 + t.tv_usec;
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static struct sample start(char *const argv[], const char *library)
{
    char preload[4096];
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", library);
    char *environment[] = {preload, NULL};
    pid_t child;
    int status;
    struct rusage use;
    double before = now_us();
    errno = posix_spawn(&child, argv[0], NULL, NULL, argv, environment);
    if (errno != 0)
        die(argv[0]);
    if (wait4(child, &status, 0, &use) != child)
        die("wait4");
    if (status != 0)
        return (struct sample){NAN, NAN, NAN};
    return (struct sample){now_us() - before, micros(use.ru_utime) + micros(use.ru_stime),
                           (double)use.ru_minflt};
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void shuffle(int *order, int nr)
{
    for (int i = nr - 1; i > 0; i--) {
        int j = (int)(random() % (i + 1)), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

static double median(double *values, int nr, double *spread)
{
    qsort(values, nr, sizeof *values, compare);
    /* The order statistics around the median that hold it in 95 of 100 cases. */
    int reach = (int)ceil(0.98 * sqrt(nr));
    int low = nr / 2 - reach, high = nr / 2 + reach;
    *spread = (values[high < nr ? high : nr - 1] - values[low > 0 ? low : 0]) / 2;
    return values[nr / 2];
}

/* In the process under test: one allocation, then what the kernel counts as resident and as dirty. No stdio,
 * which would allocate for itself. */
static int allocate(int tell)
{
    char *volatile block = malloc(1024);
    memset(block, 1, 1024);
    if (!tell)
        return 0;
    char text[4096];
    int fd = open("/proc/self/smaps_rollup", O_RDONLY);
    ssize_t nr = read(fd, text, sizeof text - 1);
    if (fd < 0 || nr < 0)
        return 1;
    text[nr] = 0;
    static const char *const keys[] = {"Rss:", "Private_Dirty:"};
    for (int i = 0; i < 2; i++) {
        const char *line = strstr(text, keys[i]);
        if (line == NULL)
            return 1;
        size_t length = strchr(line, '\n') - line;
        if (write(1, line, length) < 0 || write(1, i ? "\n" : "   ", i ? 1 : 3) < 0)
            return 1;
    }
    return 0;
}

static void dirty(char *self, int nr, char **libraries)
{
    char *argv[] = {self, "--allocate-and-tell", NULL};
    for (int i = 0; i < nr; i++) {
        printf("%-44s ", *libraries[i] ? libraries[i] : "glibc");
        fflush(stdout);
        if (isnan(start(argv, libraries[i]).wall_us))
            puts("the process failed");
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && strncmp(argv[1], "--allocate", 10) == 0)
        return allocate(argv[1][10] != 0);

    static char self[4096];
    char *command[] = {"/bin/true", NULL, NULL};
    int rounds = 2000, option, tell_dirty = 0;
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        die("/proc/self/exe");
    while ((option = getopt(argc, argv, "n:c:d")) != -1) {
        if (option == 'n')
            rounds = atoi(optarg);
        else if (option == 'c')
            command[0] = optarg;
        else if (option == 'd')
            tell_dirty = 1;
        else
            return 2;
    }
    int nr = argc - optind;
    char **libraries = argv + optind;
    if (nr < 1 || nr > MAX_LIBRARIES || rounds < 1) {
        fprintf(stderr, "usage: startup [-d] [-n ROUNDS] [-c PROGRAM] BASE LIBRARY...\n");
        return 2;
    }
    if (tell_dirty) {
        dirty(self, nr, libraries);
        return 0;
    }
    if (strcmp(command[0], "-") == 0) {
        command[0] = self;
        command[1] = "--allocate";
    }

    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);

    struct sample (*samples)[MAX_LIBRARIES] = calloc(rounds, sizeof *samples);
    double *column = calloc(rounds, sizeof *column);
    if (samples == NULL || column == NULL)
        die("memory");
    int order[MAX_LIBRARIES], failed[MAX_LIBRARIES] = {0};
    for (int i = 0; i < nr; i++)
        order[i] = i;
    for (int round = -WARM_UP; round < rounds; round++) {
        shuffle(order, nr);
        for (int i = 0; i < nr; i++) {
            struct sample sample = start(command, libraries[order[i]]);
            failed[order[i]] |= isnan(sample.wall_us);
            if (round >= 0)
                samples[round][order[i]] = sample;
        }
    }

    printf("%-44s %16s %16s %8s\n", "library", "wall us", "cpu us", "faults");
    for (int i = 0; i < nr; i++) {
        double wall, cpu, faults, wall_spread, cpu_spread, unused;
        if (failed[i] || failed[0]) {
            printf("%-44s the process failed\n", libraries[i]);
            continue;
        }
#define MEDIAN(field, spread)                                                                      \
    ({                                                                                             \
        for (int r = 0; r < rounds; r++)                                                           \
            column[r] = samples[r][i].field - (i == 0 ? 0 : samples[r][0].field);                  \
        median(column, rounds, spread);                                                            \
    })
        wall = MEDIAN(wall_us, &wall_spread);
        cpu = MEDIAN(cpu_us, &cpu_spread);
        faults = MEDIAN(faults, &unused);
        printf("%-44s %+9.1f +-%4.1f %+9.1f +-%4.1f %+8.0f\n", libraries[i], wall, wall_spread, cpu,
               cpu_spread, faults);
    }
    return 0;
}
