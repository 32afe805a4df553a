/* What every test program shares: CHECK, block patterns, a small random source, memory figures.
 *
 * A program exits 0 when all holds; a failed CHECK prints one line on stderr and exits 1.
 * Nothing here allocates, so that a program decides itself what reaches the allocator. */
#ifndef ZONAL_T_H
#define ZONAL_T_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Async-signal-safe and free of malloc: a broken heap must not hide the message. */
__attribute__((unused, noreturn, format(printf, 3, 4)))
static void t_fail(const char *file, int line, const char *form, ...)
{
	char text[512];
	int n = snprintf(text, sizeof text, "%s:%d: ", file, line);
	va_list ap;

	va_start(ap, form);
	n += vsnprintf(text + n, sizeof text - n - 1, form, ap);
	va_end(ap);
	if (n > (int)sizeof text - 2)
		n = sizeof text - 2;
	text[n++] = '\n';
	if (write(2, text, n) < 0) { /* stderr may be closed: the status tells */ }
	_exit(1);
}

#define FAIL(...) t_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(cond) do { if (!(cond)) FAIL("failed: %s (errno %d)", #cond, errno); } while (0)

/* The compiler knows malloc: it deletes calls whose result is unused and folds questions about it. */
#define HIDE(p) __asm__ volatile("" : "+r"(p) : : "memory")

#define KIB(n) ((size_t)(n) << 10)
#define MIB(n) ((size_t)(n) << 20)
#define GIB(n) ((size_t)(n) << 30)

static inline uint64_t t_next(uint64_t *seed)
{
	uint64_t x = *seed;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *seed = x;
}

/* A size as programs ask for it: mostly small, now and then large. */
__attribute__((unused)) static size_t t_size(uint64_t *seed, size_t max)
{
	unsigned bits = 4 + t_next(seed) % 18;
	size_t size = 1 + t_next(seed) % ((size_t)1 << bits);

	if (bits > 12 && t_next(seed) % 8)
		size = 1 + size % 512;
	return size > max ? 1 + size % max : size;
}

/* Takes and frees blocks until `stop`. */
__attribute__((unused)) static void t_churn(uint64_t seed, const int *stop)
{
	void *block[64] = { 0 };

	while (!__atomic_load_n(stop, __ATOMIC_RELAXED)) {
		int k = t_next(&seed) % 64;

		free(block[k]);
		CHECK((block[k] = malloc(t_size(&seed, KIB(100)))) != NULL);
	}
	for (int k = 0; k < 64; k++)
		free(block[k]);
}

/* Every word of a block says which block it is: a block handed out twice shows. */
static inline uint64_t t_word(uint64_t tag, size_t i)
{
	return (tag + i) * 0x9e3779b97f4a7c15ull;
}

__attribute__((unused)) static void t_fill(void *block, size_t size, uint64_t tag)
{
	uint64_t *words = (uint64_t *)block;
	unsigned char *bytes = (unsigned char *)block;
	size_t i, n = size / 8;

	for (i = 0; i < n; i++)
		words[i] = t_word(tag, i);
	for (i = n * 8; i < size; i++)
		bytes[i] = (unsigned char)t_word(tag, i);
}

/* Index of the first wrong byte or word, or -1. `filled` is the size at t_fill, `size` how much is compared. */
__attribute__((unused)) static ptrdiff_t t_differs(const void *block, size_t filled, size_t size, uint64_t tag)
{
	const uint64_t *words = (const uint64_t *)block;
	const unsigned char *bytes = (const unsigned char *)block;
	size_t i, n = filled / 8;

	for (i = 0; i < n && (i + 1) * 8 <= size; i++)
		if (words[i] != t_word(tag, i))
			return i * 8;
	for (i = n * 8; i < filled && i < size; i++)
		if (bytes[i] != (unsigned char)t_word(tag, i))
			return i;
	return -1;
}

#define VERIFY(block, size, tag) do { \
	ptrdiff_t t_at = t_differs(block, size, size, tag); \
	if (t_at >= 0) FAIL("block %p of %zu bytes: wrong content at %td", (void *)(block), (size_t)(size), t_at); \
} while (0)

__attribute__((unused)) static int t_is_zero(const void *block, size_t size)
{
	const unsigned char *b = (const unsigned char *)block;

	return size == 0 || (b[0] == 0 && memcmp(b, b + 1, size - 1) == 0);
}

/* The number behind `name` in a file of /proc, by raw reads: nothing is allocated, nor freed. */
__attribute__((unused)) static long t_proc(const char *file, const char *name)
{
	char text[8192] = "", *found;
	int fd = open(file, O_RDONLY);

	CHECK(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
	close(fd);
	CHECK((found = strstr(text, name)) != NULL);
	return atol(found + strlen(name));
}

/* Resident bytes of the process, from /proc, by raw reads. */
__attribute__((unused)) static size_t t_rss(void)
{
	char text[128] = "";
	unsigned long size, resident;
	int fd = open("/proc/self/statm", O_RDONLY);

	CHECK(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
	close(fd);
	CHECK(sscanf(text, "%lu %lu", &size, &resident) == 2);
	return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* The same after a trim: what is free may be resident or not, as the background thread came by, and that is no
 * growth. What that thread has in hand when it loses its processor a trim does not reach, so there are some turns
 * to get down to `wanted`. */
__attribute__((unused)) static size_t t_trimmed_rss(size_t wanted)
{
	size_t rss = 0;

	for (int turn = 0; turn < 400; turn++) {
		malloc_trim(0);
		rss = t_rss();
		if (rss <= wanted)
			break;
		usleep(50000);
	}
	return rss;
}

__attribute__((unused)) static double t_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec * 1e-9;
}

/* `program key=value ...`: the value, or the default. */
__attribute__((unused)) static const char *t_arg(char **argv, const char *key, const char *otherwise)
{
	size_t n = strlen(key);

	for (argv++; *argv; argv++)
		if (!strncmp(*argv, key, n) && (*argv)[n] == '=')
			return *argv + n + 1;
	return otherwise;
}

__attribute__((unused)) static long t_long(char **argv, const char *key, long otherwise)
{
	const char *value = t_arg(argv, key, NULL);

	return value ? strtol(value, NULL, 0) : otherwise;
}
#endif
