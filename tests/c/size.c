/* Sizes: zero, small, large and impossible; usable size; errno left alone on success and set on failure. */
#include "t.h"

void *reallocarray(void *, size_t, size_t);
void cfree(void *) __attribute__((weak));
void free_sized(void *, size_t) __attribute__((weak));
void free_aligned_sized(void *, size_t, size_t) __attribute__((weak));

static void fails_with_enomem(void *p, const char *what)
{
	HIDE(p);
	if (p != NULL || errno != ENOMEM)
		FAIL("%s: %p, errno %d", what, p, errno);
	errno = 0;
}

static void impossible_sizes(void)
{
	static const size_t too_large[] = { SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 15, SIZE_MAX - 4095, SIZE_MAX - KIB(64),
		(size_t)PTRDIFF_MAX + 1, (size_t)PTRDIFF_MAX + 4096, PTRDIFF_MAX, (size_t)1 << 62, (size_t)1 << 56 };
	char *kept = malloc(100);

	CHECK(kept);
	t_fill(kept, 100, 7);
	errno = 0;
	for (size_t i = 0; i < sizeof too_large / sizeof *too_large; i++) {
		size_t n = too_large[i];

		HIDE(n);
		fails_with_enomem(malloc(n), "malloc");
		fails_with_enomem(calloc(n, 1), "calloc(n, 1)");
		fails_with_enomem(calloc(1, n), "calloc(1, n)");
		fails_with_enomem(calloc(n / 2 + 1, 2), "calloc(n / 2 + 1, 2)");
		fails_with_enomem(realloc(NULL, n), "realloc(NULL, n)");
		fails_with_enomem(realloc(kept, n), "realloc(kept, n)");
		fails_with_enomem(reallocarray(kept, n, 1), "reallocarray(kept, n, 1)");
		fails_with_enomem(reallocarray(kept, n / 2 + 1, 2), "reallocarray(kept, n / 2 + 1, 2)");
		fails_with_enomem(memalign(64, n), "memalign");
		fails_with_enomem(memalign(MIB(2), n), "memalign to 2 MiB");
		fails_with_enomem(aligned_alloc(64, n & ~(size_t)63), "aligned_alloc");
		fails_with_enomem(valloc(n), "valloc");
		fails_with_enomem(pvalloc(n), "pvalloc");
		void *out = kept;
		CHECK(posix_memalign(&out, 64, n) == ENOMEM && out == kept);
		errno = 0;
	}
	/* Products that wrap around to something small. */
	size_t half = (size_t)1 << 32;
	HIDE(half);
	fails_with_enomem(calloc(half, half), "calloc(2^32, 2^32)");
	fails_with_enomem(calloc(half + 1, half), "calloc(2^32 + 1, 2^32)");
	fails_with_enomem(reallocarray(NULL, half, half), "reallocarray(NULL, 2^32, 2^32)");
	fails_with_enomem(reallocarray(kept, half, half), "reallocarray(kept, 2^32, 2^32)");
	fails_with_enomem(calloc(SIZE_MAX / 3 + 1, 3), "calloc(max / 3 + 1, 3)");
	VERIFY(kept, 100, 7);
	free(kept);
}

static void zero_sizes(void)
{
	void *a = malloc(0), *b = malloc(0), *c = calloc(0, 8), *d = calloc(8, 0), *e = realloc(NULL, 0);
	void *f = memalign(64, 0), *g = NULL, *h = aligned_alloc(16, 0), *i = valloc(0);

	HIDE(a); HIDE(b); HIDE(c); HIDE(d); HIDE(e);
	CHECK(a && b && c && d && e && f && h && i && a != b && c != d);
	CHECK(posix_memalign(&g, 64, 0) == 0);
	void *all[] = { a, b, c, d, e, f, g, h, i };
	for (size_t k = 0; k < sizeof all / sizeof *all; k++)
		free(all[k]);
	/* As glibc: realloc to nothing frees. */
	a = malloc(100);
	HIDE(a);
	errno = 0;
	b = realloc(a, 0);
	CHECK(b == NULL && errno == 0);
	/* A page is the least that pvalloc gives. */
	a = pvalloc(1);
	CHECK(a && malloc_usable_size(a) >= (size_t)sysconf(_SC_PAGESIZE));
	free(a);
}

/* Every byte that usable_size promises belongs to the block, and neighbours do not overlap. */
static void usable(void)
{
	enum { N = 64 };
	void *block[N];
	size_t size, usable[N];

	CHECK(malloc_usable_size(NULL) == 0);
	for (size = 1; size <= MIB(4); size += 1 + size / 16) {
		int n = size > KIB(64) ? 4 : N;

		for (int i = 0; i < n; i++) {
			CHECK((block[i] = malloc(size)) != NULL);
			CHECK((uintptr_t)block[i] % (size <= 8 ? 8 : 16) == 0);
			usable[i] = malloc_usable_size(block[i]);
			CHECK(usable[i] >= size);
			t_fill(block[i], usable[i], size * 1000 + i);
		}
		for (int i = 0; i < n; i++) {
			VERIFY(block[i], usable[i], size * 1000 + i);
			CHECK(malloc_usable_size(block[i]) == usable[i]);
			free(block[i]);
		}
	}
}

static void errno_is_left_alone(void)
{
	uint64_t seed = 88172645463325252ull;
	void *block[256] = { 0 };

	for (int i = 0; i < 20000; i++) {
		size_t size = t_size(&seed, MIB(3));
		int k = t_next(&seed) % 256;

		errno = 4242;
		free(block[k]);
		CHECK(errno == 4242);
		block[k] = i % 3 ? malloc(size) : i % 2 ? calloc(size, 1) : memalign(256, size);
		CHECK(block[k] && errno == 4242);
		block[k] = realloc(block[k], size * 2);
		CHECK(block[k] && errno == 4242);
	}
	for (int k = 0; k < 256; k++)
		free(block[k]);
	free(NULL);
	CHECK(errno == 4242);
	/* A block large enough to be mapped and unmapped by itself. */
	char *big = malloc(MIB(100));
	CHECK(big && errno == 4242);
	memset(big, 1, MIB(100));
	free(big);
	CHECK(errno == 4242);
}

static void other_frees(void)
{
	if (cfree)
		cfree(malloc(10));
	if (free_sized) {
		free_sized(NULL, 0);
		for (size_t size = 1; size < MIB(2); size = size * 3 + 1)
			free_sized(malloc(size), size);
	}
	if (free_aligned_sized)
		for (size_t align = 16; align <= MIB(1); align *= 2)
			free_aligned_sized(aligned_alloc(align, align * 3), align, align * 3);
}

int main(int argc, char **argv)
{
	(void)argc;
	if (t_long(argv, "zonal", 0))
		CHECK(cfree && free_sized && free_aligned_sized);
	impossible_sizes();
	zero_sizes();
	usable();
	errno_is_left_alone();
	other_frees();
	return 0;
}
