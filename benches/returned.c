/*
 * How much memory a process gives back by itself, without a call of the program.
 *
 *   scatter  300,000 objects of 512 B, 1 KiB and 2 KiB, 19 of 20 freed in random order; the thread sleeps
 *   worker   256 MiB in blocks of 64 B to 64 KiB, all freed by a worker, which then sleeps
 *
 * Prints the peak and, after each pause, the share of it that is no longer resident. Numbers behind the load are
 * further pauses, in seconds.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long base_kib, peak_kib;
static volatile int done;

static long resident_kib(void)
{
	long size, resident;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f || fscanf(f, "%ld %ld", &size, &resident) != 2)
		abort();
	fclose(f);
	return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void *filled(size_t size)
{
	void *p = malloc(size);

	if (!p)
		abort();
	return memset(p, 1, size);
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
	peak_kib = resident_kib();
	for (int i = 0; i < COUNT; i++)
		if (i % 20)
			free(all[i]);
	done = 1;
	pause();
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
	peak_kib = resident_kib();
	while (n > 0)
		free(all[--n]);
	free(all);
	done = 1;
	pause();
	return unused;
}

int main(int argc, char **argv)
{
	static const int pauses_ms[] = { 100, 400, 500, 1000 };
	pthread_t thread;
	int at = 0;

	base_kib = resident_kib();
	if (pthread_create(&thread, NULL, argc > 1 && !strcmp(argv[1], "worker") ? worker : scatter, NULL))
		abort();
	while (!done)
		usleep(100);
	printf("peak %5ld MiB, back after", peak_kib / 1024);
	for (size_t i = 0; i < sizeof pauses_ms / sizeof *pauses_ms; i++) {
		usleep(pauses_ms[i] * 1000);
		at += pauses_ms[i];
		printf("  %4d ms %5.1f %%", at, 100.0 * (peak_kib - resident_kib()) / peak_kib);
	}
	for (int i = 2; i < argc; i++) {
		for (int s = atoi(argv[i]); s > 0; s--)
			sleep(1);
		printf("  then %s s %5.1f %%", argv[i], 100.0 * (peak_kib - resident_kib()) / peak_kib);
	}
	printf("\n");
	fflush(stdout);
	_exit(0);
}
