/* A thread allocates mib=32 MiB, frees every other block, and is moved to another node: what it
 * allocates from then on is there, but for what its caches held. One class that it used before must
 * turn to the new node within one refill. */
#include "nodes.h"

/* What one bin holds at most. */
#define REFILL 1024

int main(int argc, char **argv)
{
	size_t bytes = MIB(t_long(argv, "mib", 32)), room = bytes / 64;
	int from = t_long(argv, "from", 0), to = t_long(argv, "to", 3);
	struct block *old = blocks_for(bytes), *new = blocks_for(bytes), *objects;
	uint64_t seed = 99, wanted;
	size_t i, kept = 0, nr, strays = 0;
	struct spread spread;

	(void)argc;
	pin(cpu_of(from));
	nr = fill(old, room, bytes, &seed);
	for (i = 0; i < nr; i++) {
		if (i % 2)
			free(old[i].at);
		else
			old[kept++] = old[i];
	}
	pin(cpu_of(to));
	wanted = nearest(to);

	objects = array(4 * REFILL, sizeof *objects);
	for (i = 0; i < 4 * REFILL; i++) {
		objects[i] = (struct block){malloc(100), 100};
		memset(objects[i].at, 1, 100);
	}
	/* The last that is elsewhere tells how many came before the turn. */
	for (i = 0; i < 4 * REFILL; i++) {
		spread = where(&objects[i], 1);
		if (among(&spread, wanted) < spread.all)
			strays = i + 1;
	}
	nr = fill(new, room, bytes, &seed);
	spread = where(new, nr);
	show("moved", &spread);
	printf("moved: %.2f %% local, the last object elsewhere was the %zuth\n",
	       100.0 * among(&spread, wanted) / spread.all, strays);
	CHECK(strays <= REFILL);
	CHECK(wanted >> from & 1 || figure(__builtin_ctzll(wanted), "migrations") == 1);
	CHECK(among(&spread, wanted) * 1000 >= spread.all * 999);
	drop(new, nr);
	drop(old, kept);
	drop(objects, 4 * REFILL);
	return 0;
}
