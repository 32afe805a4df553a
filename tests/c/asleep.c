/* Threads that work for a moment and sleep for one, so that their bins are closed and emptied meanwhile, with signals
 * whose handlers allocate, and forks whose children go on with what they find. Each thread and each handler keeps
 * its own table of patterned blocks; threads also trade blocks, and so free what others allocated. `rounds=N`; `emptied=1`: and first one waits until
 * its bins have been emptied. */
#include "t.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

int zonal_stats_print(int, int) __attribute__((weak));

enum { THREADS = 4, OWN = 3000, HANDLER = 16, BURST = 4000 };

struct table {
	void *block[OWN];
	size_t size[OWN];
	uint64_t tag[OWN], seed;
	int n;
};

static __thread struct table in_handler;
static struct table traded = { .n = OWN };
static pthread_mutex_t trade_lock = PTHREAD_MUTEX_INITIALIZER;
static int running;

static void step(struct table *t, size_t max)
{
	int k = t_next(&t->seed) % t->n;

	if (t->block[k]) {
		VERIFY(t->block[k], t->size[k], t->tag[k]);
		free(t->block[k]);
		t->block[k] = NULL;
	} else {
		t->size[k] = 1 + t_next(&t->seed) % max;
		t->tag[k] = t_next(&t->seed);
		t->block[k] = t->tag[k] % 8 ? malloc(t->size[k]) : realloc(malloc(8), t->size[k]);
		CHECK(t->block[k]);
		t_fill(t->block[k], t->size[k], t->tag[k]);
	}
}

/* Not in a child, where nobody may be left to unlock. */
static void trade(struct table *t)
{
	pthread_mutex_lock(&trade_lock);
	for (int k = t_next(&t->seed) % 4; k < t->n; k += 4) {
		void *block = t->block[k];
		size_t size = t->size[k];
		uint64_t tag = t->tag[k];

		t->block[k] = traded.block[k], t->size[k] = traded.size[k], t->tag[k] = traded.tag[k];
		traded.block[k] = block, traded.size[k] = size, traded.tag[k] = tag;
	}
	pthread_mutex_unlock(&trade_lock);
}

static void clear(struct table *t)
{
	for (int k = 0; k < t->n; k++)
		if (t->block[k]) {
			VERIFY(t->block[k], t->size[k], t->tag[k]);
			free(t->block[k]);
			t->block[k] = NULL;
		}
}

static void on_signal(int number)
{
	int kept = errno;

	(void)number;
	if (in_handler.n == 0) {
		in_handler.n = HANDLER;
		in_handler.seed = 1 + (uintptr_t)&in_handler;
	}
	for (int i = 0; i < 3; i++)
		step(&in_handler, 500);
	errno = kept;
}

static void child(struct table *t)
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (pid == 0) {
		for (int i = 0; i < BURST; i++)
			step(t, 700);
		clear(t);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		CHECK(errno == EINTR);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Signals do not cut it short. */
static void pause_for(long ms)
{
	struct timespec left = { .tv_nsec = ms * 1000 * 1000 };

	while (nanosleep(&left, &left) != 0)
		CHECK(errno == EINTR);
}

static long nr_emptied(void)
{
	static char report[1 << 20];
	int fd = memfd_create("report", 0);
	char *at;

	CHECK(fd >= 0 && zonal_stats_print(fd, 1) == 0);
	CHECK(pread(fd, report, sizeof report - 1, 0) > 0);
	close(fd);
	at = strstr(report, "\"bins_emptied\":");
	CHECK(at);
	return strtol(strchr(at, ':') + 1, NULL, 10);
}

static void *sleep_until_emptied(void *is_emptied)
{
	static void *block[OWN];

	for (int i = 0; i < OWN; i++)
		CHECK(block[i] = malloc(3000));
	for (int i = 0; i < OWN; i++)
		free(block[i]);
	while (!__atomic_load_n((int *)is_emptied, __ATOMIC_RELAXED))
		pause_for(20);
	return NULL;
}

static void wait_until_emptied(void)
{
	int is_emptied = 0;
	pthread_t sleeper;

	pthread_create(&sleeper, NULL, sleep_until_emptied, &is_emptied);
	for (int i = 0; nr_emptied() == 0; i++) {
		CHECK(i < 3000);
		pause_for(20);
	}
	__atomic_store_n(&is_emptied, 1, __ATOMIC_RELAXED);
	pthread_join(sleeper, NULL);
}

static void *work(void *arg)
{
	static __thread struct table mine;
	long rounds = *(long *)arg;

	mine.n = OWN;
	mine.seed = 31 + (uintptr_t)&mine;
	for (long round = 0; round < rounds; round++) {
		int nr = t_next(&mine.seed) % 4 ? BURST : 3;

		for (int i = 0; i < nr; i++)
			step(&mine, 700);
		if (nr == BURST)
			trade(&mine);
		if (round % 4 == 1)
			clear(&mine);
		pause_for(t_next(&mine.seed) % 250);
		if (round % 8 == 3)
			child(&mine);
	}
	clear(&mine);
	__atomic_sub_fetch(&running, 1, __ATOMIC_RELAXED);
	return NULL;
}

int main(int argc, char **argv)
{
	long rounds = t_long(argv, "rounds", 24);
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	pthread_t threads[THREADS];

	(void)argc;

	if (t_long(argv, "emptied", 0))
		wait_until_emptied();
	sigaction(SIGUSR1, &action, NULL);
	running = THREADS;
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, work, &rounds);
	/* In bursts, between which threads count as asleep. */
	for (uint64_t seed = 5; __atomic_load_n(&running, __ATOMIC_RELAXED) > 0;) {
		pthread_kill(threads[t_next(&seed) % THREADS], SIGUSR1);
		usleep(t_next(&seed) % 40 ? 200 + t_next(&seed) % 3000 : 250 * 1000);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	clear(&traded);
	return 0;
}
