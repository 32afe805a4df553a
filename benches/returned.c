/*
 * How much memory a process gives back by itself, without a call of the program.
 *
 *   returned LOAD [AFTERWARDS] [SECONDS]...
 *
 *   scatter  300,000 objects of 512 B, 1 KiB and 2 KiB, 19 of 20 freed in random order
 *   worker   256 MiB in blocks of 64 B to 64 KiB, all freed by a worker
 *
 * What the thread that freed them does afterwards:
 *
 *   sleeps    nothing (this is the default)
 *   rests     nothing, nor does any other thread: another process looks from outside
 *   spins     works on without a call of the allocator
 *   hits      allocates 48 bytes and frees them, again and again
 *   replaces  has 2,000 blocks of up to 4 KiB, and replaces them in random order
 *
 * Prints the peak and, after each pause, the share of it that is no longer resident. Numbers are further pauses,
 * in seconds.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

/* What the load tells who looks, in another process maybe. */
struct told {
	volatile long peak_kib;
	volatile int done;
};

static struct told *told;
static const char *afterwards = "sleeps";

static long resident_kib(pid_t pid)
{
	long size, resident;
	char path[32], line[128];
	ssize_t len;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
	fd = open(path, O_RDONLY);
	len = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
	close(fd);
	line[len < 0 ? 0 : len] = 0;
	if (sscanf(line, "%ld %ld", &size, &resident) != 2)
		abort();
	return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void *filled(size_t size)
{
	void *p = malloc(size);

	if (!p)
		abort();
	return memset(p, 1, size);
}

static void go_on(void)
{
	void *volatile blocks[2000] = { NULL };
	unsigned seed = 1;

	told->done = 1;
	if (!strcmp(afterwards, "spins"))
		for (volatile unsigned long spun = 0;; spun++)
			;
	if (!strcmp(afterwards, "hits"))
		for (;;) {
			blocks[0] = malloc(48);
			free(blocks[0]);
		}
	if (!strcmp(afterwards, "replaces"))
		for (;;) {
			unsigned i = (seed >> 8) % 2000;

			free(blocks[i]);
			blocks[i] = malloc(seed >> 16 & 4095);
			seed = seed * 1103515245 + 12345;
		}
	for (;;)
		pause();
}

static void *scatter(void *unused)
{
	enum { COUNT = 300000 };
	void **all = malloc(COUNT * sizeof *all);
	int n = 0;

	while (n < COUNT) {
		all[n] = filled(n < 150000 ? 512 : n < 250000 ? 1024 : 2048);
		n++;
	}
	srand(1);
	for (int i = COUNT - 1; i > 0; i--) {
		int j = rand() % (i + 1);
		void *t = all[i];

		all[i] = all[j];
		all[j] = t;
	}
	told->peak_kib = resident_kib(getpid());
	for (int i = 0; i < COUNT; i++)
		if (i % 20)
			free(all[i]);
	go_on();
	return unused;
}

static void *worker(void *unused)
{
	size_t total = 0, n = 0, room = 1 << 20;
	void **all = malloc(room * sizeof *all);

	srand(2);
	while (total < 256u << 20 && n < room) {
		size_t size = (size_t)64 << rand() % 11;

		all[n++] = filled(size);
		total += size;
	}
	told->peak_kib = resident_kib(getpid());
	while (n > 0)
		free(all[--n]);
	free(all);
	go_on();
	return unused;
}

static void report(pid_t pid, char **further)
{
	static const int pauses_ms[] = { 100, 400, 500, 1000 };
	double peak;
	int at = 0;

	while (!told->done)
		usleep(100);
	peak = told->peak_kib;
	printf("peak %5ld MiB, back after", told->peak_kib / 1024);
	for (size_t i = 0; i < sizeof pauses_ms / sizeof *pauses_ms; i++) {
		usleep(pauses_ms[i] * 1000);
		at += pauses_ms[i];
		printf("  %4d ms %5.1f %%", at, 100.0 * (peak - resident_kib(pid)) / peak);
	}
	for (; *further; further++) {
		for (int s = atoi(*further); s > 0; s--)
			sleep(1);
		printf("  then %s s %5.1f %%", *further, 100.0 * (peak - resident_kib(pid)) / peak);
	}
	printf("\n");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	const char *load = argc > 1 ? argv[1] : "scatter";
	char **further = argv + (argc < 2 ? argc : 2);
	pthread_t thread;
	pid_t pid = getpid();

	if (*further && !strspn(*further, "0123456789"))
		afterwards = *further++;
	told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (told == MAP_FAILED)
		abort();
	if (!strcmp(afterwards, "rests"))
		pid = fork();
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!pid || pid == getpid()) {
		if (pthread_create(&thread, NULL, !strcmp(load, "worker") ? worker : scatter, NULL))
			abort();
		if (!pid)
			pthread_join(thread, NULL);
	}
	report(pid, further);
	if (pid != getpid())
		kill(pid, SIGKILL);
	_exit(0);
}
