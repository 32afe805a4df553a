/* A thread on every processor, all at once, allocates mib=64 MiB in mixed sizes: at least 99.9 % of
 * the pages are on the thread's own node, or on a nearest one if it has no memory. */
#include "nodes.h"

static size_t bytes;
static struct spread spreads[MAX_NODES];
static uint64_t wanted[MAX_NODES];

static void *work(void *arg)
{
	long cpu = (long)arg;
	struct block *blocks = blocks_for(bytes);
	uint64_t seed = 4711 + cpu;
	size_t nr;

	wanted[cpu] = nearest(pin(cpu));
	nr = fill(blocks, bytes / 64, bytes, &seed);
	spreads[cpu] = where(blocks, nr);
	drop(blocks, nr);
	return NULL;
}

int main(int argc, char **argv)
{
	long cpu, nr = sysconf(_SC_NPROCESSORS_ONLN);
	size_t all = 0, local = 0;
	pthread_t threads[MAX_NODES];

	(void)argc;
	bytes = MIB(t_long(argv, "mib", 64));
	CHECK(nr <= MAX_NODES);
	for (cpu = 0; cpu < nr; cpu++)
		CHECK(pthread_create(&threads[cpu], NULL, work, (void *)cpu) == 0);
	for (cpu = 0; cpu < nr; cpu++) {
		char name[32];

		pthread_join(threads[cpu], NULL);
		snprintf(name, sizeof name, "local: processor %ld", cpu);
		show(name, &spreads[cpu]);
		all += spreads[cpu].all;
		local += among(&spreads[cpu], wanted[cpu]);
	}
	printf("local: %.3f %% of %zu pages\n", 100.0 * local / all, all);
	CHECK(all >= nr * bytes / PAGE);
	CHECK(local * 1000 >= all * 999);
	return 0;
}
