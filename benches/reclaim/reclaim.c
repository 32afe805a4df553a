/*
 * What giving memory back costs, and what it looks like over time.
 *
 *   cycle MS     16 MiB of objects of 16 B to 16 KiB are allocated, touched and freed, again and again
 *                with pauses, one cycle every MS; prints median and mean processor time of a cycle, in us, and
 *                that of the process until the third cycle
 *   mixed N      N threads together allocate and free 64 MiB, with pauses of 50 ms to 2 s that grow and shrink;
 *                prints the processor time of the process until the third cycle, in us
 *   latency      one thread times each malloc of its own, beside one that leaves garbage all the time;
 *                prints median, 99th and 99.9th percentile in ns, and how much went back meanwhile
 *   busy         allocates and frees for ten seconds with pauses; prints the share of one processor
 *                that the background thread took, in percent
 *   visits N     N threads replace what others allocated and sleep now and then, for three seconds: what
 *                they wait for visitors is in the report of ZONAL_CONF=stats:exit
 *   timeline     load, burst, idle, load; prints "seconds MiB phase" every 50 ms
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MIB(n) ((size_t)(n) << 20)

static volatile int is_over;
static const char *volatile phase = "load";

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static double clock_s(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

/* What the calling thread took of its processor: on a shared machine the wall clock tells more about
 * the others. */
static double worked(void)
{
	return clock_s(CLOCK_THREAD_CPUTIME_ID);
}

/* The cycles before teach the allocator what the program does. */
enum { TAUGHT_BY = 2 };

static uint64_t next(uint64_t *seed)
{
	uint64_t x = *seed;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *seed = x;
}

static void pause_s(double seconds)
{
	if (seconds > 0)
		usleep((useconds_t)(seconds * 1e6));
}

static double resident_mib(void)
{
	long size, resident;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f || fscanf(f, "%ld %ld", &size, &resident) != 2)
		abort();
	fclose(f);
	return resident * (double)sysconf(_SC_PAGESIZE) / MIB(1);
}

/* Objects as programs have them: small ones are many. */
static size_t object_size(uint64_t *seed)
{
	unsigned bits = 4 + next(seed) % 10;

	return 16 + next(seed) % ((size_t)1 << bits);
}

struct heap {
	void **objects;
	size_t nr, room;
	uint64_t seed;
};

static void grow(struct heap *heap, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		size_t size = object_size(&heap->seed);

		if (heap->nr == heap->room) {
			heap->room = heap->room * 2 + 1024;
			heap->objects = realloc(heap->objects, heap->room * sizeof(void *));
		}
		if (!(heap->objects[heap->nr] = malloc(size)))
			abort();
		memset(heap->objects[heap->nr++], 1, size);
		done += size;
	}
}

/* Frees all but one of `keep`, in random order. */
static void shrink(struct heap *heap, size_t keep)
{
	size_t left = 0;

	for (size_t i = heap->nr; i > 1; i--) {
		size_t j = next(&heap->seed) % i;
		void *t = heap->objects[i - 1];

		heap->objects[i - 1] = heap->objects[j];
		heap->objects[j] = t;
	}
	for (size_t i = 0; i < heap->nr; i++) {
		if (keep && i % keep == 0)
			heap->objects[left++] = heap->objects[i];
		else
			free(heap->objects[i]);
	}
	heap->nr = left;
}

static int by_value(const void *a, const void *b)
{
	double d = *(const double *)a - *(const double *)b;

	return (d > 0) - (d < 0);
}

/* zonal's background thread is started only beside other threads. */
static void *idle(void *unused)
{
	pause();
	return unused;
}

static void cycle(int ms)
{
	double work[400], taught = 0, period = ms * 1e-3;
	struct heap heap = { .seed = 5 };
	int nr = 8 / period < 10 ? 10 : 8 / period > 100 ? 100 : (int)(8 / period);

	for (int i = 0; i < nr; i++) {
		double start = now(), before = worked();

		if (i == TAUGHT_BY)
			taught = clock_s(CLOCK_PROCESS_CPUTIME_ID);
		grow(&heap, MIB(16));
		shrink(&heap, 0);
		work[i] = worked() - before;
		pause_s(period - (now() - start));
	}
	/* The first cycles tell what memory from the system costs, and teach the age. */
	int skip = nr / 4 + 3;
	double sum = 0;

	for (int i = skip; i < nr; i++)
		sum += work[i];
	qsort(work + skip, nr - skip, sizeof *work, by_value);
	printf("%.0f %.0f %.0f\n", work[skip + (nr - skip) / 2] * 1e6, sum / (nr - skip) * 1e6, taught * 1e6);
}

static int nr_workers;

static void *mixed_worker(void *number)
{
	static const int pauses_ms[] = { 50, 50, 50, 100, 100, 200, 200, 500, 50, 50, 1000, 2000 };
	struct heap heap = { .seed = 41 + (uintptr_t)number };

	for (size_t i = 0; i < sizeof pauses_ms / sizeof *pauses_ms; i++) {
		if (i == TAUGHT_BY && !number)
			printf("%.0f\n", clock_s(CLOCK_PROCESS_CPUTIME_ID) * 1e6);
		grow(&heap, MIB(64) / nr_workers);
		shrink(&heap, 0);
		pause_s(pauses_ms[i] * 1e-3);
	}
	return NULL;
}

static void mixed(int count)
{
	pthread_t threads[256];

	nr_workers = count;
	for (intptr_t i = 0; i < count; i++)
		pthread_create(&threads[i], NULL, mixed_worker, (void *)i);
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
}

static void *litter(void *unused)
{
	struct heap heap = { .seed = 9 };

	while (!is_over) {
		grow(&heap, MIB(48));
		shrink(&heap, 20);
		pause_s(0.15);
		shrink(&heap, 0);
	}
	return unused;
}

static void latency(void)
{
	enum { NR = 3000000, SLOTS = 5000 };
	static void *slots[SLOTS];
	double *took = malloc(NR * sizeof *took);
	uint64_t seed = 3;
	pthread_t thread;

	memset(took, 0, NR * sizeof *took);
	pthread_create(&thread, NULL, litter, NULL);
	pause_s(0.2);
	for (int i = 0; i < NR; i++) {
		size_t at = next(&seed) % SLOTS, size = object_size(&seed);
		double start;

		free(slots[at]);
		start = now();
		slots[at] = malloc(size);
		took[i] = now() - start;
		*(volatile char *)slots[at] = 1;
		/* So that the run spans many rounds of reclaim. */
		if (i % 1000 == 0)
			pause_s(0.001);
	}
	is_over = 1;
	pthread_join(thread, NULL);
	qsort(took, NR, sizeof *took, by_value);
	printf("%.0f %.0f %.0f %.0f\n", took[NR / 2] * 1e9, took[(int)(NR * .99)] * 1e9,
	       took[(int)(NR * .999)] * 1e9, took[(int)(NR * .9999)] * 1e9);
}

/* Seconds that threads named zonal-kswapd took so far. */
static double kswapd_seconds(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	double sum = 0;

	while ((entry = readdir(dir))) {
		char path[300], name[64] = "";
		unsigned long long ns = 0;
		FILE *f;

		snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
		if (!(f = fopen(path, "r")))
			continue;
		if (!fgets(name, sizeof name, f))
			name[0] = 0;
		fclose(f);
		snprintf(path, sizeof path, "/proc/self/task/%s/schedstat", entry->d_name);
		if (!strncmp(name, "zonal-kswapd", 12) && (f = fopen(path, "r"))) {
			if (fscanf(f, "%llu", &ns) == 1)
				sum += ns * 1e-9;
			fclose(f);
		}
	}
	closedir(dir);
	return sum;
}

static void busy(void)
{
	struct heap heap = { .seed = 11 };
	double start = now();

	while (now() - start < 10) {
		grow(&heap, MIB(64));
		shrink(&heap, 20);
		pause_s(0.3);
		shrink(&heap, 0);
	}
	printf("%.2f\n", kswapd_seconds() / (now() - start) * 100);
}

static _Atomic(void *) shared[1 << 16];

static void *replace(void *number)
{
	uint64_t seed = 31 + (uintptr_t)number;
	double end = now() + 3;

	for (long i = 0; i % 1024 || now() < end; i++) {
		size_t size = 16 + next(&seed) % 3000;
		char *block = malloc(size);

		memset(block, 1, size < 64 ? size : 64);
		free(atomic_exchange(&shared[next(&seed) % (1 << 16)], block));
		if (i % (1 << 18) == 0)
			pause_s(0.03);
	}
	return NULL;
}

static void visits(int count)
{
	pthread_t threads[256];

	for (intptr_t i = 0; i < count; i++)
		pthread_create(&threads[i], NULL, replace, (void *)i);
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
}

static void *sample(void *unused)
{
	double start = now();

	while (!is_over) {
		printf("%.2f %.1f %s\n", now() - start, resident_mib(), phase);
		pause_s(0.05);
	}
	return unused;
}

static void *work(void *number)
{
	struct heap heap = { .seed = 21 + (uintptr_t)number };
	double end = now() + 2;

	/* Load: a standing set, and objects that come and go. */
	grow(&heap, MIB(16));
	for (int i = 0; now() < end; i++) {
		grow(&heap, MIB(2));
		shrink(&heap, 8);
		grow(&heap, MIB(14));
		pause_s(0.02);
		shrink(&heap, 2);
	}
	/* Burst, of which one object in twenty stays. */
	phase = "burst";
	grow(&heap, MIB(128));
	shrink(&heap, 20);
	phase = "idle";
	pause_s(5);
	phase = "load";
	end = now() + 2;
	while (now() < end) {
		grow(&heap, MIB(14));
		pause_s(0.02);
		shrink(&heap, 2);
	}
	shrink(&heap, 0);
	return NULL;
}

static void timeline(void)
{
	pthread_t sampler, workers[2];

	pthread_create(&sampler, NULL, sample, NULL);
	for (uintptr_t i = 0; i < 2; i++)
		pthread_create(&workers[i], NULL, work, (void *)i);
	for (int i = 0; i < 2; i++)
		pthread_join(workers[i], NULL);
	phase = "end";
	pause_s(1);
	is_over = 1;
	pthread_join(sampler, NULL);
}

int main(int argc, char **argv)
{
	const char *load = argc > 1 ? argv[1] : "";
	pthread_t thread;

	pthread_create(&thread, NULL, idle, NULL);
	if (!strcmp(load, "cycle") && argc > 2)
		cycle(atoi(argv[2]));
	else if (!strcmp(load, "mixed") && argc > 2 && atoi(argv[2]) > 0 && atoi(argv[2]) <= 256)
		mixed(atoi(argv[2]));
	else if (!strcmp(load, "latency"))
		latency();
	else if (!strcmp(load, "busy"))
		busy();
	else if (!strcmp(load, "visits") && argc > 2 && atoi(argv[2]) <= 256)
		visits(atoi(argv[2]));
	else if (!strcmp(load, "timeline"))
		timeline();
	else
		return 2;
	return 0;
}
