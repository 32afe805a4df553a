/* A heap of gib=10 GiB, taken by threads on all processors in blocks of 512 KiB that are hardly
 * touched: the process has least=1 to most=49 mappings of memory that is bound to a node. */
#include "nodes.h"

static size_t bytes;

static void *work(void *arg)
{
	size_t done;

	pin((long)arg);
	for (done = 0; done < bytes; done += KIB(512))
		CHECK(malloc(KIB(512)) != NULL);
	return NULL;
}

int main(int argc, char **argv)
{
	long cpu, nr = sysconf(_SC_NPROCESSORS_ONLN), gib = t_long(argv, "gib", 10);
	int all = 0, bound = 0;
	pthread_t threads[MAX_NODES];
	char line[512];
	FILE *maps;

	(void)argc;
	bytes = GIB(gib) / nr;
	for (cpu = 0; cpu < nr; cpu++)
		CHECK(pthread_create(&threads[cpu], NULL, work, (void *)cpu) == 0);
	for (cpu = 0; cpu < nr; cpu++)
		pthread_join(threads[cpu], NULL);
	maps = fopen("/proc/self/numa_maps", "r");
	CHECK(maps != NULL);
	while (fgets(line, sizeof line, maps)) {
		all++;
		bound += strstr(line, " prefer") != NULL;
	}
	fclose(maps);
	printf("maps: %d mappings of %ld GiB, %d in the process\n", bound, gib, all);
	CHECK(bound >= t_long(argv, "least", 1) && bound <= t_long(argv, "most", 49));
	return 0;
}
