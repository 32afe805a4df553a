/* A faulty allocator on top of glibc's: proof that the tests notice. FAULT names the fault. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static int is(const char *name)
{
	const char *fault = getenv("FAULT");

	return fault && !strcmp(fault, name);
}

static unsigned calls;

/* Now and then a block that lives is handed out a second time. */
static void *twice(size_t size)
{
	static void *given[64];
	void *p;

	if (++calls % 1000 == 0 && size < 64 && (p = __atomic_load_n(&given[calls / 1000 % 64], __ATOMIC_RELAXED)))
		return p;
	p = __libc_malloc(size < 64 ? 64 : size);
	if (size < 64)
		given[calls % 64] = p;
	return p;
}

void *malloc(size_t size)
{
	if (is("twice"))
		return twice(size);
	if (is("short") && size > 1000)
		size -= 16;
	if (is("errno") && size > 5000)
		errno = EAGAIN;
	if (is("leak") && size < 200)
		__libc_malloc(size);
	return __libc_malloc(size);
}

void free(void *p)
{
	if (is("twice") || (is("keep") && ++calls % 8))
		return;
	if (is("errno-free"))
		errno = EINVAL;
	__libc_free(p);
}

void *calloc(size_t n, size_t size)
{
	void *p;

	if (is("overflow"))
		return __libc_calloc(1, n * size < (1 << 20) ? n * size : 8);
	if (is("dirty") && n * size > 3000 && ++calls % 100 == 0 && (p = __libc_malloc(n * size)))
		return memset(p, 1, n * size);
	return __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
	void *made = __libc_realloc(p, size);

	if (is("realloc") && made && size > 5000 && ++calls % 50 == 0)
		((char *)made)[4096] ^= 1;
	return made;
}

void *memalign(size_t align, size_t size)
{
	if (is("align") && align == 8192)
		return (char *)__libc_memalign(align, size + 4096) + 4096;
	return __libc_memalign(align, size);
}
