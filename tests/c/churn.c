/* A working set that changes its sizes all the time, under a limit that leaves little beside it.
 *
 * `mib=N threads=N phases=N`: the threads hold N MiB in all (by malloc_usable_size) of blocks, the oldest
 * of which go for new ones. The sizes of the blocks change from phase to phase, so that what one phase
 * freed has to serve another kind. No request may fail. */
#include "t.h"

enum { SLOTS = 1 << 19, PHASES = 6 };

struct block {
	void *start;
	size_t size;
};

static size_t budget;
static long nr_phases;

/* Small, then pages, then large, and mixed between. */
static size_t size_in(int phase, uint64_t *seed)
{
	static const size_t largest[PHASES] = { 300, KIB(3), KIB(20), KIB(200), MIB(1), 0 };
	size_t max = largest[phase % PHASES];

	return max ? max / 4 + t_next(seed) % (max - max / 4) : t_size(seed, MIB(1));
}

static void *churn(void *number)
{
	/* Not from the allocator under test, whose limit it would fill. */
	struct block *ring = mmap(NULL, SLOTS * sizeof *ring, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t first = 0, next = 0, held = 0;
	uint64_t seed = 1000 + (uintptr_t)number;

	CHECK(ring != MAP_FAILED);
	for (int phase = 0; phase < nr_phases; phase++) {
		/* Each phase replaces the whole set, and a part of its own. */
		for (size_t replaced = 0; replaced < budget * 3 / 2;) {
			size_t size = size_in(phase, &seed), room = size + size / 4;

			while (first != next && (held + room > budget || next - first == SLOTS)) {
				struct block *old = &ring[first++ % SLOTS];

				VERIFY(old->start, old->size, first - 1);
				held -= malloc_usable_size(old->start);
				free(old->start);
			}
			struct block *new = &ring[next % SLOTS];

			new->size = size;
			if (!(new->start = malloc(size)))
				FAIL("no %zu bytes in phase %d, %zu KiB of %zu held", size, phase, held >> 10, budget >> 10);
			t_fill(new->start, size, next++);
			held += malloc_usable_size(new->start);
			replaced += size;
		}
	}
	for (; first != next; first++)
		free(ring[first % SLOTS].start);
	munmap(ring, SLOTS * sizeof *ring);
	return NULL;
}

int main(int argc, char **argv)
{
	long nr = t_long(argv, "threads", 1);
	pthread_t threads[64];

	(void)argc;
	nr_phases = t_long(argv, "phases", PHASES);
	budget = MIB(t_long(argv, "mib", 64)) / nr;
	for (uintptr_t i = 1; i < (uintptr_t)nr; i++)
		CHECK(pthread_create(&threads[i], NULL, churn, (void *)i) == 0);
	churn(NULL);
	for (int i = 1; i < nr; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	return 0;
}
