/* realloc and reallocarray keep contents across every class, grow, shrink, and leave the block alone when they fail;
 * calloc is zero on memory that was dirty before. */
#include "t.h"

static void grow_and_shrink(void)
{
	uint64_t seed = 1234567;

	for (int round = 0; round < 300; round++) {
		size_t size = t_size(&seed, MIB(1)), tag = round;
		char *p = malloc(size);

		CHECK(p);
		t_fill(p, size, tag);
		for (int step = 0; step < 20; step++) {
			size_t new_size = step % 4 == 3 ? size / 2 + 1 : t_size(&seed, round % 50 ? MIB(1) : MIB(24));
			size_t same = new_size < size ? new_size : size;

			p = step % 2 ? realloc(p, new_size) : reallocarray(p, 1, new_size);
			CHECK(p && malloc_usable_size(p) >= new_size);
			ptrdiff_t at = t_differs(p, size, same, tag);
			if (at >= 0)
				FAIL("realloc from %zu to %zu: wrong at %td", size, new_size, at);
			size = new_size;
			t_fill(p, size, ++tag);
		}
		free(p);
	}
}

/* As a string builder does: one byte more each time, across the border to large and huge blocks. */
static void steadily(void)
{
	size_t size = 1;
	unsigned char *p = malloc(1);

	p[0] = 0;
	while (size < MIB(40)) {
		size_t new_size = size + 1 + size / 9;

		CHECK((p = realloc(p, new_size)) != NULL);
		for (size_t i = size; i < new_size; i++)
			p[i] = (unsigned char)(i * 7 >> 3);
		size = new_size;
		for (size_t i = 0; i < size; i += size > 100000 ? 997 : 1)
			CHECK(i == 0 || p[i] == (unsigned char)(i * 7 >> 3));
	}
	while (size > 1) {
		size = size * 2 / 3;
		CHECK((p = realloc(p, size)) != NULL);
		for (size_t i = 1; i < size; i += size > 100000 ? 997 : 1)
			CHECK(p[i] == (unsigned char)(i * 7 >> 3));
	}
	free(p);
}

/* A shrunk block gives its memory back or at least does not keep it all. */
static void shrinking_gives_back(void)
{
	enum { N = 16 };
	char *block[N];
	size_t before = t_rss();

	for (int i = 0; i < N; i++) {
		CHECK((block[i] = malloc(MIB(8))) != NULL);
		memset(block[i], 1, MIB(8));
		CHECK((block[i] = realloc(block[i], 5000)) != NULL);
	}
	if (t_rss() > before + MIB(64))
		FAIL("%d blocks shrunk from 8 MiB to 5000 B hold %zu MiB", N, (t_rss() - before) >> 20);
	for (int i = 0; i < N; i++)
		free(block[i]);
}

static void calloc_is_zero(void)
{
	uint64_t seed = 99;
	char *block[128] = { 0 };

	for (int i = 0; i < 20000; i++) {
		int k = t_next(&seed) % 128;
		size_t size = t_size(&seed, i % 100 ? KIB(200) : MIB(9));

		free(block[k]);
		block[k] = i % 2 ? calloc(1, size) : calloc((size + 6) / 7, 7);
		CHECK(block[k]);
		if (!t_is_zero(block[k], size))
			FAIL("calloc of %zu is not zero", size);
		/* Dirt up to the last usable byte for the next owner. */
		memset(block[k], 0xa5, malloc_usable_size(block[k]));
	}
	for (int k = 0; k < 128; k++)
		free(block[k]);
}

/* Dirt, trim, and zero again: pages known to be zero must really be. */
static void calloc_after_trim(void)
{
	enum { N = 400 };
	char *block[N];

	for (int round = 0; round < 6; round++) {
		size_t size = (size_t)1500 << (round * 2);
		int n = round > 3 ? 20 : N;

		for (int i = 0; i < n; i++) {
			CHECK((block[i] = malloc(size)) != NULL);
			memset(block[i], 0x5a, size);
		}
		for (int i = 0; i < n; i++)
			if (i % 3)
				free(block[i]);
		malloc_trim(0);
		for (int i = 0; i < n; i++)
			if (i % 3) {
				CHECK((block[i] = calloc(1, size)) != NULL);
				CHECK(t_is_zero(block[i], size));
			}
		for (int i = 0; i < n; i++) {
			CHECK(i % 3 || (block[i][0] == 0x5a && block[i][size - 1] == 0x5a));
			free(block[i]);
		}
	}
}

int main(void)
{
	grow_and_shrink();
	steadily();
	shrinking_gives_back();
	calloc_is_zero();
	calloc_after_trim();
	return 0;
}
