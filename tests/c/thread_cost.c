/* What a live thread costs that allocates one object of each of so many sizes: prints bytes of memory that is no
 * file's, by thread. `threads=N sizes=N`. */
#include "t.h"
#include <pthread.h>

static pthread_barrier_t all_have, all_may_go;
static long sizes;

static void *run(void *unused)
{
	for (long i = 0; i < sizes; i++) {
		char *p = malloc(16 + i * 32);

		memset(p, 1, 16 + i * 32);
		HIDE(p);
	}
	pthread_barrier_wait(&all_have);
	pthread_barrier_wait(&all_may_go);
	return unused;
}

static long anonymous(void)
{
	return t_proc("/proc/self/smaps_rollup", "\nAnonymous:") * 1024;
}

int main(int argc, char **argv)
{
	long threads = t_long(argv, "threads", 64), before;
	pthread_t ids[256];
	char *first = malloc(16);

	(void)argc;
	HIDE(first);
	sizes = t_long(argv, "sizes", 1);
	CHECK(threads <= 256);
	pthread_barrier_init(&all_have, NULL, threads + 1);
	pthread_barrier_init(&all_may_go, NULL, threads + 1);
	before = anonymous();
	for (long i = 0; i < threads; i++)
		CHECK(!pthread_create(&ids[i], NULL, run, NULL));
	pthread_barrier_wait(&all_have);
	dprintf(1, "%ld\n", (anonymous() - before) / threads);
	pthread_barrier_wait(&all_may_go);
	for (long i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	return 0;
}
