/* Alignment: every power of two up to 1 GiB by every aligned function, and the answers to bad ones. */
#include "t.h"

static void aligned(void *p, size_t align, size_t size, const char *what)
{
	HIDE(p);
	if (!p || (uintptr_t)p % align)
		FAIL("%s(%zu, %zu) = %p", what, align, size, p);
	if (malloc_usable_size(p) < size)
		FAIL("%s(%zu, %zu): usable size %zu", what, align, size, malloc_usable_size(p));
}

/* Several blocks live at once, filled, checked and freed in another order. */
static void powers_of_two(size_t align, size_t size)
{
	enum { N = 6 };
	char *block[N];
	int n = align >= MIB(64) ? 2 : N;

	for (int i = 0; i < n; i++) {
		void *p = NULL;

		switch (i % 3) {
		case 0:
			p = memalign(align, size);
			aligned(p, align, size, "memalign");
			break;
		case 1:
			p = aligned_alloc(align, size);
			aligned(p, align, size, "aligned_alloc");
			break;
		default:
			CHECK(posix_memalign(&p, align < 8 ? 8 : align, size) == 0);
			aligned(p, align, size, "posix_memalign");
		}
		block[i] = p;
		t_fill(p, size, align + i);
	}
	for (int i = 0; i < n; i++) {
		int k = (i + 1) % n;

		VERIFY(block[k], size, align + k);
		if (k == 0) {
			/* realloc keeps the contents; it need not keep the alignment. */
			block[k] = realloc(block[k], size * 2 + 1);
			CHECK(block[k]);
			VERIFY(block[k], size & ~(size_t)7, align + k);
		}
		free(block[k]);
	}
}

static void bad_alignments(void)
{
	static const size_t wrong[] = { 3, 5, 6, 7, 9, 12, 24, 48, 100, 4095, 4097, SIZE_MAX, ((size_t)1 << 40) + 8 };
	void *out = &out;

	errno = 0;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		size_t align = wrong[i];

		HIDE(align);
		CHECK(posix_memalign(&out, align, 100) == EINVAL && out == &out && errno == 0);
	}
	/* posix_memalign wants a power of two that is a multiple of a pointer's size. */
	for (size_t align = 0; align < sizeof(void *); align = align ? align * 2 : 1)
		CHECK(posix_memalign(&out, align, 100) == EINVAL && out == &out && errno == 0);
}

/* glibc rounds a bad alignment up in memalign; the C standard and zonal answer EINVAL. */
static void bad_alignments_strict(void)
{
	static const size_t wrong[] = { 3, 5, 24, 100, 4097, SIZE_MAX };

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		size_t align = wrong[i];
		void *p;

		HIDE(align);
		errno = 0;
		p = memalign(align, 100);
		CHECK(p == NULL && errno == EINVAL);
		errno = 0;
		p = aligned_alloc(align, 100);
		CHECK(p == NULL && errno == EINVAL);
	}
}

int main(int argc, char **argv)
{
	size_t page = sysconf(_SC_PAGESIZE);
	void *p;

	(void)argc;
	for (size_t align = 1; align <= GIB(1); align *= 2) {
		static const size_t sizes[] = { 1, 8, 24, 100, 256, 1000, 4096, 5000, 40000, 300000 };

		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
			powers_of_two(align, sizes[i]);
		if (align <= MIB(4)) {
			powers_of_two(align, align);
			powers_of_two(align, align + 1);
		}
	}
	/* Many at once: the cells of a slab must all be aligned, not only the first. */
	for (size_t align = 16; align <= KIB(64); align *= 2) {
		void *many[200];

		for (int i = 0; i < 200; i++) {
			many[i] = memalign(align, align / 2 + i);
			aligned(many[i], align, align / 2 + i, "memalign");
			memset(many[i], i, align / 2 + i);
		}
		for (int i = 0; i < 200; i++) {
			CHECK(*(unsigned char *)many[i] == i);
			free(many[i]);
		}
	}
	for (size_t size = 1; size < MIB(2); size = size * 3 + 1) {
		p = valloc(size);
		aligned(p, page, size, "valloc");
		free(p);
		p = pvalloc(size);
		aligned(p, page, (size + page - 1) & -page, "pvalloc");
		free(p);
	}
	bad_alignments();
	if (t_long(argv, "zonal", 0))
		bad_alignments_strict();
	return 0;
}
