/* A server with a process for each connection: a parent with one thread and a large heap with holes, and children that
 * serve requests out of pools of their own, end after some, or are killed in the middle of one, and are replaced. What
 * the parent has stays shared: a child copies little of it, and the parent does not grow. `children=N` in all. (glibc
 * fails it: a child's first calls sort what is free in the parent's heap.) */
#include "t.h"
#include <signal.h>
#include <sys/wait.h>

enum { WORKERS = 6, BLOCKS = 150000, REQUESTS = 60, POOL = 120 };

static char *block[BLOCKS];

static size_t size_of(size_t i)
{
	return 40 + i * 7919 % 900;
}

/* Of `line`, in smaps_rollup, in bytes. */
static size_t rollup(const char *line)
{
	static char text[8192];
	int fd = open("/proc/self/smaps_rollup", O_RDONLY);
	char *at;

	if (fd < 0)
		return 0;
	CHECK(read(fd, text, sizeof text - 1) > 0);
	close(fd);
	CHECK((at = strstr(text, line)) != NULL);
	return strtoul(at + strlen(line), NULL, 10) << 10;
}

static void request(uint64_t *seed)
{
	char *pool[POOL];
	size_t size[POOL];

	for (int i = 0; i < POOL; i++) {
		size[i] = i % 8 ? KIB(8) : t_size(seed, KIB(100));
		CHECK((pool[i] = malloc(size[i])) != NULL);
		t_fill(pool[i], size[i], i);
	}
	for (int i = 0; i < 200; i++) {
		size_t which = t_next(seed) % BLOCKS;

		if (block[which])
			VERIFY(block[which], size_of(which), which);
	}
	for (int i = 0; i < POOL; i++) {
		VERIFY(pool[i], size[i], i);
		free(pool[i]);
	}
}

static void serve(long number)
{
	uint64_t seed = number;
	size_t before = rollup("Private_Dirty:"), own;

	for (int i = 0; i < REQUESTS; i++) {
		if (number % 7 == 0 && i == REQUESTS / 2)
			kill(getpid(), SIGKILL);
		request(&seed);
		if (i % 20 == 19)
			malloc_trim(0);
	}
	/* Of some 70 MiB. A request takes 2, and what is not shared any more of tables and caches comes to it. */
	if ((own = rollup("Private_Dirty:")) > before + MIB(12))
		FAIL("a child has %zu KiB of its own, after %zu", own >> 10, before >> 10);
	if (number % 2)
		exit(0);
	_exit(0);
}

static void start(long number)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		alarm(120);
		serve(number);
	}
}

int main(int argc, char **argv)
{
	long children = t_long(argv, "children", 120);
	size_t before = 0;

	(void)argc;
	for (size_t i = 0; i < BLOCKS; i++) {
		CHECK((block[i] = malloc(size_of(i))) != NULL);
		t_fill(block[i], size_of(i), i);
	}
	for (size_t i = 0; i < BLOCKS; i += 1 + i % 4) {
		free(block[i]);
		block[i] = NULL;
	}
	for (long number = 1; number <= children; number++) {
		int status;

		start(number);
		if (number <= WORKERS)
			continue;
		if (number == 2 * WORKERS)
			malloc_trim(0), before = t_rss();
		CHECK(wait(&status) > 0);
		if (status && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
			FAIL("a child ended with status %#x", status);
		/* The configuration is read again. */
		free(block[number]);
		CHECK((block[number] = malloc(size_of(number))) != NULL);
		t_fill(block[number], size_of(number), number);
	}
	for (int i = 0; i < WORKERS; i++)
		CHECK(wait(NULL) > 0);
	size_t now = t_trimmed_rss(before + MIB(2));
	if (now > before + MIB(2))
		FAIL("the parent grew from %zu to %zu KiB", before >> 10, now >> 10);
	return 0;
}
