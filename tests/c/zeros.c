/* Tables of zeros that are read before they are written to. With a second thread (`threads=2`) each page of them costs one
 * page fault, not two; without, and what is large, is left alone until somebody touches it. */
#include "t.h"

enum { PAGE = 4096, BLOCKS = 24 };

static pthread_barrier_t barrier;

static void *second(void *unused)
{
	char *p = malloc(100);

	(void)unused;
	HIDE(p);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	free(p);
	return NULL;
}

static long faults(void)
{
	struct rusage usage;

	CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
	return usage.ru_minflt;
}

/* Faults of `calloc` alone, and all of them, in a hundred pages. */
static void measure(size_t size, long *made, long *all)
{
	static char *block[BLOCKS];
	long pages = BLOCKS * (size / PAGE), before = faults();

	for (int i = 0; i < BLOCKS; i++)
		CHECK((block[i] = calloc(1, size)));
	*made = (faults() - before) * 100 / pages;
	for (int i = 0; i < BLOCKS; i++)
		for (size_t at = 0; at < size; at += PAGE)
			CHECK(*(volatile char *)(block[i] + at) == 0);
	for (int i = 0; i < BLOCKS; i++)
		for (size_t at = 0; at < size; at += PAGE)
			*(volatile char *)(block[i] + at) = 1;
	*all = (faults() - before) * 100 / pages;
	for (int i = 0; i < BLOCKS; i++)
		free(block[i]);
}

int main(int argc, char **argv)
{
	long threads = t_long(argv, "threads", 1), made, all;
	pthread_t thread;

	(void)argc;
	if (threads > 1) {
		CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
		CHECK(pthread_create(&thread, NULL, second, NULL) == 0);
		pthread_barrier_wait(&barrier);
	}
	measure(KIB(100), &made, &all);
	if (threads > 1) {
		if (all > 130)
			FAIL("%ld faults for 100 pages", all);
	} else if (made > 30) {
		FAIL("%ld faults in calloc of 100 pages", made);
	}
	measure(KIB(1000), &made, &all);
	if (made > 30)
		FAIL("%ld faults in calloc of 100 pages of large blocks", made);
	if (threads > 1) {
		pthread_barrier_wait(&barrier);
		pthread_join(thread, NULL);
	}
	return 0;
}
