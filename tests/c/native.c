/* What zonal.h offers, as the first call of the process, and where it fails. */
#include "t.h"
#include <limits.h>

int zonal_profile_start(size_t) __attribute__((weak));
int zonal_profile_stop(void) __attribute__((weak));
int zonal_profile_dump(int) __attribute__((weak));
int zonal_stats_print(int, int) __attribute__((weak));
size_t zonal_reclaim(size_t) __attribute__((weak));
int zonal_validate(void) __attribute__((weak));
void *zonal_alloc_onnode(size_t, int) __attribute__((weak));
void *zonal_alloc_thisnode(size_t, int) __attribute__((weak));

static void fails(int answer, int expected, const char *what)
{
	if (answer != -1 || errno != expected)
		FAIL("%s: %d, errno %d", what, answer, errno);
	errno = 0;
}

/* Before anything was allocated. */
static void first(void)
{
	errno = 0;
	CHECK(zonal_validate() == 0 && zonal_reclaim(SIZE_MAX) == 0 && zonal_profile_stop() == 0 && errno == 0);
	fails(zonal_profile_dump(2), ENODATA, "dump without a profile");
	CHECK(zonal_profile_start(0) == 0 && errno == 0);
	free(malloc(MIB(3)));
	CHECK(zonal_profile_start(100) == 0 && zonal_profile_stop() == 0 && zonal_profile_stop() == 0 && errno == 0);
	fails(zonal_profile_dump(-1), EBADF, "dump to nowhere");
}

static void nodes(void)
{
	static const int wrong[] = { -1, 64, 77, INT_MAX, INT_MIN };

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		CHECK(!zonal_alloc_onnode(10, wrong[i]) && errno == EINVAL);
		errno = 0;
		CHECK(!zonal_alloc_thisnode(10, wrong[i]) && errno == EINVAL);
		errno = 0;
	}
	CHECK(!zonal_alloc_thisnode(SIZE_MAX, 0) && errno == ENOMEM);
	errno = 0;
	void *p = zonal_alloc_onnode(0, 0);
	CHECK(p && errno == 0);
	free(p);
}

static void reports(void)
{
	struct rlimit before, none;
	int sink = open("/dev/null", O_WRONLY);

	fails(zonal_stats_print(sink, 3), EINVAL, "a format that there is not");
	fails(zonal_stats_print(-1, 0), EBADF, "a report to nowhere");
	CHECK(zonal_stats_print(sink, 0) == 0 && errno == 0);
	/* No address space is left for the figures. */
	CHECK(getrlimit(RLIMIT_AS, &before) == 0);
	none = before;
	none.rlim_cur = 4096;
	CHECK(setrlimit(RLIMIT_AS, &none) == 0);
	errno = 0;
	fails(zonal_stats_print(sink, 1), ENOMEM, "a report without memory");
	CHECK(setrlimit(RLIMIT_AS, &before) == 0);
	CHECK(zonal_stats_print(sink, 1) == 0);
}

int main(void)
{
	CHECK(zonal_profile_start && zonal_stats_print && zonal_validate);
	first();
	nodes();
	reports();
	CHECK(zonal_validate() == 0);
	return 0;
}
