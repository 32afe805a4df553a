/* Takes blocks of `size` until none is left, checks what it has, frees all and takes as many again.
 * `size=N limit=MIB least=PERCENT`: at least this part of the limit must have been given. */
#include "t.h"

struct block {
	struct block *next;
	uint64_t tag;
	char rest[];
};

static size_t take_all(size_t size, struct block **all)
{
	size_t taken = 0;
	struct block *b;

	errno = 0;
	while ((b = malloc(size))) {
		b->next = *all;
		b->tag = taken;
		t_fill(b->rest, size - sizeof *b, taken);
		taken += size;
		*all = b;
		if (taken > GIB(8))
			FAIL("no limit in force");
	}
	CHECK(errno == ENOMEM);
	return taken;
}

static void free_all(size_t size, struct block *b)
{
	while (b) {
		struct block *next = b->next;

		VERIFY(b->rest, size - sizeof *b, b->tag);
		free(b);
		b = next;
	}
}

int main(int argc, char **argv)
{
	size_t size = t_long(argv, "size", 1000), limit = MIB(t_long(argv, "limit", 256));
	size_t least = limit / 100 * t_long(argv, "least", 60), first = 0;

	(void)argc;
	for (int round = 0; round < 2; round++) {
		struct block *all = NULL;
		size_t taken = take_all(size, &all);

		/* Exhausted: a small request may fail, a freed block serves the next one. */
		if (all) {
			struct block *next = all->next;

			free(all);
			CHECK((all = malloc(size)) != NULL);
			all->next = next;
			all->tag = 1;
			t_fill(all->rest, size - sizeof *all, 1);
		}
		free_all(size, all);
		if (taken < least)
			FAIL("blocks of %zu: only %zu of %zu MiB, round %d", size, taken >> 20, limit >> 20, round);
		if (round == 0)
			first = taken;
		else if (taken < first - first / 10)
			FAIL("blocks of %zu: %zu MiB first, then %zu", size, first >> 20, taken >> 20);
	}
	/* What small blocks held serves large ones. */
	char *large = malloc(least / 2);
	CHECK(large);
	memset(large, 1, least / 2);
	free(large);
	printf("%zu MiB of %zu\n", first >> 20, limit >> 20);
	return 0;
}
