/* Threads end and the main one rests: what they left goes back, without a call.
 *
 * `late`: it was used until long after anybody looked, and freed by so few calls that none of them does.
 * `again`: before, it was wanted again soon after it had gone, many times, so that it is kept for longer.
 * `few`: some large blocks, long after anybody looked, by a thread that stays.
 * `alone`: there never was another thread, and there is none now either.
 *
 * Exits with SLOW where much is left after three seconds: one is the rule, and more than six what it takes where
 * `again` has made the age long. */
#include "t.h"

enum { WORKERS = 4, BLOCKS = 3, ROUNDS = 12, SLOW = 3 };

static int is_freed;

static void *late(void *unused)
{
	char *block[BLOCKS];

	for (int i = 0; i < BLOCKS; i++) {
		CHECK((block[i] = malloc(MIB(4))) != NULL);
		memset(block[i], 1, MIB(4));
	}
	usleep(3000000);
	for (int i = 0; i < BLOCKS; i++)
		free(block[i]);
	return unused;
}

static void *few(void *unused)
{
	enum { FEW = 3, LARGE = MIB(70) };
	char *block[FEW];

	for (int i = 0; i < FEW; i++) {
		CHECK((block[i] = malloc(LARGE)) != NULL);
		memset(block[i], 1, LARGE);
	}
	/* Whoever looked after these has gone. */
	for (int i = 0; t_proc("/proc/self/status", "Threads:") > 2; i++) {
		CHECK(i < 600);
		usleep(100000);
	}
	for (int i = 0; i < FEW; i++)
		free(block[i]);
	__atomic_store_n(&is_freed, 1, __ATOMIC_RELEASE);
	for (;;)
		pause();
	return unused;
}

/* The main thread makes no call that could find what was left. */
static int main_of_few(void)
{
	pthread_t thread;
	size_t rss = 0;

	CHECK(!pthread_create(&thread, NULL, few, NULL));
	while (!__atomic_load_n(&is_freed, __ATOMIC_ACQUIRE))
		usleep(20000);
	for (int ms = 0; ms < 20000 && (rss = t_rss()) > MIB(24); ms += 20)
		usleep(20000);
	if (rss > MIB(24))
		FAIL("%zu KiB are left", rss >> 10);
	_exit(0);
}

static void *again(void *unused)
{
	static __thread char *block[4000];
	uint64_t seed = 1 + (uintptr_t)&seed;

	for (int round = 0; round < ROUNDS; round++) {
		size_t nr = 0;

		for (size_t bytes = 0; bytes < MIB(8); nr++) {
			size_t size = KIB(2) + t_next(&seed) % KIB(62);

			CHECK(nr < 4000 && (block[nr] = malloc(size)) != NULL);
			memset(block[nr], 1, size);
			bytes += size;
		}
		while (nr > 0)
			free(block[--nr]);
		/* The last one is no pause. */
		usleep(round < ROUNDS - 1 ? 20000 + 20000 * round : 0);
	}
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread[WORKERS];
	const char *how = argc > 1 ? argv[1] : "";
	void *(*work)(void *) = strcmp(how, "late") ? again : late;
	int is_alone = !strcmp(how, "alone");

	if (!strcmp(how, "few"))
		return main_of_few();

	for (int i = 0; i < WORKERS && !is_alone; i++)
		CHECK(!pthread_create(&thread[i], NULL, work, NULL));
	if (is_alone)
		again(NULL);
	for (int i = 0; i < WORKERS && !is_alone; i++)
		CHECK(!pthread_join(thread[i], NULL));
	size_t after = t_rss();
	int nr = 0;

	for (double until = t_now() + 3; t_now() < until && after > MIB(12);) {
		usleep(20000);
		after = t_rss();
		nr = t_proc("/proc/self/status", "Threads:");
		CHECK(!is_alone || nr == 1);
	}
	if (is_alone)
		return 0;
	CHECK(t_proc("/proc/self/status", "VmHWM:") > 16 << 10);
	if (after > MIB(12)) {
		fprintf(stderr, "%zu KiB are left with %d threads\n", after >> 10, nr);
		_exit(SLOW);
	}
	/* Nobody stays who has nothing to do. */
	for (int i = 0; t_proc("/proc/self/status", "Threads:") > 1; i++) {
		CHECK(i < 600);
		usleep(100000);
	}
	return 0;
}
