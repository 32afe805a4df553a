/* A program that trims all the time: its address space ends somewhere. `rounds=N mib=N most=N` (GiB) */
#include "t.h"

enum { SLOTS = 12000 };

/* Bytes of address space. */
static size_t space(void)
{
	unsigned long pages;
	FILE *statm = fopen("/proc/self/statm", "r");

	CHECK(statm && fscanf(statm, "%lu", &pages) == 1);
	fclose(statm);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

int main(int argc, char **argv)
{
	long rounds = t_long(argv, "rounds", 120), mib = t_long(argv, "mib", 150), most = t_long(argv, "most", 8);
	static struct { char *block; size_t size; } slot[SLOTS];
	uint64_t seed = 5;
	size_t live = 0;

	(void)argc;
	for (long round = 0; round < rounds; round++) {
		for (int i = 0; i < SLOTS; i++) {
			uint64_t which = t_next(&seed) % SLOTS;

			if (slot[which].block) {
				VERIFY(slot[which].block, 16, which);
				free(slot[which].block);
				live -= slot[which].size;
				slot[which].block = NULL;
			}
			if (live < MIB(mib)) {
				slot[which].size = 16 + t_next(&seed) % KIB(64);
				CHECK((slot[which].block = malloc(slot[which].size)) != NULL);
				memset(slot[which].block, 1, slot[which].size);
				t_fill(slot[which].block, 16, which);
				live += slot[which].size;
			}
		}
		malloc_trim(0);
	}
	printf("%zu MiB of address space for %zu\n", space() >> 20, live >> 20);
	if (space() > GIB(most))
		FAIL("%zu MiB of address space for %zu MiB of blocks", space() >> 20, live >> 20);
	return 0;
}
