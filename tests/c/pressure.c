/* Programs that share a memory control group.
 *
 * lowered: the limit of the group comes down to little more than what it has, most of which the program keeps free.
 * sparse: a block larger than the group, of which little is touched, and a reallocation of it.
 * filtered: memory goes back under a filter that kills who opens a file; who started before it did.
 * phases: a third to two thirds of the group in one size after the other, each freed before the next; `threads=1`: beside
 *   another thread.
 * workers: eight forked processes take turns in using most of the group. Each keeps what it freed, and
 *   sleeps; only if the sleepers give it back has the next one room. The kernel kills a process if not.
 */
#include "filter.h"
#include <semaphore.h>
#include <signal.h>
#include <sys/prctl.h>

enum { WORKERS = 8, STEPS = 64 };

static size_t live_bytes;

/* Shared by the workers. */
static struct {
	sem_t turn;
	int nr_done;
} *all;

static void sparse(void)
{
	size_t size = GIB(2);
	char *block = malloc(size);

	CHECK(block);
	for (size_t at = 0; at < size; at += MIB(64))
		block[at] = 1;
	block = realloc(block, size + GIB(1));
	CHECK(block);
	for (size_t at = 0; at < size; at += MIB(64))
		CHECK(block[at] == 1);
	block[size + MIB(900)] = 1;
	free(block);
}

static void *sleeper(void *unused)
{
	pause();
	return unused;
}

/* Takes `live_bytes` step by step, in about a second, and frees it. */
static void use(uint64_t *seed)
{
	size_t nr = live_bytes / KIB(8), done = 0;
	void **blocks = calloc(nr, sizeof *blocks);

	CHECK(blocks);
	for (size_t i = 0; i < nr; i++) {
		size_t size = KIB(1) + t_next(seed) % KIB(14);

		CHECK(blocks[i] = malloc(size));
		memset(blocks[i], 1, size);
		if ((done += size) > live_bytes / STEPS) {
			done = 0;
			usleep(700000 / STEPS);
		}
	}
	for (size_t i = 0; i < nr; i++)
		free(blocks[i]);
	free(blocks);
}

static void worker(uint64_t seed)
{
	pthread_t thread;

	/* When one has failed, the others would wait for it. */
	CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
	/* zonal's background thread exists only beside other threads. */
	CHECK(pthread_create(&thread, NULL, sleeper, NULL) == 0);
	while (sem_wait(&all->turn))
		CHECK(errno == EINTR);
	use(&seed);
	sem_post(&all->turn);
	__atomic_add_fetch(&all->nr_done, 1, __ATOMIC_RELAXED);
	while (__atomic_load_n(&all->nr_done, __ATOMIC_RELAXED) < WORKERS)
		usleep(10000);
	_exit(0);
}

static void filtered(void)
{
	enum { NR = 20000 };
	static void *blocks[NR];
	pthread_t thread;

	free(malloc(100));
	filter_install("KILL:openat,open");
	CHECK(pthread_create(&thread, NULL, sleeper, NULL) == 0);
	for (int round = 0; round < 6; round++) {
		for (int i = 0; i < NR; i++)
			CHECK(blocks[i] = malloc(1000));
		for (int i = 0; i < NR; i++)
			free(blocks[i]);
		usleep(250000);
	}
}

/* At no moment more than the group has, but all that was freed together is many times that. */
static void phases(int has_thread)
{
	static const size_t sizes[] = { 64, MIB(5), 200, 40000, 1000, MIB(1), 30000, MIB(9), 48, 300000 };
	static char *blocks[MIB(2)];
	pthread_t thread;

	/* Beside the blocks the program takes nothing more: nobody could see that in time. */
	memset(blocks, 1, sizeof blocks);
	if (has_thread)
		CHECK(pthread_create(&thread, NULL, sleeper, NULL) == 0);
	for (int round = 0; round < 20; round++) {
		size_t size = sizes[round % 10], nr = live_bytes / size;

		CHECK(nr <= MIB(2));
		for (size_t i = 0; i < nr; i++) {
			CHECK(blocks[i] = malloc(size));
			memset(blocks[i], 1, size);
		}
		for (size_t i = 0; i < nr; i++)
			free(blocks[i]);
	}
}

/* A number in a file of the group, whose name differs between v1 and v2. */
static int open_file(const char *group, const char *v1, const char *v2, int flags)
{
	char path[512];
	int fd;

	snprintf(path, sizeof path, "%s/%s", group, v1);
	fd = open(path, flags);
	if (fd < 0) {
		snprintf(path, sizeof path, "%s/%s", group, v2);
		fd = open(path, flags);
	}
	CHECK(fd >= 0);
	return fd;
}

/* Sets the group's limit to what it has and this much more. */
static void leave(const char *group, size_t bytes)
{
	char text[64] = "";
	int fd = open_file(group, "memory.usage_in_bytes", "memory.current", O_RDONLY);

	CHECK(read(fd, text, sizeof text - 1) > 0);
	close(fd);
	snprintf(text, sizeof text, "%zu", strtoul(text, NULL, 10) + bytes);
	fd = open_file(group, "memory.limit_in_bytes", "memory.max", O_WRONLY);
	CHECK(write(fd, text, strlen(text)) > 0);
	close(fd);
}

static void lowered(const char *group, long seconds)
{
	pthread_t thread;
	uint64_t seed = 1;
	size_t before;

	CHECK(pthread_create(&thread, NULL, sleeper, NULL) == 0);
	use(&seed);
	before = t_rss();
	CHECK(before > live_bytes / 2);
	leave(group, MIB(8));
	/* The program goes on with next to nothing. */
	for (long turn = 0; turn < seconds * 100; turn++) {
		char *block = malloc(100000);

		CHECK(block);
		memset(block, 1, 100000);
		free(block);
		if (t_rss() < before - MIB(8))
			return;
		usleep(10000);
	}
	FAIL("%zu MiB are kept in a group that has 8 MiB left", t_rss() >> 20);
}

static void workers(void)
{
	all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(all != MAP_FAILED && sem_init(&all->turn, 1, 2) == 0);
	for (int i = 0; i < WORKERS; i++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (pid == 0)
			worker(1 + i);
	}
	for (int i = 0; i < WORKERS; i++) {
		int status;

		CHECK(wait(&status) > 0);
		if (status)
			FAIL("a worker ended with status %#x", status);
	}
}

int main(int argc, char **argv)
{
	CHECK(argc > 1);
	live_bytes = MIB(t_long(argv, "mib", 64));
	if (!strcmp(argv[1], "sparse"))
		sparse();
	else if (!strcmp(argv[1], "filtered"))
		filtered();
	else if (!strcmp(argv[1], "phases"))
		phases(t_long(argv, "threads", 0));
	else if (!strcmp(argv[1], "workers"))
		workers();
	else if (!strcmp(argv[1], "lowered"))
		lowered(t_arg(argv, "group", ""), t_long(argv, "seconds", 100));
	else
		FAIL("no load %s", argv[1]);
	return 0;
}
