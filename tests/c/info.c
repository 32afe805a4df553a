/* The reports: mallinfo, mallinfo2, mallopt, malloc_info, malloc_trim, malloc_stats. */
#include "t.h"

/* The XML goes to stdout, where the harness parses it. */
static void info_xml(void)
{
	char *text = NULL;
	size_t size = 0;
	FILE *memory = open_memstream(&text, &size);

	CHECK(memory && malloc_info(0, memory) == 0);
	CHECK(fclose(memory) == 0 && size > 20);
	fwrite(text, 1, size, stdout);
	CHECK(fflush(stdout) == 0);
	free(text);
	errno = 0;
	CHECK(malloc_info(1, stdout) == EINVAL || errno == EINVAL);
}

int main(void)
{
	enum { N = 500 };
	char *block[N], *big;
	struct mallinfo2 before, with, after;
	struct mallinfo old;

	free(malloc(1));
	before = mallinfo2();
	for (int i = 0; i < N; i++) {
		CHECK((block[i] = malloc(1000)) != NULL);
		memset(block[i], 1, 1000);
	}
	CHECK((big = malloc(MIB(64))) != NULL);
	with = mallinfo2();
	old = mallinfo();
	/* Blocks may be cached with the thread and counted as used: what is live is a lower bound. */
	CHECK(with.uordblks + with.hblkhd >= MIB(64) + N * 1000);
	CHECK(with.uordblks + with.hblkhd <= before.uordblks + before.hblkhd + MIB(64) + N * 1000 + MIB(8));
	CHECK(with.arena + with.hblkhd >= with.uordblks);
	CHECK((size_t)old.uordblks == with.uordblks);
	free(big);
	for (int i = 0; i < N; i++)
		free(block[i]);
	after = mallinfo2();
	CHECK(after.uordblks + after.hblkhd <= with.uordblks + with.hblkhd - MIB(64));

	/* 1 is success for mallopt; an unknown parameter does no harm. */
	CHECK(mallopt(M_MMAP_THRESHOLD, KIB(256)) == 1);
	CHECK(mallopt(M_TRIM_THRESHOLD, MIB(1)) == 1);
	CHECK(mallopt(M_ARENA_MAX, 2) == 1);
	mallopt(-424242, 1);

	for (int i = 0; i < N; i++) {
		CHECK((block[i] = malloc(KIB(60))) != NULL);
		memset(block[i], 1, KIB(60));
	}
	size_t full = t_rss();
	for (int i = 0; i < N; i++)
		free(block[i]);
	malloc_trim(0);
	size_t trimmed = t_rss();
	if (trimmed > full - MIB(24))
		FAIL("malloc_trim left %zu KiB of %zu KiB", trimmed >> 10, full >> 10);
	CHECK(malloc_trim(0) == 0 || malloc_trim(0) == 0);
	malloc_trim(MIB(1));

	info_xml();
	malloc_stats();
	return 0;
}
