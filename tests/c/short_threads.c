/* Many short threads, a few at a time: each allocates, frees most, and hands one block to the main thread.
 * What stays resident after a trim must be the same after the first half and at the end. Untrimmed it is not: each
 * thread inherits what an earlier one cached, and chance touches a little more of that for a long time. `count=N` */
#include "t.h"

enum { AT_ONCE = 4, BLOCKS = 24 };

static void *brief(void *arg)
{
	uint64_t tag = (uintptr_t)arg * 64, seed = tag * 2654435761u + 1;
	void *block[BLOCKS];
	size_t size[BLOCKS];

	for (int i = 0; i < BLOCKS; i++) {
		size[i] = t_size(&seed, KIB(48));
		CHECK((block[i] = malloc(size[i])) != NULL);
		t_fill(block[i], size[i], tag + i);
	}
	for (int i = 0; i < BLOCKS; i++)
		VERIFY(block[i], size[i], tag + i);
	for (int i = 1; i < BLOCKS; i++)
		free(block[i]);
	*(uint64_t *)(block[0] = realloc(block[0], 64)) = (uintptr_t)arg;
	return block[0];
}

int main(int argc, char **argv)
{
	long count = t_long(argv, "count", 100000);
	size_t early = 0, now;

	(void)argc;
	for (long made = 0; made < count; made += AT_ONCE) {
		pthread_t thread[AT_ONCE];
		void *block[AT_ONCE];

		for (long i = 0; i < AT_ONCE; i++)
			CHECK(pthread_create(&thread[i], NULL, brief, (void *)(made + i + 1)) == 0);
		for (long i = 0; i < AT_ONCE; i++) {
			CHECK(pthread_join(thread[i], &block[i]) == 0);
			CHECK(*(uint64_t *)block[i] == (uint64_t)(made + i + 1));
		}
		for (int i = 0; i < AT_ONCE; i++)
			free(block[i]);
		if (made / AT_ONCE == count / AT_ONCE / 2)
			early = t_trimmed_rss(SIZE_MAX);
	}
	now = t_trimmed_rss(early + MIB(1));
	printf("resident %zu KiB half-way, %zu KiB at the end\n", early >> 10, now >> 10);
	CHECK(early > 0);
	if (now > early + MIB(1))
		FAIL("resident size grew from %zu to %zu KiB over %ld threads", early >> 10, now >> 10, count);
	return 0;
}
