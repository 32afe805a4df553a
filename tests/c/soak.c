/* All kinds of use at one time, for `seconds=N`: threads that come and go, blocks that change hands, forks, plugins,
 * limits that change. Between rounds everything is freed, and what the process holds then must not grow.
 * `plugin=PATH` is opened and closed. */
#include "t.h"
#include <dlfcn.h>
#include <sched.h>

enum { SHARED = 256, WORKERS = 4 };

static struct {
	pthread_mutex_t lock;
	void *block;
	size_t size;
	uint64_t tag;
} shared[SHARED];

static volatile int round_over;
static const char *plugin;
static int (*validate)(void);
static long handed, started, forked, opened;

/* Puts a block into the table or takes one out that another thread may have made. */
static void exchange(uint64_t *seed, void *block, size_t size, uint64_t tag)
{
	int k = t_next(seed) % SHARED;

	pthread_mutex_lock(&shared[k].lock);
	void *old = shared[k].block;
	size_t old_size = shared[k].size;
	uint64_t old_tag = shared[k].tag;
	shared[k].block = block;
	shared[k].size = size;
	shared[k].tag = tag;
	pthread_mutex_unlock(&shared[k].lock);
	if (old) {
		VERIFY(old, old_size, old_tag);
		free(old);
		__atomic_add_fetch(&handed, 1, __ATOMIC_RELAXED);
	}
}

static void step(uint64_t *seed)
{
	size_t size = t_size(seed, MIB(1));
	uint64_t tag = t_next(seed);
	void *p;

	switch (tag % 8) {
	case 0:
		p = calloc(1, size);
		CHECK(!p || t_is_zero(p, size));
		break;
	case 1:
		if (posix_memalign(&p, 256, size))
			p = NULL;
		break;
	case 2:
		if ((p = malloc(size / 3 + 1))) {
			void *q = realloc(p, size);

			if (!q)
				free(p);
			p = q;
		}
		break;
	default:
		p = malloc(size);
	}
	/* Only a limit of the round may refuse. */
	if (!p) {
		CHECK(errno == ENOMEM);
		return;
	}
	t_fill(p, size, tag);
	exchange(seed, p, size, tag);
}

static void *short_life(void *arg)
{
	uint64_t seed = (uintptr_t)arg | 1;

	for (int i = 0; i < 200; i++)
		step(&seed);
	return NULL;
}

/* A thread that starts others, and ends itself with the round. */
static void *worker(void *arg)
{
	uint64_t seed = (uintptr_t)arg * 2654435761u + 1;

	while (!round_over) {
		pthread_t thread;

		for (int i = 0; i < 300 && !round_over; i++)
			step(&seed);
		if (t_next(&seed) % 2 == 0 &&
		    pthread_create(&thread, NULL, short_life, (void *)(uintptr_t)t_next(&seed)) == 0) {
			__atomic_add_fetch(&started, 1, __ATOMIC_RELAXED);
			pthread_join(thread, NULL);
		}
	}
	return NULL;
}

static void fork_once(void)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		uint64_t seed = getpid();

		/* The other threads are gone; their locks on the table may be held. */
		for (int i = 0; i < 100; i++) {
			void *p = malloc(t_size(&seed, KIB(100)));

			CHECK(p);
			free(p);
		}
		_exit(validate && validate() != 0 ? 9 : 0);
	}
	CHECK(child > 0 && waitpid(child, &status, 0) == child);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		FAIL("a child ended with status %#x", status);
	forked++;
}

static void use_plugin(void)
{
	void *library = dlopen(plugin, RTLD_NOW);

	CHECK(library);
	CHECK(dlclose(library) == 0);
	opened++;
}

static void one_round(double seconds, int number)
{
	double until = t_now() + seconds;
	pthread_t thread[WORKERS];
	struct rlimit before, tight;

	round_over = 0;
	for (long i = 0; i < WORKERS; i++)
		CHECK(pthread_create(&thread[i], NULL, worker, (void *)(i + 1 + number * WORKERS)) == 0);
	CHECK(getrlimit(RLIMIT_DATA, &before) == 0);
	while (t_now() < until) {
		fork_once();
		if (plugin)
			use_plugin();
		/* Room for a little more than there is, then as before. */
		tight = before;
		tight.rlim_cur = t_rss() + MIB(64);
		if (number % 2 && tight.rlim_cur < tight.rlim_max)
			setrlimit(RLIMIT_DATA, &tight);
		usleep(20000);
		CHECK(setrlimit(RLIMIT_DATA, &before) == 0);
	}
	round_over = 1;
	for (int i = 0; i < WORKERS; i++)
		pthread_join(thread[i], NULL);
	for (int k = 0; k < SHARED; k++) {
		if (shared[k].block)
			VERIFY(shared[k].block, shared[k].size, shared[k].tag);
		free(shared[k].block);
		shared[k].block = NULL;
	}
}

int main(int argc, char **argv)
{
	double end = t_now() + t_long(argv, "seconds", 20), round = t_long(argv, "round_ms", 2000) * 1e-3;
	size_t first = 0, most = 0;
	int rounds = 0;

	(void)argc;
	plugin = t_arg(argv, "plugin", NULL);
	validate = (int (*)(void))dlsym(RTLD_DEFAULT, "zonal_validate");
	for (int k = 0; k < SHARED; k++)
		pthread_mutex_init(&shared[k].lock, NULL);
	while (t_now() < end) {
		one_round(round, rounds);
		malloc_trim(0);
		if (validate && validate() != 0)
			FAIL("after round %d: counters disagree", rounds);
		size_t rss = t_rss();

		/* The first rounds make what stays: heaps, tables, the loader's own. */
		if (rounds == 2)
			first = rss;
		if (rounds > 2 && rss > most)
			most = rss;
		rounds++;
	}
	printf("%d rounds: %ld blocks changed hands, %ld threads, %ld forks, %ld plugins; %zu KiB after the third, %zu at most\n",
	       rounds, handed, started, forked, opened, first >> 10, most >> 10);
	CHECK(handed > 1000 && started > 10 && forked > 10 && (opened > 10 || !plugin));
	if (rounds > 3 && most > first + first / 4 + MIB(2))
		FAIL("drift: %zu KiB after the third round, %zu later", first >> 10, most >> 10);
	return 0;
}
