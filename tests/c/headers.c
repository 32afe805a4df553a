/* A preload in front of the allocator that puts a header before each block, as tools do that follow them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

static const uint64_t MARK = 0x7e57ab1e;
static void *(*next_malloc)(size_t);
static void (*next_free)(void *);
static void *(*next_realloc)(void *, size_t);
/* For calls that come while the next functions are looked up. */
static char early[1 << 16];
static size_t early_used;

static int is_early(void *object)
{
	return (char *)object >= early && (char *)object < early + sizeof early;
}

static void *start_of(void *object)
{
	uint64_t *mark = (uint64_t *)object - 2;

	if (*mark != MARK) {
		static const char text[] = "a block without its header\n";

		_exit(write(2, text, sizeof text - 1) > 0 ? 9 : 8);
	}
	return mark;
}

static void look(void)
{
	static int inside;

	if (next_malloc || inside)
		return;
	inside = 1;
	next_free = dlsym(RTLD_NEXT, "free");
	next_realloc = dlsym(RTLD_NEXT, "realloc");
	next_malloc = dlsym(RTLD_NEXT, "malloc");
	inside = 0;
}

void *malloc(size_t size)
{
	uint64_t *mark;

	look();
	if (!next_malloc) {
		early_used += (size + 31) & ~(size_t)15;
		return early_used > sizeof early ? NULL : early + sizeof early - early_used;
	}
	mark = next_malloc(size + 16);
	if (!mark)
		return NULL;
	*mark = MARK;
	return mark + 2;
}

void free(void *object)
{
	uint64_t *mark;

	if (!object || is_early(object))
		return;
	mark = start_of(object);
	*mark = 0;
	next_free(mark);
}

void *calloc(size_t count, size_t size)
{
	size_t bytes;
	void *object;

	if (__builtin_mul_overflow(count, size, &bytes) || !(object = malloc(bytes)))
		return NULL;
	return memset(object, 0, bytes);
}

void *realloc(void *object, size_t size)
{
	uint64_t *mark;

	if (!object || is_early(object))
		return malloc(size);
	mark = next_realloc(start_of(object), size + 16);
	return mark ? mark + 2 : NULL;
}
