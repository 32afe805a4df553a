/* What malloc_trim and zonal_reclaim say went back is what the kernel had, and with a goal the rest stays. */
#include "t.h"
#include <dlfcn.h>

#define MOST ((size_t)300000)

static void *blocks[MOST];
static size_t (*reclaim)(size_t);

/* Resident bytes, counted page by page: statm may be off by what each processor has not added yet. */
static ptrdiff_t resident(void)
{
	static char text[4096];
	int fd = open("/proc/self/smaps_rollup", O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	const char *line;

	if (n <= 0)
		exit(77);
	close(fd);
	text[n] = 0;
	line = strstr(text, "Rss:");
	CHECK(line != NULL);
	return strtol(line + 4, NULL, 10) << 10;
}

static void leave(size_t bytes, size_t size, int touched)
{
	size_t n = bytes / size;

	CHECK(n <= MOST);
	for (size_t i = 0; i < n; i++) {
		CHECK((blocks[i] = malloc(size)) != NULL);
		for (size_t at = 0; touched && at < size; at += 1024)
			((volatile char *)blocks[i])[at] = 1;
	}
	for (size_t i = 0; i < n; i++)
		free(blocks[i]);
}

/* Bytes that went, which are those that it said, but for some of zonal's own and up to 100 pages of zeros that zonal
 * looked at, which the kernel has and does not count. */
static size_t told(size_t goal, size_t size, int touched)
{
	ptrdiff_t before = resident();
	size_t said = reclaim(goal);
	ptrdiff_t went = before - resident(), differ = went - (ptrdiff_t)said;

	if (differ < -(ptrdiff_t)MIB(1) || differ > (ptrdiff_t)MIB(1))
		FAIL("%s blocks of %zu bytes: said %zu KiB, %td KiB went", touched ? "touched" : "untouched", size,
		     said >> 10, went >> 10);
	return said;
}

int main(void)
{
	static const size_t sizes[] = { 400, 20000, KIB(64), MIB(1), MIB(8) };

	*(void **)&reclaim = dlsym(RTLD_DEFAULT, "zonal_reclaim");
	if (!reclaim)
		return 77;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		for (int touched = 0; touched < 2; touched++) {
			leave(MIB(100), sizes[i], touched);
			size_t said = told(SIZE_MAX, sizes[i], touched);

			if (touched ? said < MIB(90) : said > MIB(1))
				FAIL("%zu bytes: said %zu KiB", sizes[i], said >> 10);
		}
		leave(MIB(100), sizes[i], 0);
		reclaim(SIZE_MAX);
		CHECK(malloc_trim(0) == 0);
		/* A little, and the rest stays. */
		leave(MIB(100), sizes[i], 1);
		size_t said = told(MIB(1), sizes[i], 1);

		if (said < MIB(1) || said > MIB(5))
			FAIL("%zu bytes: said %zu KiB for a goal of 1 MiB", sizes[i], said >> 10);
		CHECK(told(SIZE_MAX, sizes[i], 1) > MIB(80));
	}
	return 0;
}
